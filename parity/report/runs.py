"""Trainings as their run directories tell them, whichever framework. Imports no framework."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError, one_line, shown
from jax_impl.models.registry import MOST
from parity.shell.earlier import CONFIG
from parity.shell.run_directory import METRICS

LARGEST = 100_000_000
"""Bytes of a file that are read."""
ACCURACIES = ("train_accuracy", "validation_accuracy", "test_accuracy")
NAME = 40
"""Letters of a run's name, at most."""


@dataclasses.dataclass(frozen=True)
class Training:
    """One run.

    Args:
        name: of its own among those that are read together, at most `NAME` letters and a number.
        path: its directory, as it was given.
        config: what config.json says; `model`, `framework` and `epochs` are as they must be.
        rows: the lines of metrics.jsonl: each with its `epoch`, and perhaps with `loss`, `seconds`
            and some of `ACCURACIES`, in [0, 1]. None stands for infinity and NaN.
    """

    name: str
    path: Path
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]

    @property
    def model(self) -> str:
        """As it was named."""
        return self.config["model"]

    @property
    def framework(self) -> str:
        """Either "jax" or "torch"."""
        return self.config["framework"]

    @property
    def epochs(self) -> int:
        """That were asked for."""
        return self.config["epochs"]

    @property
    def done(self) -> int:
        """Epochs that are over; one in which the loss was no number, and that ended there, is not.

        Such a line has no time, for it is not of a whole epoch.
        """
        whole = [row for row in self.rows if row.get("loss") is not None or "seconds" in row]
        return max((row["epoch"] for row in whole), default=0)

    @property
    def over(self) -> bool:
        """Whether the test images were evaluated on, which comes last, after all epochs."""
        return any("loss" not in row and "test_accuracy" in row for row in self.rows)

    @property
    def stopped(self) -> bool:
        """Whether it ended at a loss that is infinite or NaN."""
        last = next((row for row in reversed(self.rows) if "loss" in row), {"loss": 0.0})
        return last["loss"] is None and "seconds" not in last

    @property
    def losses(self) -> list[float | None]:
        """Of the epochs, in their order."""
        return [row["loss"] for row in self.rows if "loss" in row]

    @property
    def held_out(self) -> str:
        """The images of which the accuracy was measured after each epoch: validation or test."""
        validated = any("validation_accuracy" in row for row in self.rows)
        return "validation" if validated else "test"

    @property
    def accuracies(self) -> list[float]:
        """Of the images `held_out`, epoch by epoch, in [0, 1]; where nothing was measured none."""
        name = f"{self.held_out}_accuracy"
        told = {row["epoch"]: row[name] for row in self.rows if name in row}
        return [value for _, value in sorted(told.items()) if value is not None]

    @property
    def test_accuracy(self) -> float | None:
        """The last one of the test images, in [0, 1]."""
        found = [row["test_accuracy"] for row in self.rows if "test_accuracy" in row]
        return found[-1] if found else None

    @property
    def seconds(self) -> float | None:
        """Of all epochs together, without the evaluation after each."""
        found = [row["seconds"] for row in self.rows if row.get("seconds") is not None]
        return sum(found) if found else None


def read_trainings(paths: Sequence[Path]) -> tuple[list[Training], list[str]]:
    """The runs in some directories, in the order in which they are given.

    Args:
        paths: run directories of `parity train`; one that is given twice is read once.

    Returns:
        The runs, and a line for each path that names a run a second time.

    Raises:
        InputError: none is given, one is no run directory, or its files are damaged or say nothing;
            the message names the file and, of metrics.jsonl, the line.
    """
    if not paths:
        raise InputError("no run is given: name the run directories of `parity train`")
    first: dict[str, Path] = {}
    again = []
    for path in paths:
        place = os.path.realpath(path)
        if place in first:
            again.append(f"{_named(path)} is {_named(first[place])} again: taken once")
        else:
            first[place] = path
    found = [(path, _config(path), _rows(path)) for path in first.values()]
    names = short_names(unique_names(list(first.values())))
    made = [Training(name, *told) for name, told in zip(names, found, strict=True)]
    return made, again


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with so many more before it as tell it from the others."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    counts = [1] * len(parts)
    while True:
        names = ["/".join(p[-n:]).replace("//", "/") for p, n in zip(parts, counts, strict=True)]
        alike = [i for i, name in enumerate(names) if names.count(name) > 1]
        longer = [i for i in alike if counts[i] < len(parts[i])]
        if not longer:
            return names
        for i in longer:
            counts[i] += 1


def short_names(names: Sequence[str]) -> list[str]:
    """Names that print and are not long; a number tells apart those that are then alike."""
    found: list[str] = []
    for name in names:
        text = shown(name, MOST)
        half = (NAME - 3) // 2
        text = text if len(text) <= NAME else f"{text[:half]}...{text[-half:]}"
        number, made = 1, text
        while made in found:
            number += 1
            made = f"{text} ({number})"
        found.append(made)
    return found


def _named(path: Path) -> str:
    return shown(str(path), 200)


def _content(path: Path, name: str, instead: str) -> bytes:
    """Of a file in a run directory. Raises InputError if it is not there or too large."""
    file = path / name
    if not os.path.isdir(path):
        what = "no folder" if os.path.lexists(path) else "not there"
        raise InputError(f"{_named(path)} is {what}: give a run directory of `parity train`")
    if not os.path.lexists(file):
        raise InputError(f"{_named(path)} {instead}")
    try:
        with open(file, "rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {_named(file)}: {error.strerror}; leave it out") from error
    if len(content) > LARGEST:
        raise InputError(f"{_named(file)} has more than {LARGEST:,} bytes: is it a run's?")
    return content


def _json(text: bytes) -> Any:
    """As JSON has it: without NaN and infinity, which Python would take."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON; `parity train` writes null for it")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is too deep") from error


def _config(path: Path) -> dict[str, Any]:
    instead = f"has no {CONFIG}: give a run directory of `parity train`"
    content, file = _content(path, CONFIG, instead), path / CONFIG
    try:
        told = _json(content)
    except ValueError as error:
        raise InputError(
            f"{_named(file)} is damaged ({one_line(error, 120)}): restore it, or leave that run out"
        ) from error
    problems = []
    if not isinstance(told, dict):
        problems = ["it is no object"]
    else:
        if not (isinstance(told.get("model"), str) and told["model"]):
            problems.append("model")
        if told.get("framework") not in ("jax", "torch"):
            problems.append("framework")
        if not _is_count(told.get("epochs")):
            problems.append("epochs")
    if problems:
        raise InputError(
            f"{_named(file)} is no {CONFIG} of `parity train`: see {' and '.join(problems)}; leave "
            "that run out"
        )
    return told


def _rows(path: Path) -> tuple[dict[str, Any], ...]:
    instead = f"has no {METRICS}: its first epoch is not over; leave that run out until then"
    content, file = _content(path, METRICS, instead), path / METRICS
    rows = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(_row(_json(line)))
        except ValueError as error:
            raise InputError(
                f"{_named(file)}, line {number}: {one_line(error, 120)}: mend that line, or leave "
                "that run out"
            ) from error
    if not rows:
        raise InputError(
            f"{_named(file)} is empty: its first epoch is not over; leave that run out until then"
        )
    return tuple(rows)


def _row(told: Any) -> dict[str, Any]:
    """What is used of a line. Raises ValueError with what is wrong."""
    if not isinstance(told, dict):
        raise ValueError("it is no object")
    if not _is_count(told.get("epoch")):
        raise ValueError("epoch is no whole number from 1")
    row = {"epoch": told["epoch"]}
    for name in ("loss", "seconds", *ACCURACIES):
        if name not in told:
            continue
        value = _number(name, told[name])
        if name in ACCURACIES and value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value:g}, not within 0 and 1")
        if name == "seconds" and value is not None and value < 0:
            raise ValueError(f"seconds is {value:g}")
        row[name] = value
    return row


def _number(name: str, value: Any) -> float | None:
    """A number of float64's range, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is too large")
    return number


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST
