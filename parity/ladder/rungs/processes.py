"""Training by several processes: DistributedDataParallel beside JAX's distributed runtime.

On CPUs, over loopback, in float64, from the same weights and batches, of which the processes have
shares that are not of one size. With statistics of the whole batch and with those of each share.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax_impl.data.archive import Split
from jax_impl.errors import InputError, shown
from parity.ladder.result import Comparison, Result, result
from parity.ladder.rounding import moved_arrays
from parity.ladder.rungs.second_runs import Parts, compare, losses_of
from parity.ladder.rungs.trajectory import SECOND_RUNS
from parity.ladder.workers.task import FOUND, GIVEN, WEIGHT, Task, free_port, weights_in
from parity.pairs.pair import ModelPair, Tensors
from parity.pairs.weights import to_arrays

STEPS = 8
SHARE = 12
"""Images of a batch that each process has; the first one has one more."""
JAX, TORCH = "jax_worker", "torch_worker"


class Trained(NamedTuple):
    """What a training came to: the first process's weights, and the loss of every batch."""

    weights: Tensors
    losses: np.ndarray


def run(pair: ModelPair, split: Split, seed: int, count: int) -> Iterator[Result]:
    """A result for each kind of statistics that the model has.

    Where the frameworks are further apart than the plain bar, second trainings of both from weights
    moved by one rounding say how much training amplifies, as in the trajectory.

    Raises:
        InputError: the processes of a framework did not train.
    """
    weights = {
        name: value.astype(np.float64) if value.dtype == np.float32 else value
        for name, value in to_arrays(pair.model.init(seed), pair.model).items()
    }
    normed = any(name.endswith("running_mean") for name in weights)
    for kind in ("global", "local") if normed else ("global",):
        with tempfile.TemporaryDirectory() as folder:
            task = Task(pair.name, count, SHARE * count + 1, kind, folder)
            ours, theirs = (trained(task, split, weights, seed, side) for side in (JAX, TORCH))
            again: list[tuple[Trained, Trained]] = []
            compared = compare_training(task, ours, theirs)
            for second in range(1, SECOND_RUNS + 1):
                if compared.passed:
                    break
                moved = moved_arrays(weights, np.random.default_rng(second))
                one, other = (trained(task, split, moved, seed, side) for side in (JAX, TORCH))
                again.append((one, other))
                compared = compare_training(task, ours, theirs, again)
        yield result(pair.name, "processes", "float64", compared)


def compare_training(
    task: Task, ours: Trained, theirs: Trained, again: Sequence[tuple[Trained, Trained]] = ()
) -> Comparison:
    """The losses and weights; `again` are second trainings of the two."""
    kind = "of the whole batch" if task.batch_norm == "global" else "of each share"
    unit = f"relative difference of a training by {task.count} processes, statistics {kind}"
    return compare(unit, _parts(ours), _parts(theirs), [(_parts(a), _parts(b)) for a, b in again])


def _parts(trained: Trained) -> Parts:
    return {**losses_of(trained.losses), **trained.weights}


def trained(task: Task, split: Split, weights: Tensors, seed: int, side: str) -> Trained:
    """A training by the processes of one framework, from these weights.

    Raises:
        InputError: one of them ended on its way.
    """
    rng = np.random.default_rng(seed)
    size = task.batch * STEPS - task.count  # the last batch is smaller
    order = rng.choice(len(split.labels), size)
    used, places = np.unique(order, return_inverse=True)
    held: dict[str, Any] = {WEIGHT + name: value for name, value in weights.items()}
    held |= {"images": split.images[used], "labels": split.labels[used], "order": places}
    np.savez(Path(task.folder, GIVEN), **held)
    told = json.dumps(dataclasses.asdict(task))
    module = f"parity.ladder.workers.{side}"
    line = [sys.executable, "-m", module, told, f"127.0.0.1:{free_port()}"]
    with contextlib.ExitStack() as stack:
        made = []
        for rank in range(task.count):
            printed = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(
                [*line, str(rank)],
                env=os.environ | _environment(),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            made.append((process, printed))
        for process, printed in made:
            if process.wait():
                raise InputError(f"{module} ended with {process.returncode}: {_last(printed)}")
    with np.load(Path(task.folder, FOUND.format(0))) as kept:
        return Trained(weights_in(kept), kept["losses"])


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    one = {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "true"}
    return one | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def _last(printed: Any) -> str:
    """The last line that says something."""
    printed.seek(0)
    lines = [line for line in printed.read().splitlines() if line.strip()]
    return shown(lines[-1] if lines else "without a word", 200)
