"""Checkpoints from which a training goes on bit for bit: Orbax's, written in the background."""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import tree_util
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jax_impl.errors import InputError, listed, one_line, shown, silence_logs, silent_logs
from jax_impl.training import checkpoint
from jax_impl.training.checksums import checksum

STATE, PROGRESS = "state", "progress"
METRIC, SUM, SUMS = "accuracy", "sha256", "tensors"
DAMAGED = "damaged-"
"""Before the name of a checkpoint's folder that is of no use."""


class Checkpoints:
    """The checkpoints of one training in `folder`, a folder each, named by steps taken.

    A checkpoint appears complete or not at all. The last `keep` are kept, and the one with the
    largest metric. One that cannot be written leaves those before it, and is told by `failure`.
    """

    def __init__(self, folder: Path, keep: int):
        checkpoint.silence_closed_loops()
        self.folder = folder
        self._saving: Future[None] | None = None
        self._executor = ThreadPoolExecutor(1)
        self._failure: str | None = None
        latest = preservation_policy.LatestN(keep)
        best = preservation_policy.BestN(
            get_metric_fn=lambda metrics: metrics[METRIC],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics[METRIC],
            preservation_policy=preservation_policy.AnyPreservationPolicy([latest, best]),
            # Ours is the thread, for a failure of Orbax's own is told late or never.
            enable_async_checkpointing=False,
            create=jax.process_count() == 1,
            multiprocessing_options=checkpoint.by_itself(),
        )
        handlers = {
            STATE: checkpoint.handler(),
            PROGRESS: ocp.JsonCheckpointHandler(multiprocessing_options=checkpoint.by_itself()),
        }
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}") from error
        with silent_logs():
            self._manager = ocp.CheckpointManager(
                folder.resolve(), options=options, item_handlers=handlers
            )

    def save(
        self, step: int, state: Any, progress: Mapping[str, Any], metric: float | None = None
    ) -> None:
        """Copies `state`, a pytree of arrays, and writes it in the background.

        Args:
            step: taken so far.
            state: a pytree of arrays.
            progress: what else is to be known, as JSON has it.
            metric: by which checkpoints are compared; None is none.
        """
        self.wait()
        arrays = _by_name(jax.tree.map(np.array, state))
        self._saving = self._executor.submit(self._write, step, arrays, dict(progress), metric)

    def failure(self) -> str | None:
        """Why the last save that has ended could not be written, told once; else None."""
        if self._saving is not None and self._saving.done():
            self.wait()
        told, self._failure = self._failure, None
        return told

    def wait(self) -> None:
        """Until what is being saved is written, or has failed."""
        saving, self._saving = self._saving, None
        if saving is None:
            return
        try:
            saving.result()
        # Orbax's storage meets a full disk with errors of several types.
        except Exception as error:
            self._failure = checkpoint.problem_of(error)

    def close(self) -> None:
        """Waits, and ends the thread; nothing can be saved any more."""
        self.wait()
        self._executor.shutdown()
        with silent_logs():
            self._manager.close()

    def _write(
        self, step: int, arrays: dict[str, np.ndarray], progress: dict[str, Any], metric: Any
    ) -> None:
        sums = {name: checksum(array) for name, array in arrays.items()}
        whole = progress | {SUMS: sums}
        items: Any = {
            STATE: ocp.args.PyTreeSave(arrays),  # pyright: ignore[reportCallIssue]
            PROGRESS: ocp.args.JsonSave(whole | {SUM: _sum(whole)}),  # pyright: ignore
        }
        metrics = None if metric is None else {METRIC: metric}
        with silent_logs():
            try:
                made = ocp.args.Composite(**items)
                self._manager.save(step, args=made, metrics=metrics, force=True)
            except BaseException:
                silence_logs()
                _remove_parts(self.folder)
                raise


class Restored(NamedTuple):
    """Steps taken, the state, and what was saved beside it."""

    step: int
    state: Any
    progress: dict[str, Any]


def newest(
    folder: Path, like: Any, check: Callable[[dict[str, Any]], None], log: Callable[[str], None]
) -> Restored:
    """The newest whole checkpoint in `folder`; what is none gets another name.

    Args:
        folder: of `Checkpoints`.
        like: a state of the same structure, shapes and dtypes.
        check: raises InputError if a checkpoint's progress is not of this training.
        log: is told of every checkpoint that is passed over, and why.

    Raises:
        InputError: there is no whole checkpoint.
    """
    found, problems = None, []
    for step in sorted(_steps(folder), reverse=True):
        place = folder / str(step)
        try:
            restored = restore(place, like, step)
            check(restored.progress)
        except InputError as error:
            problems.append(f"{place} is of no use: {error}")
            log(f"{problems[-1]}; it is now {_put_aside(place).name}")
            continue
        found = found or restored
    if found is None:
        why = f" ({problems[0]})" if problems else ""
        raise InputError(f"{folder} holds no whole checkpoint{why}: nothing to go on from")
    return found


def _steps(folder: Path) -> list[int]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read {folder}: {one_line(error)}") from error
    return [int(name) for name in names if name.isdecimal() and name.isascii()]


def _put_aside(place: Path) -> Path:
    """Where it is then."""
    for number in range(1, 1000):
        new = place.with_name(f"{DAMAGED}{place.name}{f'-{number}' if number > 1 else ''}")
        if not new.exists():
            with contextlib.suppress(OSError):
                return place.rename(new)
            break
    return place


def restore(place: Path, like: Any, step: int) -> Restored:
    """What is in one folder of a checkpoint, of so many steps.

    Args:
        place: the folder.
        like: a state of the same structure, shapes and dtypes.
        step: that it must be of.

    Raises:
        InputError: it is damaged, or not of such a state.
    """
    try:
        progress = json.loads((place / PROGRESS / "metadata").read_bytes())
        told = progress.pop(SUM)
        sums, same = progress[SUMS], told == _sum(progress)
        for path in (place / "metrics").glob("metrics"):
            float(json.loads(path.read_bytes())[METRIC])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"what was noted beside it cannot be read ({one_line(error)})") from error
    if not same:
        raise InputError("the checksum of what was noted beside it is another")
    if progress.get("step") != step:
        raise InputError(f"it is one of {shown(str(progress.get('step')))} steps")
    arrays = checkpoint.arrays(place / STATE, {k: v.shape for k, v in _by_name(like).items()})
    for name, array in arrays.items():
        if sums.get(name) != checksum(array):
            raise InputError(f"the checksum of {shown(name)} is another")
    leaves, tree = jax.tree.flatten(like)
    names = list(_by_name(like))
    others = [
        name for name, leaf in zip(names, leaves, strict=True) if arrays[name].dtype != leaf.dtype
    ]
    if others:
        raise InputError(f"of another dtype are {listed(others)}")
    state = jax.tree.unflatten(tree, [jax.numpy.asarray(arrays[name]) for name in names])
    del progress[SUMS]
    return Restored(step, state, progress)


def _remove_parts(folder: Path) -> None:
    """Removes what a save has left that failed, into which Orbax's threads write for a while."""
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        for part in folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(part, ignore_errors=True)
        time.sleep(0.05)


def _sum(progress: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(progress, sort_keys=True).encode()).hexdigest()


def _by_name(tree: Any) -> dict[str, Any]:
    flat = tree_util.tree_flatten_with_path(tree)[0]
    return {_name(path): leaf for path, leaf in flat}


def _name(path: Any) -> str:
    return ".".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)
