"""Why an optimizer departs from PyTorch's: the faults that reproduce what it did."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from parity.diagnosis import optimizer_words as words
from parity.diagnosis.optimizer_faults import faults
from parity.diagnosis.optimizer_problem import THIN, Problem, problem
from parity.diagnosis.optimizer_rules import Rules, follow, rules
from parity.diagnosis.optimizer_rules import trajectory as trajectory
from parity.ladder.tolerance import FLOAT64_TOLERANCE, relative_error
from parity.pairs.budget import Budget
from parity.pairs.optimizers import OptimizerSpec
from parity.pairs.pair import Tensors

AGREEMENT = 1e-9
"""A cause agrees to so much, relative to a tensor's largest value, ..."""

IMPROVEMENT = 1e-3
"""... and to so small a part of the difference from PyTorch that it explains, ..."""

ROUNDING = 1e-13
"""... but is not asked for less than what exact implementations differ by after dozens of steps."""

SECONDS = 20.0
"""Until no further pair of faults is tried."""

FEW = 8
"""Elements of a tensor, and tensors, that pairs are tried on first."""


class Departure(NamedTuple):
    """The first step, from 1, and tensor that differ from torch.optim's, and their difference."""

    step: int
    name: str
    error: float


class Group(NamedTuple):
    """Parameters that PyTorch treats alike, its rules, and its faults.

    The learning rate of PyTorch's may be `rounded` to float32; that of the rules is not.
    """

    names: tuple[str, ...]
    base: Rules
    spec: OptimizerSpec
    rounded: bool = False


def departure(
    spec: OptimizerSpec, params: Tensors, gradients: Sequence[Tensors], observed: Sequence[Tensors]
) -> Departure | None:
    """Where `observed` first differs from torch.optim by more than 1e-12; None if nowhere.

    The arguments are those of `cause`.
    """
    tensors = {
        n: torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for n, v in params.items()
    }
    optimizer = spec.to_torch(tensors.values())
    for step, (gradient, found) in enumerate(zip(gradients, observed, strict=True), 1):
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradient[name], dtype=torch.float64)
        optimizer.step()
        for name, tensor in tensors.items():
            error = relative_error(found[name], tensor.detach().numpy())
            if not error <= FLOAT64_TOLERANCE:
                return Departure(step, name, error)
    return None


def cause(
    spec: OptimizerSpec, params: Tensors, gradients: Sequence[Tensors], observed: Sequence[Tensors]
) -> str | None:
    """Why `observed` is not what torch.optim does.

    Args:
        spec: the optimizer as it should be.
        params: the initial parameters by name, of any shapes.
        gradients: those of each step, before clipping.
        observed: the parameters after each step, computed in float64.

    Returns:
        The cause; None if there is no departure, or none of the known faults explains it.
    """
    if departure(spec, params, gradients, observed) is None:
        return None
    group = Group(tuple(params), rules(spec, len(gradients)), spec)
    return explain([group], problem(params, gradients, observed))


def explain(groups: Sequence[Group], given: Problem) -> str | None:
    """The faults that make PyTorch's rules do what was observed.

    Every known fault is tried alone, as a change of the rules. Several may do the same: the answer
    names them all, the likeliest first, with ", or " between them. Else faults of some parameters
    alone, and pairs of faults.
    """
    search = _Search(groups, given)
    if not search.departing:
        return None
    fits = search.singles()
    found = search.whole(fits)
    for more in (search.solved, search.with_rates, search.pairs):
        if found is None:
            fits |= more()
            found = search.whole(fits) or search.together(fits)
    return found


class _Search:
    """The faults of every group, and which parameters each explains."""

    def __init__(self, groups: Sequence[Group], given: Problem):
        self.groups, self.given = groups, given
        self.parts = [given.only(group.names) for group in groups]
        self.thin = [given.only(group.names, THIN) for group in groups]
        self.limits: dict[str, float] = {}
        self.departing: list[str] = []
        for group, part in zip(groups, self.parts, strict=True):
            errors = part.errors(follow(group.base, part))
            for name, error in zip(part.shapes, errors, strict=True):
                departs = error > FLOAT64_TOLERANCE
                limit = max(min(AGREEMENT, IMPROVEMENT * error), ROUNDING)
                self.limits[name] = limit if departs else FLOAT64_TOLERANCE
                if departs:
                    self.departing.append(name)
        self.changes = [
            [(text, _changes(group.base, made)) for text, made in self._faults(group)]
            for group in groups
        ]
        if len(groups) > 1:  # another group's learning rate is told as such, when it is solved for
            self.changes = [[c for c in own if set(c[1]) != {"lrs"}] for own in self.changes]

    def _faults(self, group: Group) -> Iterator[tuple[str, Rules]]:
        decays = [g.base.weight_decay for g in self.groups if g.base.weight_decay]
        yield from faults(group.spec, group.base, decays)

    def singles(self) -> dict[str, set[str]]:
        """By fault the parameters that it explains, of all groups."""
        found: dict[str, set[str]] = {}
        for number, listed in enumerate(self.changes):
            for text, changes in listed:
                found.setdefault(text, set()).update(self._explained(number, changes))
        return self._everywhere(found)

    def solved(self) -> dict[str, set[str]]:
        """Learning rates and weight decays that no list has."""
        found: dict[str, set[str]] = {}
        for number in range(len(self.groups)):
            for text, names in self._rates(number).items():
                found.setdefault(text, set()).update(names)
            for text, changes in self._decays(number):
                found.setdefault(text, set()).update(self._explained(number, changes))
        return self._everywhere(found)

    def with_rates(self) -> dict[str, set[str]]:
        """Faults together with another learning rate."""
        found: dict[str, set[str]] = {}
        for number, group in enumerate(self.groups):
            names = [name for name in group.names if name in self.departing]
            few = self.given.only(names[:FEW], FEW)
            for text, changes in self.changes[number] if names else ():
                if "lrs" in changes or changes.get("every", 1) > 1:
                    continue
                changed = dataclasses.replace(group.base, **changes)
                lrs = _solved_rates(changed, few)
                made = dataclasses.replace(changed, lrs=lrs)
                if not self._fits(made, few):
                    continue
                factors = lrs[: len(few.gradients)] / group.base.lrs[: len(few.gradients)]
                told = f"{text}, and {words.rate(factors, group.base.lrs[0])}"
                explained = self._explained(number, {**changes, "lrs": lrs})
                found.setdefault(told, set()).update(explained)
        return self._everywhere(found)

    def pairs(self) -> dict[str, set[str]]:
        """Two faults at once, those that are listed first tried first; until one explains all."""
        found: dict[str, set[str]] = {}
        budget = Budget(SECONDS)
        for number, group in enumerate(self.groups):
            names = [name for name in group.names if name in self.departing]
            few = self.given.only(names[:FEW], FEW)
            listed = self.changes[number]
            order = sorted(itertools.combinations(range(len(listed)), 2), key=sum)
            for first, second in order if names else ():
                changes = listed[first][1] | listed[second][1]
                if len(changes) < len(listed[first][1]) + len(listed[second][1]):
                    continue
                if not budget.left:
                    break
                if not self._fits(dataclasses.replace(group.base, **changes), few, some=True):
                    continue
                explained = self._explained(number, changes)
                if explained & set(names):
                    text = f"{listed[first][0]}, and {listed[second][0]}"
                    found.setdefault(text, set()).update(explained)
                if set(names) <= explained:
                    break
        return self._everywhere(found)

    def whole(self, fits: dict[str, set[str]]) -> str | None:
        """The faults that explain all that departs alone, of all parameters if there are such."""
        everything, departing = set(self.limits), set(self.departing)
        whole = [text for text, names in fits.items() if names >= everything]
        if whole and (len(self.groups) == 1 or departing == everything):
            return ", or ".join(whole)
        part = [text for text, names in fits.items() if names >= departing]
        if part:
            return ", or ".join(self._restricted(text, self.departing) for text in part)
        return None

    def together(self, fits: dict[str, set[str]]) -> str | None:
        """The fewest faults that explain all that departs together, each of some parameters."""
        chosen: list[str] = []
        left = set(self.departing)
        while left and len(chosen) < 4:
            best = max(fits, key=lambda text: len(fits[text] & left), default=None)
            if best is None or not fits[best] & left:
                return None
            names = [name for name in self.departing if name in fits[best] & left]
            chosen.append(self._restricted(best, names))
            left -= set(names)
        return None if left else "; ".join(chosen)

    def _restricted(self, text: str, names: Sequence[str]) -> str:
        who = words.who(names, self.given.shapes, [group.names for group in self.groups])
        rates = {
            f"there is a {kind}weight decay of {g.base.weight_decay:g}": f"{g.base.weight_decay:g}"
            for g in self.groups
            if g.base.weight_decay
            for kind in ("", "decoupled ")
        }
        return words.restricted(text, who, rates)

    def _everywhere(self, found: dict[str, set[str]]) -> dict[str, set[str]]:
        """With what does not depart of the groups that have no such fault."""
        for number, group in enumerate(self.groups):
            own = {text for text, _ in self.changes[number]}
            still = set(group.names) - set(self.departing)
            for text, names in found.items():
                if text not in own and not names & set(group.names):
                    names |= still
        return {text: names for text, names in found.items() if names & set(self.departing)}

    def _fits(self, made: Rules, given: Problem, some: bool = False) -> bool:
        errors = given.errors(follow(made, given))
        close = [e <= self.limits[n] for n, e in zip(given.shapes, errors, strict=True)]
        return any(close) if some else all(close)

    def _explained(self, number: int, changes: dict[str, Any]) -> set[str]:
        """The parameters of a group that its rules with these changes are right about."""
        made = dataclasses.replace(self.groups[number].base, **changes)
        for given in (self.thin[number], self.parts[number]):
            if given is self.thin[number] and _is_coupled(made):
                continue  # norms of the whole are wanted
            errors = given.errors(follow(made, given))
            found = {n for n, e in zip(given.shapes, errors, strict=True) if e <= self.limits[n]}
            if not found & set(self.departing):
                return set()
        return found

    def _rates(self, number: int) -> dict[str, set[str]]:
        """Other learning rates, by tensor."""
        group, found = self.groups[number], {}
        for name in group.names:
            if name not in self.departing:
                continue
            given = self.given.only([name])
            lrs = _solved_rates(group.base, given)
            if not self._fits(dataclasses.replace(group.base, lrs=lrs), given):
                continue
            factors = lrs[: len(given.gradients)] / group.base.lrs[: len(given.gradients)]
            clipped = _clipping(factors, group.base, given)
            others = [float(g.base.lrs[0]) for g in self.groups]
            text = clipped or words.rate(factors, float(group.base.lrs[0]), others)
            if not any(text == known for known, _ in self.changes[number]):
                found.setdefault(text, set()).add(name)
        return found

    def _decays(self, number: int) -> Iterable[tuple[str, dict[str, Any]]]:
        """A weight decay of an unusual value, which is solved for."""
        group = self.groups[number]
        names = [name for name in group.names if name in self.departing]
        given = self.given.only(names[:FEW], THIN)
        for decoupled in (True, False) if names else ():
            base = dataclasses.replace(group.base, decoupled=decoupled)
            without, one = (
                follow(dataclasses.replace(base, weight_decay=value), given)[:, 0]
                for value in (0.0, 1.0)
            )
            value = _solved(given.observed[:, 0] - without, one - without)
            text = f"{value:.6g}"
            if not value > 1e-9 or any(text == f"{known:.6g}" for known in _decays_of(group)):
                continue
            kind = "decoupled " if decoupled else ""
            what = f"the {kind}weight decay is" if group.base.weight_decay else ""
            what = what or f"there is a {kind}weight decay of"
            yield f"{what} {text}", {"weight_decay": value, "decoupled": decoupled}


def _decays_of(group: Group) -> list[float]:
    return [made.weight_decay for _, made in faults(group.spec, group.base)]


def _is_coupled(made: Rules) -> bool:
    """Whether a step of an element depends on others than itself but by the gradients' norms."""
    return made.clip is not None and (made.clip_place != "before" or bool(made.accumulate))


def _changes(base: Rules, made: Rules) -> dict[str, Any]:
    pairs = {f.name: getattr(made, f.name) for f in dataclasses.fields(Rules)}
    return {
        name: value
        for name, value in pairs.items()
        if not np.array_equal(value, getattr(base, name))
    }


def _solved(difference: np.ndarray, one: np.ndarray) -> float:
    square = float((one**2).sum())
    return float((difference * one).sum()) / square if square else float("nan")


def _solved_rates(base: Rules, given: Problem) -> np.ndarray:
    """The learning rates that make each step nearest to what was observed; steps are linear."""
    lrs = base.lrs.copy()
    for step in range(len(given.gradients)):
        some, none = lrs.copy(), lrs.copy()
        none[step] = 0.0
        one, without = (
            follow(dataclasses.replace(base, lrs=v), given)[:, step] for v in (some, none)
        )
        factor = _solved(given.observed[:, step] - without, one - without)
        lrs[step] *= factor if np.isfinite(factor) else 1.0
    return lrs


def _clipping(factors: np.ndarray, base: Rules, given: Problem) -> str:
    """The limit that plain gradients were clipped to, of the factors of their steps."""
    if base.name != "sgd" or base.momenta.any() or base.weight_decay or base.clip is not None:
        return ""
    own = given.norms[:, 0]
    for norms, what in (
        (np.sqrt(own**2 + given.others**2), "of all together"),
        (own, "tensor by tensor"),
    ):
        limits = (factors * norms)[factors < 1 - 1e-9]
        whole = (factors <= 1 + 1e-9).all() and (norms[factors > 1 - 1e-9] <= limits.min()).all()
        if len(limits) > 1 and np.ptp(limits) < 1e-6 * limits.max() and whole:
            return f"the gradients are clipped to a norm of {limits[0]:.6g}, {what}"
    return ""
