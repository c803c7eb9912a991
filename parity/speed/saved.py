"""A run's speed.json, read again. Imports no framework."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError, one_line
from parity.speed.checks import Reference
from parity.speed.notebook import EpochResult, Training
from parity.speed.results import FRAMEWORKS, SpeedReport, TaskResult
from parity.speed.roofline import Ceilings, Work
from parity.speed.rounds import Block, Timing
from parity.speed.workloads import Task

JSON = "speed.json"
MOST = 64 * 2**20
"""Bytes of a file that is read: a thousand times a long run's."""
FACTS = ("cpu", "cores", "device", "python", "packages")
"""Of the environment: what every run says of its machine."""


def read(path: Path) -> SpeedReport:
    """The run of a speed.json, or of the directory that holds one.

    Raises:
        InputError: there is none, or it is no report of `parity speed`.
    """
    file = path / JSON if path.is_dir() else path
    try:
        there, is_file = file.exists(), file.is_file()  # a pipe would be waited for
        if is_file and file.stat().st_size <= MOST:
            told = json.loads(file.read_text())
        else:
            told = None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {file}: {one_line(error, 160)}; name a {JSON}") from error
    if not is_file:
        what = "is no file" if there else "does not exist"
        raise InputError(f"{file} {what}: name a {JSON}, or the directory that holds one")
    if told is None:
        raise InputError(f"{file} is larger than {MOST // 2**20} MiB: no {JSON} is")
    try:
        return _report(told)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {one_line(error, 120)}"
        raise InputError(f"{file} is no report of `parity speed` ({why})") from error


def machine(report: SpeedReport) -> str:
    """The machine and its software, in a line: runs that have it alike are put together."""
    told = report.environment
    device = told["device"]
    where = f"{told['cpu']}, {told['cores']} cores"
    if device != "cpu":
        where = f"{device}, beside {where}"
    versions = ", ".join(
        f"{name} {version}" for name, version in told["packages"].items() if version is not None
    )
    return f"{where}; Python {told['python']}, {versions}"


def run(report: SpeedReport) -> str:
    """Its commit and its date, as far as they are known."""
    commit, date = (report.environment.get(name) for name in ("commit", "date"))
    return ", ".join(str(text) for text in (commit and f"commit {commit}", date) if text)


def stamp(report: SpeedReport) -> str:
    """What every plot says below it: processor, cores, versions, commit and date."""
    return "; ".join(text for text in (machine(report), run(report)) if text)


def _report(told: Mapping[str, Any]) -> SpeedReport:
    environment = dict(told["environment"])
    for name in FACTS:
        environment[name]  # noqa: B018 - a file without it is none of ours
    if not all(isinstance(environment[name], str) for name in ("cpu", "device", "python")):
        raise TypeError("the environment names no machine")
    environment["packages"] = dict(environment["packages"])
    return SpeedReport(
        environment,
        dict(told["data"]),
        {"busy": False, "roofline": True, **told["options"]},  # earlier versions lack them
        float(told["other_cores_before"]),
        tuple(_result(task) for task in told["tasks"]),
        tuple(_training(training) for training in told["notebook"]),
        left_out=tuple(told.get("left_out", ())),
        unfinished=told.get("unfinished"),
    )


def _result(told: Mapping[str, Any]) -> TaskResult:
    task = Task(told["model"], int(told["batch_size"]), told["mode"], told["precision"])
    if not (isinstance(task.model, str) and task.batch_size > 0):
        raise ValueError(f"a task of {task.model!r} with batches of {task.batch_size}")
    reference, work, ceilings = (told.get(name) for name in ("reference", "work", "ceilings"))
    return TaskResult(
        task,
        tuple(_timing(task, timing) for timing in told["timings"]),
        reference and Reference(**{name: tuple(values) for name, values in reference.items()}),
        work and Work(**work),
        ceilings and Ceilings(**ceilings),
    )


def _timing(task: Task, told: Mapping[str, Any]) -> Timing:
    if told["framework"] not in FRAMEWORKS:
        raise ValueError(f"a framework {told['framework']!r}")
    names = {field.name for field in dataclasses.fields(Timing)}
    fields = {name: value for name, value in told.items() if name in names}
    blocks = tuple(Block(**block) for block in told["blocks"])
    for block in blocks:
        if not (0 < block.seconds < math.inf and 0 < block.steps < math.inf):
            raise ValueError(f"a block of {block.steps} steps in {block.seconds} s")
    lists = {name: tuple(told[name]) for name in ("losses", "warm_up")}
    return Timing(**{**fields, **lists, "task": task, "blocks": blocks})


def _training(told: Mapping[str, Any]) -> Training:
    names = {field.name for field in dataclasses.fields(Training)}
    fields = {name: value for name, value in told.items() if name in names}
    epochs = tuple(EpochResult(**epoch) for epoch in told["epochs"])
    if not epochs:
        raise ValueError("a training without epochs")
    return Training(**{**fields, "epochs": epochs})
