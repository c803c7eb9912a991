"""Numbers in a loss (a margin, a smoothing, a weight of a term) that are others in JAX."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from parity.diagnosis.losses.calls import LossCall, Suspect, described, floating
from parity.diagnosis.losses.trials import Question, Trial

ARITHMETIC = frozenset(
    "add sub mul div true_divide pow clamp clamp_min clamp_max add_ sub_ mul_ div_ pow_ maximum "
    "minimum __add__ __sub__ __mul__ __truediv__ __rsub__ __rdiv__ __pow__ __rpow__".split()
)
"""Functions whose positional numbers may be others; of the rest it is those with a name."""

NAMED = frozenset("margin beta delta label_smoothing eps p min max value threshold alpha".split())


class Number(NamedTuple):
    """A number that a call is given."""

    call: int
    name: str
    value: float


def numbers_of(calls: Sequence[LossCall]) -> list[Number]:
    """Every number that may be another in JAX."""
    found = []
    for index, call in enumerate(calls):
        for name, value in call.given.items():
            known = name in NAMED or (name.isdigit() and call.name in ARITHMETIC)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if known and number and abs(value) < 1e30:
                found.append(Number(index, name, float(value)))
    return found


def other_numbers(question: Question, calls: Sequence[LossCall]) -> Iterator[tuple[float, Trial]]:
    """Another number, and the trial with it, which gives JAX's value of the first outputs.

    That number is solved for. One that stands in several places, or has another one that follows
    from it (`_LINKED`), is changed in all of them.
    """
    numbers = numbers_of(calls)
    for number in numbers:
        for value in _solutions(question, lambda v, n=number: Trial("", (_set(n, v),)), number):
            yield value, Trial(_said(calls, number, value), (_set(number, value),))
    seen: set[frozenset[Number]] = set()
    for (value, name), (text, of) in itertools.product(
        dict.fromkeys((n.value, calls[n.call].name) for n in numbers), _LINKED.items()
    ):
        kind = [n for n in numbers if calls[n.call].name == name]
        alike = [n for n in kind if n.value == value]
        linked = [n for n in kind if text and n.value != value and abs(n.value - of(value)) < 1e-12]
        group = frozenset(alike + linked)
        if len(alike) < 2 if text == "" else not linked or group in seen:
            continue
        seen.add(group)

        def all_of(v: float, alike: Any = alike, linked: Any = linked, of: Any = of) -> Trial:
            return Trial("", tuple([_set(n, v) for n in alike] + [_set(n, of(v)) for n in linked]))

        for other in _solutions(question, all_of, alike[0]):
            said = f"the number {value:g} is {other:.6g}"
            if linked:
                said += f", and {of(value):g} is {of(other):.6g}"
            elif len({n.name for n in alike}) == 1:
                said = f"{_said(calls, alike[0], other)}, in all {len(alike)} places"
            yield other, all_of(other)._replace(text=said)


_LINKED: dict[str, Callable[[float], float]] = {
    "": lambda v: v,
    "the weights of two kinds": lambda v: 1 - v,
    "a range about one": lambda v: 2 - v,
    "a range about zero": lambda v: -v,
}
"""Numbers that stand for one: those of one value, and another one that follows from it."""


def plain_number(value: float) -> bool:
    """Whether somebody may have written it: it has at most three digits."""
    return abs(float(f"{value:.3g}") - value) <= 1e-8 * abs(value)


def _set(number: Number, value: float) -> tuple[int, Suspect]:
    return number.call, Suspect("", edit=lambda call: call.with_(**{number.name: value}))


def _said(calls: Sequence[LossCall], number: Number, value: float) -> str:
    call, was = calls[number.call], number.value
    new = f"{value:.6g}"
    if number.name == "label_smoothing":
        if not was:
            return f"labels are smoothed by {new}"
        if abs(value) < 1e-12:
            return "the label smoothing is ignored"
        classes = call.given["input"].shape[1]
        if abs(value / was * (classes - 1) / classes - 1) < 1e-8:
            return f"the label smoothing is shared by the other classes alone, or it is {new}"
        return f"the labels are smoothed by {new} and not {was:g}"
    if not number.name.isdigit():
        return f"{number.name} is {new} and not {was:g} in {described(calls, number.call)}"
    if call.name in ("pow", "__pow__"):
        return f"the exponent is {new} and not {was:g}"
    if call.name in ("mul", "__mul__") and abs(value) < 1e-12:
        return f"the term with the factor {was:g} is missing"
    if call.name in ("add", "sub", "__add__", "__sub__") and abs(value) < 1e-12:
        return f"{was:g} is not {'added' if 'add' in call.name else 'subtracted'}"
    word = {"mul": "factor", "div": "divisor", "add": "summand"}.get(call.name, "number")
    return f"the {word} {was:g} is {new} in JAX"


def _solutions(
    question: Question, trial: Callable[[float], Trial], number: Number
) -> Iterator[float]:
    """Values that give JAX's loss of the first outputs: a usual one, or between two that do not."""
    goal, was = float(np.sum(question.ours[0])), number.value
    scale = abs(goal) or 1.0

    def miss(value: float) -> float:
        found = question.value(trial(value), 0)
        return float("nan") if found is None else float(np.sum(found)) - goal

    here = miss(was)
    if not np.isfinite(here):
        return
    usual = [0.0, 0.5, 1.0, 2.0, 3.0, 0.1, 0.2, 1e-8, 1e-6, 1e-5, -was, 1 - was]
    usual += [1 / was, was / 2, was * 2, was**2, was * 10, was / 10] if was else []
    moves = False
    for value in usual:
        found = miss(value)
        moves = moves or found != here
        if abs(found) <= question.tolerance * scale:
            yield value
            return
    if not moves:
        return
    sizes = np.geomspace(1e-6, 1e6, 37) * (abs(was) or 1.0)
    grid = sorted({was, 0.0, *(np.sign(was) or 1.0) * sizes})
    misses = [miss(value) for value in grid]
    for (a, b), (low, high) in zip(
        itertools.pairwise(grid), itertools.pairwise(misses), strict=True
    ):
        if np.isfinite([low, high]).all() and low * high < 0:
            yield float(optimize.brentq(miss, a, b, xtol=1e-300, rtol=1e-15))  # pyright: ignore[reportArgumentType]


def other_factors(
    question: Question, calls: Sequence[LossCall], results: Sequence[Any]
) -> Iterator[Trial]:
    """Trials with the result of one call times a number: a term that is missing, or weighted."""
    goal = np.asarray(question.ours[0])
    plain = question.value(Trial(""), 0)
    for index, result in enumerate(results):
        if not floating(result) or plain is None:
            continue

        def times(factor: float, index: int = index) -> Trial:
            made = Suspect("", make=lambda call: call.plain() * factor)
            return Trial("", ((index, made),))

        without = question.value(times(0.0), 0)
        if without is None or without.shape != goal.shape:
            continue
        slope = np.sum(plain - without)
        if not np.isfinite(slope) or not slope:
            continue
        factor = float(np.sum(goal - without) / slope)
        factor = 0.0 if abs(factor) < 1e-9 else factor
        of = described(calls, index)
        text = f"the result of {of} is {factor:.6g} times PyTorch's"
        if not factor:
            text = f"the term of {of} is missing"
        elif abs(factor + 1) < 1e-8:
            text = f"the sign of {of} is wrong"
        yield times(factor)._replace(text=text)
