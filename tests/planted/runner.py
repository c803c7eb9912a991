"""Climbs the ladder of a planted bug, and judges what the diagnosis tells of it."""

import time
from typing import Any, NamedTuple

from parity.checking import climb_all
from parity.diagnosis import CANNOT_RUN
from planted.bug import Bug, Fault


class Told(NamedTuple):
    """One fault as the diagnosis tells it."""

    module: str | None
    cause: str | None


class Outcome(NamedTuple):
    """What a climb found; `rung` is the first that failed.

    A bug is caught at one of its rungs, and not by a crash. `right_module` and `right_cause` are of
    all its faults; `wrong_cause` is of a told cause that is none of them.
    """

    caught: bool
    right_module: bool
    right_cause: bool
    wrong_cause: bool
    rung: str | None
    told: tuple[Told, ...]
    text: str
    seconds: float


def run(bug: Bug) -> Outcome:
    """Climbs all rungs, and judges every diagnosis together."""
    began = time.perf_counter()
    first, crashed, told, texts = None, False, [], []
    try:
        batches = None if bug.batches is None else bug.batches()
        given = {"batches": batches, "steps": bug.steps, "strict_float64": bug.strict}
        for found in climb_all(bug.make(), jit=False, **given):
            if found.passed is None or found.passed:
                continue
            if first is None:
                first, crashed = found.rung, found.detail.startswith(CANNOT_RUN)
            if found.diagnosis is not None:
                told += told_by(found.diagnosis)
                texts.append(found.diagnosis.text)
    except Exception as error:  # whatever a stranger's pair raises in the suite is an outcome
        crashed = True
        texts.append(f"raised {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    caught = first in bug.rungs and not crashed
    text = " | ".join(texts) or "nothing failed"
    seconds = time.perf_counter() - began
    return Outcome(caught, *judged(bug.faults, told), first, tuple(told), text, seconds)


def told_by(diagnosis: Any) -> list[Told]:
    """Its faults, or the one that it tells by `module` and `cause`."""
    faults = getattr(diagnosis, "faults", ()) or (diagnosis,)
    return [Told(fault.module, fault.cause) for fault in faults]


def judged(faults: tuple[Fault, ...], told: list[Told]) -> tuple[bool, bool, bool]:
    """(every fault's module is told, every fault's cause is told, another cause is told)."""
    modules = all(any(t.module in fault.modules for t in told) for fault in faults)
    causes = all(any(fault.is_told_by(t.cause) for t in told) for fault in faults)
    wrong = any(t.cause and not any(fault.is_told_by(t.cause) for fault in faults) for t in told)
    return modules, causes, wrong
