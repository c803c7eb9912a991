"""What every diagnosis uses: what is known so far, and the sentence."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from jax_impl.errors import listed
from parity.diagnosis.sites import Change, applied, watching
from parity.ladder import design
from parity.ladder.result import Diagnosis, Fault, Result
from parity.ladder.tolerance import SAME_IN_FLOAT32, relative_error
from parity.pairs.case import Case, around
from parity.pairs.pair import Batch, Pair, Tensors

SAME = 1e-9
"""Relative: below any difference of formula, above the rounding of a deep net."""

SECONDS = 120.0
"""Until no further suspect is tried for one failure."""

OUTPUTS = "the outputs"

CANNOT_RUN = "it cannot be run: "
"""How the detail of a rung begins that an error of the JAX side's stopped."""


@dataclasses.dataclass
class Known:
    """The pair that is diagnosed, and what was found of it so far.

    `found` has each fault with the changes of PyTorch's calls that make the two agree; those of
    `accepted` are accepted by name, and PyTorch's side makes them while the ladder is climbed. What
    is wrong with the optimizer, if anything is, is told by `optimizer`.
    """

    pair: Pair
    state: Tensors
    batches: Sequence[Batch]
    device: str
    jit: bool
    accept: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32")
    in_float64: bool = True
    strict: bool = False
    found: list[tuple[Fault, tuple[Change, ...]]] = dataclasses.field(default_factory=list)
    optimizer: str | None = None
    used: set[str] = dataclasses.field(default_factory=set)
    accepted: list[tuple[Fault, tuple[Change, ...]]] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def case(self) -> Case:
        """In float64 where JAX's model runs in it."""
        dtype = "float64" if self.in_float64 else "float32"
        return Case(self.pair, dtype, self.device, self.jit)

    @functools.cached_property
    def same(self) -> float:
        """Two that differ by less agree."""
        return SAME_IN_FLOAT32 if self.float32_inside else SAME

    @functools.cached_property
    def inside(self) -> design.Inside | None:
        """The module that computes in float32 or narrower in the float64 run."""
        if not self.in_float64:
            return None
        return design.of_the_model(self.case, self.state, self.batches[0])

    @property
    def float32_inside(self) -> bool:
        """Whether a module computes in float32, inside of the float64 run or without one."""
        return not self.in_float64 or self.inside is not None

    @property
    def changes(self) -> list[Change]:
        """All changes that were found and are not in force yet."""
        return [change for _, changes in self.found for change in changes]

    def add(self, fault: Fault, changes: Sequence[Change] = ()) -> None:
        """One more fault; the same cause at another place joins it."""
        for number, (known, made) in enumerate(self.found):
            if known.cause == fault.cause is not None:
                places = tuple(dict.fromkeys((*known.places, *fault.places)))
                joined = dataclasses.replace(known, places=places)
                self.found[number] = joined, (*made, *changes)
                return
        self.found.append((fault, tuple(changes)))

    def follows(self) -> Diagnosis | None:
        """That a failure follows from the faults found so far; None without any.

        From those whose changes are known, if there are any.
        """
        found = [fault for fault, changes in self.found if changes]
        found = found or [fault for fault, _ in self.found if fault.cause]
        if not found:
            return None
        causes = "; ".join(f"{_place(fault)}{fault.cause}" for fault in found)
        text = f"follows from what was found before: {causes}"
        return Diagnosis(None, None, None, None, None, text, tuple(found), follows=True)

    @property
    def unexplained(self) -> Diagnosis | None:
        """That a failure is behind a departure that no suspect explained; None without any."""
        found = [fault for fault, _ in self.found if fault.cause is None]
        if not found:
            return None
        places = ", ".join(dict.fromkeys(fault.module for fault in found))
        text = f"behind what departs before it, for which no cause was found: {places}"
        return Diagnosis(None, None, None, None, None, text, follows=True)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """PyTorch's side makes the accepted changes inside."""
        made = [change for _, changes in self.accepted for change in changes]
        with around(watching), applied(made):
            yield

    def accept_more(self) -> bool:
        """Takes what was found and is accepted by name into force; whether there was any."""
        chosen = [f for f in self.found if f[1] and self.is_accepted(f[0].cause)]
        self.accepted += chosen
        self.found = [f for f in self.found if f not in chosen]
        return bool(chosen)

    def is_accepted(self, cause: str | None) -> bool:
        """Whether a name of `accept` is in the cause."""
        return self.accepted_as(cause) is not None

    def accepted_as(self, cause: str | None) -> str | None:
        """The name of `accept` all of whose words are in the cause."""
        words = set((cause or "").lower().replace(",", " ").replace(":", " ").split())
        fits = (name for name in self.accept if set(name.lower().split()) <= words)
        found = next(fits, None)
        if found is not None:
            self.used.add(found)
        return found

    def accepted_whole(self, failed: Result) -> Result:
        """Passed, with a remark, where the diagnosis explains all of it by accepted causes.

        Those are causes that reproduce JAX's numbers without a change of PyTorch's calls, as an
        optimizer's; what only follows from another failure is not explained.
        """
        why = failed.diagnosis
        faults = () if why is None or why.module is None else why.faults
        changed = {fault for fault, changes in self.found if changes}
        if not faults or not all(self.is_accepted(f.cause) and f not in changed for f in faults):
            return failed
        causes = tuple(self._note(fault) for fault in faults)
        return dataclasses.replace(failed, passed=True, remarks=(*failed.remarks, *causes))

    @property
    def accepted_notes(self) -> tuple[str, ...]:
        """What is accepted, for the report."""
        return tuple(self._note(fault) for fault, _ in self.accepted)

    def _note(self, fault: Fault) -> str:
        name = self.accepted_as(fault.cause)
        return f"accepted as {name!r}: {_place(fault)}{fault.cause}"


def _place(fault: Fault) -> str:
    places = fault.places or (fault.module,)
    return f"{', '.join(places[:4])}{', ...' if len(places) > 4 else ''}: "


def said(
    module: str | None,
    error: float | None = None,
    before: str | None = None,
    before_error: float | None = None,
    cause: str | None = None,
    what: str = "output",
    faults: Sequence[Fault] = (),
) -> Diagnosis:
    """The diagnosis with its sentence; further faults follow the first."""
    text = f"first departs: {what} of {module}" if module else "nothing departs by itself"
    if error is not None and math.isfinite(error):
        text += f", relative error {error:.1e}"
    elif error is not None:
        text += ", where the shapes differ or a value is not finite"
    if before:
        text += f"; {before}, just before it, {before_error:.1e}"
    if not faults and module is not None:
        faults = (Fault(module, cause, error, (module,)),)
    text += f". Cause: {cause}." if cause else ". No usual suspect makes the two agree."
    if cause and faults and module not in faults[0].places:
        text += f" It is in {', '.join(faults[0].places[:4])}."
    for fault in faults[1:]:
        text += f" Also {_place(fault)}{fault.cause}." if fault.cause else ""
    unknown = [fault.module for fault in faults[1:] if not fault.cause]
    if unknown:
        text += f" Also {listed(unknown, 4)}: no usual suspect makes the two agree."
    return Diagnosis(module, error, before, before_error, cause, text, tuple(faults))


def different(ours: Any, theirs: Any, same: float = SAME) -> bool:
    """Whether two results differ by more than rounding."""
    return not relative_error(ours, theirs) <= same


def owner_of(parameter: str) -> str:
    """The module that a parameter or a buffer belongs to."""
    return parameter.rpartition(".")[0] or OUTPUTS
