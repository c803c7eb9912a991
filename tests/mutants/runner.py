"""Climbs the ladder of a pair with a bug in it."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from mutants import pairs
from parity.checking import climb_all
from parity.diagnosis import CANNOT_RUN
from parity.pairs.pair import Batch, Pair

STEPS = 6
Patch = Callable[[pytest.MonkeyPatch, Callable[[], Pair]], Pair]


class Mutant(NamedTuple):
    """A bug: `patch(monkeypatch, make)` gives the faulty pair, of the correct `make()`.

    `rung` is where it must be caught; `module` and `cause` (a part of its text) are what the
    diagnosis should name.
    """

    name: str
    group: str
    make: Callable[[], Pair]
    rung: str
    module: str
    cause: str
    patch: Patch
    batches: Callable[[Pair], list[Batch]] = pairs.batches


class Outcome(NamedTuple):
    """What was found; `crashed` if the rung failed because the model could not be run."""

    rung: str | None
    module: str | None
    cause: str | None
    text: str
    crashed: bool


def run(mutant: Mutant) -> Outcome:
    """The first rung that fails on the mutant, and its diagnosis."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        pair = mutant.patch(monkeypatch, mutant.make)
        given = mutant.batches(pair)
        for found in climb_all(pair, batches=given, steps=STEPS, jit=False, stop=True):
            if not found.passed and found.diagnosis is not None:
                why = found.diagnosis
                crashed = found.detail.startswith(CANNOT_RUN)
                return Outcome(found.rung, why.module, why.cause, why.text, crashed)
    return Outcome(None, None, None, "nothing failed", False)
