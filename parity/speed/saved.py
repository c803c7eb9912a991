"""A run's speed.json, read again. Imports no framework."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jax_impl.errors import InputError, one_line, shown
from parity.speed.checks import Reference
from parity.speed.notebook import EpochResult, Training
from parity.speed.results import FRAMEWORKS, SpeedReport, TaskResult
from parity.speed.roofline import Ceilings, Work
from parity.speed.rounds import Block, Timing
from parity.speed.workloads import LARGEST_BATCH, Task

JSON = "speed.json"
MOST = 64 * 2**20
"""Bytes of a file that is read: a thousand times a long run's."""
ENVIRONMENT = {
    "cpu": str,
    "cores": int,
    "device": str,
    "python": str,
    "packages": (str, type(None)),
    "variables": str,
    "commit": (str, type(None)),
    "date": (str, type(None)),
}
"""What every run says of its machine, and what each may be, or each value of a dict."""
HUGE = 1e100
"""No size, no count and no time is larger."""
LEAST = 1e-12
"""Seconds: no block takes less."""
LONGEST = 400
"""Letters that a machine's name is shown with."""
Made = TypeVar("Made")


def read(path: Path) -> SpeedReport:
    """The run of a speed.json, or of the directory that holds one.

    Raises:
        InputError: there is none, or it is no report of `parity speed`.
    """
    file = path / JSON if path.is_dir() else path
    try:
        there, is_file = file.exists(), file.is_file()  # a pipe would be waited for
        large = is_file and file.stat().st_size > MOST
        told = json.loads(file.read_text()) if is_file and not large else None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {file}: {one_line(error, 160)}; name a {JSON}") from error
    if not is_file:
        what = "is no file" if there else "does not exist"
        raise InputError(f"{file} {what}: name a {JSON}, or the directory that holds one")
    if large:
        raise InputError(f"{file} is larger than {MOST // 2**20} MiB: no {JSON} is")
    try:
        return _report(told)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        why = f"{type(error).__name__}: {one_line(error, 120)}"
        raise InputError(f"{file} is no report of `parity speed` ({why})") from error


def machine(report: SpeedReport) -> str:
    """The machine and its software, in a line: runs that have it alike are put together."""
    told = report.environment
    where = f"{told['cpu']}, {told['cores']} core{'' if told['cores'] == 1 else 's'}"
    if told["device"] != "cpu":
        where = f"{told['device']}, beside {where}"
    versions = ", ".join(
        f"{name} {version}" for name, version in told["packages"].items() if version is not None
    )
    return shown(f"{where}; Python {told['python']}, {versions}", LONGEST)


def run(report: SpeedReport) -> str:
    """Its commit, its date and what it left undone, as far as they are known."""
    commit, date = (report.environment.get(name) for name in ("commit", "date"))
    left = report.unfinished and f"unfinished: {report.unfinished}"
    told = ", ".join(str(text) for text in (commit and f"commit {commit}", date, left) if text)
    return shown(told, LONGEST)


def stamp(report: SpeedReport) -> str:
    """What every plot says below it: processor, cores, versions, commit and date."""
    return "; ".join(text for text in (machine(report), run(report)) if text)


def _report(told: Any) -> SpeedReport:
    environment = {**told["environment"]}
    for name in ("packages", "variables"):
        environment[name] = dict(environment.get(name, {}))
    for name, kinds in ENVIRONMENT.items():
        values = environment.get(name)
        for value in values.values() if isinstance(values, dict) else [values]:
            if not isinstance(value, kinds):
                raise TypeError(f"the environment's {name} is {one_line(ValueError(values), 40)}")
    if environment["cores"] < 1:
        raise ValueError(f"the environment's cores are {environment['cores']}")
    options = {"busy": False, "roofline": True, **told["options"]}  # earlier versions lack them
    if not isinstance(options["busy"], bool):
        raise TypeError(f"busy is {options['busy']}")
    return SpeedReport(
        environment,
        dict(told["data"]),
        options,
        float(told["other_cores_before"]),
        tuple(_result(task) for task in told["tasks"]),
        tuple(_training(training) for training in told["notebook"]),
        left_out=tuple(told.get("left_out", ())),
        unfinished=told.get("unfinished"),
    )


def _result(told: Mapping[str, Any]) -> TaskResult:
    task = _made(Task, {name: told[name] for name in ("model", "batch_size", "mode", "precision")})
    if not (task.model.isprintable() and 0 < task.batch_size <= LARGEST_BATCH):
        raise ValueError(f"a task of {task.model!r} with batches of {task.batch_size}")
    reference, work, ceilings = (told.get(name) for name in ("reference", "work", "ceilings"))
    timings = tuple(_timing(task, timing) for timing in told["timings"])
    counts = {len(timing.blocks) for timing in timings if timing.good and timing.blocks}
    if len(counts) > 1:
        raise ValueError(f"timings of {min(counts)} to {max(counts)} rounds in {task}")
    return TaskResult(
        task,
        timings,
        reference and Reference(**{name: tuple(values) for name, values in reference.items()}),
        work and _made(Work, work),
        ceilings and _made(Ceilings, ceilings),
    )


def _timing(task: Task, told: Mapping[str, Any]) -> Timing:
    if told["framework"] not in FRAMEWORKS or not str(told["variant"]).isprintable():
        raise ValueError(f"a variant {told['variant']!r} of {told['framework']!r}")
    blocks = tuple(_made(Block, block) for block in told["blocks"])
    for block in blocks:
        if not (block.seconds > LEAST and block.steps > 0):
            raise ValueError(f"a block of {block.steps} steps in {block.seconds} s")
    return _made(Timing, told, task=task, blocks=blocks)


def _training(told: Mapping[str, Any]) -> Training:
    return _made(Training, told, epochs=tuple(_made(EpochResult, e) for e in told["epochs"]))


def _made(kind: type[Made], told: Mapping[str, Any], **known: Any) -> Made:
    """A dataclass of a file's fields, each of the type that it has; others are left out.

    Raises:
        TypeError: a field is of another type, or is missing.
    """
    fields = dict(known)
    for name, hint in get_type_hints(kind).items():
        if name in told and name not in known:
            value = tuple(told[name]) if get_origin(hint) is tuple else told[name]
            if not _fits(value, hint):
                raise TypeError(f"{name} of {kind.__name__} is {one_line(ValueError(value), 40)}")
            fields[name] = value
    return kind(**fields)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a JSON file may stand for one of this type; null may for any number."""
    kinds = get_args(hint)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in kinds
    if get_origin(hint) is tuple:
        return all(_fits(each, kinds[0] | None) for each in value)
    if kinds:
        return any(_fits(value, kind) for kind in kinds)
    if hint in (int, float):
        numbers = int if hint is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool) and abs(value) < HUGE
    return isinstance(value, hint)
