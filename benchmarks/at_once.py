"""What several trainings in one compiled step cost and gain, in JAX, on this machine.

    python benchmarks/at_once.py

K trainings of the same net from as many seeds take their steps in one compiled call, as `parity
train --at-once K` does it, in blocks, in turns with single ones. It wants a quiet machine, and adds
larger K on a GPU. Writes at_once.json, after every round, and at_once.md beside this file.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from benchmarks.epoch_blocks import blocks
from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.model import from_spec
from jax_impl.training import optim
from jax_impl.training.epoch import CHUNK, make_train_epoch
from jax_impl.training.precision import set_precision
from jax_impl.training.state import create_state, stacked
from parity.shell import cli
from parity.shell.environment import describe
from parity.shell.files import to_json, write_whole
from parity.speed.statistics import estimate, ratio
from parity.speed.workloads import chosen_workloads

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 2_000
COUNTS = {"cpu": (1, 2, 4), "gpu": (1, 2, 4, 16, 64), "tpu": (1, 2, 4, 16)}


@dataclasses.dataclass(frozen=True)
class Options:
    """Times trainings at once against single ones."""

    workloads: tuple[str, ...] = ("simple_cnn@32", "resnet18@16")
    """MODEL@BATCH"""

    rounds: int = 6
    """blocks of each number of trainings"""

    steps: int = CHUNK
    """of a block; by default those of one compiled call of a training"""

    out: Path = ROOT / "benchmarks"
    """directory for at_once.json and at_once.md"""


def main(options: Options) -> None:
    """Measures, prints and writes."""
    if options.rounds < 1 or options.steps < 1:
        raise InputError("--rounds and --steps: give 1 or more")
    device = jax.devices()[0]
    workloads = chosen_workloads(options.workloads, gpu=device.platform == "gpu")
    options.out.mkdir(parents=True, exist_ok=True)
    set_precision("float32", device.platform)
    content = {
        "environment": describe("cuda" if device.platform == "gpu" else "cpu")
        | {"command": "python benchmarks/at_once.py", "jax device": device.device_kind},
        "samples": {},
    }
    for workload in workloads:
        counts = COUNTS[device.platform]
        timed = {count: trainer(workload, count) for count in counts}
        for block in timed.values():
            block(options.steps)  # compiles
        samples = content["samples"][str(workload)] = {str(count): [] for count in counts}
        for turn in range(options.rounds):
            for count in counts[:: 1 if turn % 2 else -1]:
                seconds = timed[count](options.steps)
                samples[str(count)].append(seconds / options.steps / count)
            write_whole(options.out / "at_once.json", (to_json(content, indent=2) + "\n").encode())
    text = to_markdown(content)
    write_whole(options.out / "at_once.md", text.encode())
    print(text)


def trainer(workload: Any, count: int) -> Callable[[int], float]:
    """Seconds of so many steps of so many trainings; 1 is the plain training."""
    model, optimizer = from_spec(registry.parse(workload.model)), optim.adam()
    states = [create_state(model.init(seed), optimizer) for seed in range(count)]
    seeds = 0 if count == 1 else range(count)
    epoch = make_train_epoch(model, optimizer, workload.batch_size, seed=seeds)
    rng = np.random.default_rng(0)

    def visit(steps: int) -> tuple[Any, ...]:
        order = rng.integers(0, IMAGES, (count, steps * workload.batch_size))
        return (order if count > 1 else order[0],)

    return blocks(epoch, states[0] if count == 1 else stacked(states), IMAGES, visit)


def to_markdown(content: dict[str, Any]) -> str:
    """A row for each number of trainings of each workload."""
    environment = content["environment"]
    lines = [
        "# Several trainings at once",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {environment['cores']} cores; JAX on {environment['jax device']}",
        "",
        "A step of each training, where K of them take theirs in one compiled call. Below 1 it is "
        "faster than one training after the other.",
        "",
        "| training | K | ms a step of each | times a single one | 95 % |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for workload, samples in content["samples"].items():
        for count, own in samples.items():
            step, times = estimate(own), ratio(own, samples["1"])
            lines.append(
                f"| `{workload}` | {count} | {1e3 * step.median:.2f} | {times.median:.2f} | "
                f"{times.low:.2f} to {times.high:.2f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
