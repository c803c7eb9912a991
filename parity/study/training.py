"""Trainings of a study: `parity train` as a process of its own, and what they came to."""

import contextlib
import dataclasses
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError, one_line, shown
from jax_impl.models import registry
from jax_impl.models.geometry import summary
from parity.report import runs
from parity.report.runs import ACCURACIES, read_trainings
from parity.shell.earlier import CONFIG
from parity.shell.run_directory import CHECKPOINT, CHECKPOINTS, METRICS, WEIGHTS
from parity.study.child import child_line
from parity.study.description import Training

RUNS, LOGS = "runs", "logs"
TAIL = 4000
"""Bytes of a log that are looked at."""
KEPT = ("epoch", "loss", "seconds", *ACCURACIES)
"""Of a line of metrics.jsonl."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a training runs, and how it is asked for.

    Args:
        folder: of the study.
        data: the data set.
        data_dir: where it lies; None is the usual place.
        epochs: in place of the recipe's.
    """

    folder: Path
    data: str
    data_dir: Path | None = None
    epochs: int | None = None

    def run(self, training: Training) -> Path:
        """Its run directory."""
        return self.folder / RUNS / training.label

    def log(self, training: Training) -> Path:
        """What it said."""
        return self.folder / LOGS / f"{training.label}.log"


def command(trainings: Sequence[Training], place: Place) -> list[str]:
    """What does them, of seeds that follow each other, or goes on with one of them."""
    first, folder = trainings[0], place.run(trainings[0]).absolute()  # never an option's name
    if (folder / CONFIG).exists() and _saved(folder):
        return ["train", "--resume", str(folder)]
    given = ["train", *first.arguments(place.data, place.epochs)]
    if len(trainings) > 1:
        folder = folder.with_name(first.stem)
        given += ["--at-once", str(len(trainings))]
    given += ["--out", str(folder)]
    if place.data_dir is not None:
        given += ["--data-dir", str(place.data_dir)]
    return given


def begin(trainings: Sequence[Training], place: Place) -> subprocess.Popen[bytes]:
    """Starts them in a process of their own, which Ctrl-C does not reach.

    Raises:
        InputError: a run directory has weights, and does not say what they came to.
    """
    folders, log = [place.run(training) for training in trainings], place.log(trainings[0])
    log.parent.mkdir(exist_ok=True)
    for folder in folders:
        folder.parent.mkdir(exist_ok=True)
        if (folder / WEIGHTS).exists():
            raise InputError(f"{folder} has weights, and no {METRICS} that is whole: move it away")
        if not _saved(folder):  # a process that was killed before its first checkpoint leaves this
            shutil.rmtree(folder, ignore_errors=True)
    with open(log, "ab") as file:
        return subprocess.Popen(
            child_line(folders, "parity", *command(trainings, place)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def begun(training: Training, place: Place) -> bool:
    """Whether there is something of it that is to be kept."""
    return _saved(place.run(training)) or over(training, place)


def end(child: subprocess.Popen[bytes]) -> None:
    """Asks it to save and end."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)


def _saved(folder: Path) -> bool:
    found = [path.name for path in (folder / CHECKPOINTS).glob("*")]
    whole = any(name.isdecimal() and name.isascii() for name in found)
    return whole or (folder / CHECKPOINT).is_file()


def told(training: Training, place: Place) -> runs.Training | None:
    """The training as its run directory has it so far; None if that says nothing yet."""
    folder = place.run(training)
    if not (folder / METRICS).exists():
        return None
    try:
        return read_trainings([folder])[0][0]
    except InputError:
        return None


def over(training: Training, place: Place) -> bool:
    """Whether there is nothing left to do of it."""
    found = told(training, place)
    return found is not None and (found.over or found.stopped)


def result(training: Training, place: Place) -> dict[str, Any]:
    """What it came to, as study.json has it; accuracies in [0, 1].

    Raises:
        InputError: its run directory does not say it.
    """
    found = read_trainings([place.run(training)])[0][0]
    spec = registry.parse(training.model)
    size = summary(spec, None)
    accuracies = found.accuracies
    environment = ("device", "cpu", "cores", "commit", "python", "packages")
    return {
        **training.as_json(),
        "data": place.data,
        "command": " ".join(["parity train", *training.arguments(place.data, place.epochs)]),
        "epochs": found.epochs,
        "stopped": found.stopped,
        "at_once": len(found.config.get("trained_at_once", [training.seed])),
        "rows": [{k: v for k, v in row.items() if k in KEPT} for row in found.rows],
        "held_out": found.held_out,
        "held_out_accuracy": accuracies[-1] if accuracies else None,
        "test_accuracy": found.test_accuracy,
        "seconds": found.seconds,
        "parameters": size.parameters,
        "flops": size.flops,
        "field": [m.field for m in size.modules if m.stride is not None][-1][0],
        **{name: found.config.get(name) for name in environment},
    }


def clear(training: Training, place: Place) -> None:
    """Removes the checkpoints of one that is over; its weights and its curves stay."""
    folder = place.run(training)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def reason(training: Training, place: Place, status: int) -> str:
    """Why a process ended with such a status, in one line."""
    log = place.log(training)
    if status < 0:
        return f"ended by {signal.Signals(-status).name}; see {log}"
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError as error:
        return f"exit status {status}; cannot read {log}: {one_line(error, 120)}"
    said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
    return f"exit status {status}: {shown(said[-1].removeprefix('error: '), 300)}"
