"""When a training is saved, and how Ctrl-C and SIGTERM end one. Imports no framework."""

import contextlib
import hashlib
import math
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jax_impl.errors import InputError
from parity.shell.files import to_json
from parity.shell.run_directory import RunDirectory

Progress = Any
"""Either framework's: where a training stands, its `step`, its `epoch`, and steps `done` of it."""


class Store(Protocol):
    """Where checkpoints are written, perhaps in the background."""

    def failure(self) -> str | None:
        """Why the last one that was ended could not be written, told once."""
        ...

    def wait(self) -> None:
        """Until nothing is being written."""
        ...


class Elsewhere:
    """The store of a process whose checkpoints another one writes."""

    def save(self, *told: Any) -> None:
        """Is the other one's to write."""

    def failure(self) -> None:
        """Is the other one's to tell."""

    def wait(self) -> None:
        """Nothing is written here."""

    close = wait


Save = Callable[[Any, float | None], None]
"""Of the progress, and the accuracy if it was just measured."""


TWICE = 1.0
"""Seconds within which a second request to stop is the first one."""


@contextlib.contextmanager
def stop_requests() -> Iterator[list[str]]:
    """Ctrl-C and SIGTERM inside are noted in the list that this gives; a later one interrupts.

    Where one is ignored, as Ctrl-C is in a job in the background, it stays so.
    """
    asked: list[str] = []
    first = 0.0

    def note(number: int, frame: Any) -> None:
        nonlocal first
        if not asked:
            first = time.monotonic()
            asked.append("by SIGTERM; " if number == signal.SIGTERM else "")
        elif time.monotonic() - first > TWICE:
            raise KeyboardInterrupt

    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                stack.callback(signal.signal, number, signal.signal(number, note))
        yield asked


class Stopped(KeyboardInterrupt):
    """A training that stopped as it was asked to, and says where.

    Args:
        where: it did, in words.
        commands: that go on with it, or with several that stopped together.
    """

    def __init__(self, where: str, commands: Sequence[str] = ()):
        super().__init__(f"{where}; go on by: {' && '.join(commands)}" if commands else where)
        self.where, self.commands = where, commands


def all_of(turns: Iterable[Callable[[], None]]) -> None:
    """Gives each of several trainings its turn, of which all stop where one is asked to.

    Raises:
        Stopped: some did; at the end, when each has had its turn.
    """
    stops: list[Stopped] = []
    for turn in turns:
        try:
            turn()
        except Stopped as stop:
            stops.append(stop)
    if stops:
        where = "; ".join(dict.fromkeys(stop.where for stop in stops))
        raise Stopped(where, [command for stop in stops for command in stop.commands])


@contextlib.contextmanager
def told_interrupts(directory: RunDirectory) -> Iterator[None]:
    """Any other interrupt inside says how to go on as well, if there is anything of a training."""
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt as stop:
        said = "; ".join(map(str, stop.args))
        if not (directory.rows or directory.resumed or directory.steps()):
            raise
        raise KeyboardInterrupt(f"{f'{said}; ' if said else ''}{way_on(directory)}") from None


def way_on(directory: RunDirectory) -> str:
    """What to do with a training that ended on its way."""
    steps = directory.steps()
    if not steps:
        return anew(directory.path)
    last = f" of step {max(steps):,}" if max(steps) else ""
    return f"go on from its last checkpoint{last} by: {resume_command(directory.path)}"


def anew(folder: Path) -> str:
    """What to do with a training of which nothing was saved."""
    return f"train anew by: parity train --config {quoted(folder)}"


def going_on(start: Progress, epochs: int) -> str:
    """Where a training of so many epochs goes on, in a line."""
    if start.epoch > epochs:
        return f"trained to its end, step {start.step:,}: it is tested and its weights are written"
    return f"going on at step {start.step:,}, in epoch {start.epoch}"


def resume_command(folder: Path) -> str:
    """What goes on with the training in a folder, as a shell takes it."""
    return f"parity train --resume {quoted(folder)}"


def quoted(path: Path) -> str:
    """A path as the value of an option, for a shell."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


class Saving:
    """Saves a training as often as is asked for, and before it stops.

    Args:
        store: of the checkpoints; None where none are wanted.
        save: writes one to it.
        every: epochs from one to the next.
        batches: of an epoch.
        epochs: of the training.
        folder: of the run, for the command that goes on with it.
        log: is told of a checkpoint that could not be written.
        start: steps taken at the checkpoint that is gone on from.

    `saved` is the steps taken at the last one.
    """

    def __init__(
        self,
        store: Store | None,
        save: Save,
        every: float,
        batches: int,
        epochs: int,
        folder: Path,
        log: Callable[[str], None],
        start: int = 0,
    ):
        self._store, self._save, self._log = store, save, log
        self._every = max(1, round(every * batches)) if store else math.inf
        self._batches, self._epochs, self._folder = batches, epochs, folder
        self.saved = start

    def after_steps(self, progress: Progress, asked: list[str]) -> None:
        """Saves within an epoch, if it is time; its end is `after_epoch`'s.

        Raises:
            Stopped: a stop was asked for, and what there is was saved.
        """
        self._tell()
        if progress.done == self._batches:
            return
        if asked:
            self._stop(progress, None, asked)
        if progress.step // self._every > self.saved // self._every:
            self._write(progress, None)

    def after_epoch(self, progress: Progress, accuracy: float, asked: list[str]) -> None:
        """Saves at the start of the next epoch, or the end, if it is time.

        Raises:
            Stopped: a stop was asked for before the end, and what there is was saved.
        """
        last = progress.epoch > self._epochs
        if asked and not last:
            self._stop(progress, accuracy, asked)
        if last or progress.step // self._every > self.saved // self._every:
            self._write(progress, accuracy)

    def end(self) -> None:
        """Waits for what is being written."""
        if self._store:
            self._store.wait()
        self._tell()

    def _write(self, progress: Progress, accuracy: float | None) -> None:
        if self._store:
            self._save(progress, accuracy)
            self.saved = progress.step

    def _stop(self, progress: Progress, accuracy: float | None, asked: list[str]) -> None:
        where = f"step {progress.step:,}"
        if self._store is None:
            raise Stopped(f"{asked[0]}at {where}; no checkpoint was asked for")
        self._write(progress, accuracy)
        self._store.wait()
        if problem := self._store.failure():
            raise Stopped(f"{asked[0]}at {where}; NOT saved: {problem}")
        raise Stopped(f"{asked[0]}saved at {where}", [resume_command(self._folder)])

    def _tell(self) -> None:
        if self._store and (problem := self._store.failure()):
            self._log(f"WARNING: a checkpoint was not written: {problem}; those before it stand")


def check_digest(own: str, progress: Mapping[str, Any]) -> None:
    """Raises InputError if what was noted with a checkpoint has another digest under "of"."""
    if progress.get("of") != own:
        raise InputError("it is of another training")


def digest(settings: Any) -> str:
    """What tells a training from others in its checkpoints: SHA-256 of its settings as JSON."""
    return hashlib.sha256(to_json(settings).encode()).hexdigest()
