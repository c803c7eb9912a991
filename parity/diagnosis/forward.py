"""The modules whose output departs, and the calls whose change explains each.

Every module is given what JAX's had, so that all faults show and not the first alone.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from parity.diagnosis import forced, narrow
from parity.diagnosis.common import OUTPUTS, SECONDS, Known, said
from parity.diagnosis.compound import compounds
from parity.diagnosis.conditioning import departing
from parity.diagnosis.exchanges import exchanges
from parity.diagnosis.forced import Event, Forcing
from parity.diagnosis.search import Budget, everywhere, list_suspects, search
from parity.diagnosis.sites import Change, applied
from parity.ladder.result import Diagnosis, Fault
from parity.ladder.rungs import forward
from parity.ladder.tolerance import relative_error
from parity.pairs.case import Case, precision
from parity.pairs.pair import Tensors

NOT_LEGAL = RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError


def find(known: Known) -> Diagnosis | None:
    """What departs in the pair's modes; None where every module agrees."""
    case, state, batch = known.case, known.state, known.batches[0]
    with precision(case.dtype):
        raw = forward.ours(case)(state, batch)
    budget = Budget(SECONDS)
    faults: list[Fault] = []
    first: tuple[Event, float, str, Event | None, float] | None = None
    with applied(known.changes):
        theirs = forward.theirs(case)(state, batch)
        ours, theirs = forward.matched(case, raw, theirs, [])
        errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
        if not departing(known, "forward", errors):
            return None
        search_ = _Search(known, case, ours, budget)
        for mode in case.pair.modes:
            for event, error, before, before_error in search_.departing(mode):
                first = first or (event, error, mode, before, before_error)
                faults += search_.explain(event, error, mode)
        faults = search_.with_narrow(faults)
    if first is None:
        return None
    event, error, mode, before, before_error = first
    for fault in faults:
        known.add(fault, search_.changes.get(fault, ()))
    name = _name(event.name)
    if name.startswith(OUTPUTS) and faults:  # nothing inside is named: the calls say more
        name = faults[0].module
    return said(
        name,
        error,
        None if before is None else _name(before.name),
        before_error,
        faults[0].cause if faults else None,
        what=f"output (in {mode} mode)",
        faults=_merged(faults),
    )


class _Search:
    """The forced runs of one diagnosis."""

    def __init__(self, known: Known, case: Case, ours: Tensors, budget: Budget):
        self.known, self.case, self.budget = known, case, budget
        self.targets = {mode: dict(forced.in_mode(ours, mode)) for mode in case.pair.modes}
        self.changes: dict[Fault, tuple[Change, ...]] = {}
        self.made: list[Change] = []
        self.open: dict[Fault, tuple[str, str]] = {}  # without a cause: the event and its mode
        self.inputs = case.torch_batch(known.batches[0])[0]

    def run(
        self,
        mode: str,
        changes: tuple[Change, ...] = (),
        until: str | None = None,
        targets: Mapping[str, np.ndarray] | None = None,
    ) -> list[Event]:
        """The events of a forced run with the changes made so far and these."""
        module = self.case.torch_model(self.known.state).train(mode == "train")
        forcing = Forcing(self.targets[mode] if targets is None else targets, until=until)
        with torch.no_grad(), applied((*self.made, *changes)):
            forced.run(self.case, module, self.inputs, forcing)
        return forcing.events

    def error(self, event: Event, mode: str) -> float:
        """How far a completion is from JAX's."""
        return relative_error(self.targets[mode][event.name], event.value)

    def departing(self, mode: str) -> list[tuple[Event, float, Event | None, float]]:
        """(event, error, the one before and its error) of all that depart, without displaced ones.

        A name that means another place in the two is found by leaving it as PyTorch computes it:
        then what follows agrees.
        """
        same = self.known.same
        while True:
            events = self.run(mode)
            errors = [self.error(event, mode) for event in events]
            displaced = None
            for event, error, after, next_error in zip(
                events, errors, events[1:], errors[1:], strict=False
            ):
                if error > same and next_error > same and not event.name.startswith("outputs"):
                    targets = {k: v for k, v in self.targets[mode].items() if k != event.name}
                    again = {e.name: e for e in self.run(mode, until=after.name, targets=targets)}
                    if after.name in again and self.error(again[after.name], mode) <= same:
                        displaced = event.name
                        break
            if displaced is None:
                break
            for targets in self.targets.values():
                targets.pop(displaced, None)
        found = []
        for number, (event, error) in enumerate(zip(events, errors, strict=True)):
            if error > same:
                before = events[number - 1] if number else None
                found.append((event, error, before, errors[number - 1] if number else 0.0))
        return found

    def explain(self, event: Event, error: float, mode: str) -> list[Fault]:
        """The faults that make this module depart, or one without a cause."""
        if self.made:  # what was found may explain this one too
            error = self.left(event, mode, ())
            if error <= self.known.same:
                return []
        for sites in (event.sites, event.earlier):
            if not sites:
                continue
            listed = list_suspects(lambda: self.run(mode, until=event.name), sites)
            # What is nearest to the departing module is the likeliest.
            nearest = {site: -number for number, site in enumerate(sites)}
            listed.sort(key=lambda change: min(nearest[site] for site in change.sites or ()))
            model = self.case.torch_model(self.known.state)
            several = [*everywhere(listed), *compounds(listed), *exchanges(model, sites)]
            candidates = [*several, *listed]
            found = search(
                lambda changes: self.left(event, mode, changes),
                candidates,
                error,
                self.known.same,
                self.budget,
                lambda changes: (
                    not self.spoils(event, mode, changes)
                    and self.fits_elsewhere(event, mode, changes)
                ),
            )
            if found is None and len(self.case.pair.modes) > 1:
                found = search(
                    lambda changes: self.left(event, mode, changes),
                    [each._replace(mode=mode) for each in candidates if not each.exchanged],
                    error,
                    self.known.same,
                    self.budget,
                    lambda changes: not self.spoils(event, mode, changes),
                    depth=1,
                )
            if found is not None:
                return [self.fault(event, error, change) for change in found.changes]
        # What computes between the completion before and this one may be of several modules.
        owners = dict.fromkeys((_name(event.name), *(site.module for site in event.sites)))
        places = tuple(owner for owner in owners if owner)
        fault = Fault(places[0], self.scaled(event, mode), error, places)
        if fault.cause is None:
            self.open[fault] = event.name, mode
        return [fault]

    def with_narrow(self, faults: list[Fault]) -> list[Fault]:
        """Those without a cause have one if JAX's bfloat16 or float16 inside is all of it."""
        inside = self.known.inside
        if not self.open or inside is None or inside.dtype not in ("bfloat16", "float16"):
            return faults
        case = narrow.Widened(self.case.pair, self.case.dtype, self.case.device)
        state, batch = self.known.state, self.known.batches[0]
        try:
            with precision(case.dtype):
                wide = forward.ours(case)(state, batch)
        except narrow.CannotWiden:
            return faults
        wide, _ = forward.matched(case, wide, forward.theirs(case)(state, batch), [])
        self.targets = {mode: dict(forced.in_mode(wide, mode)) for mode in case.pair.modes}
        named = []
        for fault in faults:
            if fault in self.open:
                name, mode = self.open[fault]
                event = next(e for e in self.run(mode, until=name) if e.name == name)
                if self.error(event, mode) <= self.known.same:
                    # The departing module comes last: it may have what others computed before it.
                    places = (*fault.places[1:], fault.places[0])
                    fault = Fault(places[0], f"it {inside.what}", fault.error, places)
            named.append(fault)
        return named

    def left(self, event: Event, mode: str, changes: tuple[Change, ...]) -> float:
        """The error of an event with changes; infinite where they cannot be made."""
        try:
            events = self.run(mode, changes, until=event.name)
        except NOT_LEGAL:
            return float("inf")
        found = next((each for each in events if each.name == event.name), None)
        return float("inf") if found is None else self.error(found, mode)

    def spoils(self, event: Event, mode: str, changes: tuple[Change, ...]) -> bool:
        """Whether a module that completes before departs by the changes.

        A ReLU in place that changes the shortcut is mended by leaving it out too, but then its own
        output departs.
        """
        same = self.known.same
        plain, changed = (self.run(mode, made, until=event.name) for made in ((), changes))
        agreed = {e.name for e in plain if self.error(e, mode) <= same} - {event.name}
        return any(e.name in agreed and self.error(e, mode) > same for e in changed)

    def fits_elsewhere(self, event: Event, mode: str, changes: tuple[Change, ...]) -> bool:
        """Whether the changes do not make the same module worse in the other mode."""
        for other in self.case.pair.modes:
            if other != mode and event.name in self.targets[other]:
                before, after = self.left(event, other, ()), self.left(event, other, changes)
                if after > self.known.same and after > before * 0.999:
                    return False
        return True

    def fault(self, event: Event, error: float, change: Change) -> Fault:
        """The fault that a change mends, which is made from now on."""
        owners = dict.fromkeys(site.module for site in sorted(change.sites or ()))
        places = tuple(owner or _name(event.name) for owner in owners)  # the net's own calls
        fault = Fault(places[0], change.cause, error, places)
        self.changes[fault] = (*self.changes.get(fault, ()), change)
        self.made.append(change)
        return fault

    def scaled(self, event: Event, mode: str) -> str | None:
        """The factor that alone explains a module, in both modes, if it is one."""
        factor = None
        for each in dict.fromkeys((mode, *self.case.pair.modes)):
            events = {e.name: e for e in self.run(each, until=event.name)}
            if event.name not in events:
                return None
            target, value = self.targets[each][event.name], events[event.name].value
            power = float((value * value).sum())
            if target.shape != value.shape or not power or not np.isfinite(power):
                return None
            factor = float((target * value).sum()) / power if factor is None else factor
            if relative_error(target, factor * value) > self.known.same:
                return None
        return None if factor is None else f"it is {factor:.6g} times PyTorch's"


def _name(name: str) -> str:
    return name.replace(forward.OUTPUTS, OUTPUTS, 1) if name.startswith(forward.OUTPUTS) else name


def _merged(faults: list[Fault]) -> list[Fault]:
    """One fault for each cause, with all places."""
    by_cause: dict[tuple[str | None, str], Fault] = {}
    for fault in faults:
        key = fault.cause, "" if fault.cause else fault.module
        if key in by_cause:
            places = tuple(dict.fromkeys((*by_cause[key].places, *fault.places)))
            fault = dataclasses.replace(by_cause[key], places=places)
        by_cause[key] = fault
    return list(by_cause.values())
