"""Which change of PyTorch's loss gives JAX's values: one, one in several places, two at once."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from parity.diagnosis.losses.before import befores
from parity.diagnosis.losses.calls import LossCall, Suspect, described
from parity.diagnosis.losses.functions import suspects
from parity.diagnosis.losses.numbers import other_factors, other_numbers, plain_number
from parity.diagnosis.losses.ratio import meaning
from parity.diagnosis.losses.trials import ERRORS, Question, Trial
from parity.pairs.budget import Budget

SECONDS = 60.0
"""Until no further change is tried."""


def explain(question: Question) -> str | None:
    """The change that makes PyTorch's loss JAX's; None if none does."""
    budget = Budget(SECONDS)
    calls, results = question.called()
    plain = Trial("")
    factor = question.factor(plain)
    if factor is not None and (text := _meaning(question, calls, factor)) is not None:
        return text
    places = _places(calls)
    singles = [*_of_calls(calls, places), *_everywhere(places)]
    singles += [
        Trial(b.text, before=(b,)) for b in befores(question.outputs[0], question.labels, calls)
    ]
    others = itertools.takewhile(lambda _: budget.left, other_numbers(question, calls))
    numbers = [found for found in others if question.fits(found[1])]
    # Factors of one product cannot be told apart.
    likely = [trial.text for value, trial in numbers if plain_number(value)]
    if likely:
        likely += [t.text for t in singles if _reduces(t.text) and question.fits(t)][:1]
        return ", or ".join(likely)
    for trial in singles:
        if not budget.left:
            return None
        if question.fits(trial):
            return trial.text
    if numbers:
        return ", or ".join(trial.text for _, trial in numbers)
    if factor is not None:
        return f"the loss is {factor:.6g} times PyTorch's"
    for trial in other_factors(question, calls, results):
        if question.fits(trial):
            return trial.text
    return _two(question, calls, singles, budget)


def _meaning(question: Question, calls: Sequence[LossCall], factor: float) -> str | None:
    return meaning(factor, question.outputs[0], question.labels, question.examples, calls)


def _reduces(text: str) -> bool:
    """Whether a suspect is of a sum or a mean, which another number may look like."""
    return "averaged" in text or "summed" in text


Places = dict[tuple[str, int], list[tuple[int, Suspect]]]
"""By what a suspect is called, and its number among those of one call: where it fits."""


def _places(calls: Sequence[LossCall]) -> Places:
    found: Places = {}
    for index, call in enumerate(calls):
        texts: list[str] = []
        for suspect in _listed(call):
            found.setdefault((suspect.text, texts.count(suspect.text)), []).append((index, suspect))
            texts.append(suspect.text)
    return found


def _listed(call: LossCall) -> list[Suspect]:
    try:
        return suspects(call)
    except ERRORS:  # a call of an unusual form has none
        return []


def _of_calls(calls: Sequence[LossCall], places: Places) -> Iterator[Trial]:
    """Each suspect in one place, in the order of the calls."""
    single = [
        (index, suspect, text) for (text, _), found in places.items() for index, suspect in found
    ]
    for index, suspect, text in sorted(single, key=lambda s: s[0]):
        where = described(calls, index)
        text = text if where == calls[index].name else f"{text}, in {where}"
        yield Trial(text, ((index, suspect),))


def _everywhere(places: Places) -> Iterator[Trial]:
    """Each suspect in all places that it fits, where there are several."""
    for (text, _), found in places.items():
        if len(found) > 1:
            yield Trial(f"{text}, in all {len(found)} places", tuple(found))


def _two(
    question: Question, calls: Sequence[LossCall], singles: Sequence[Trial], budget: Budget
) -> str | None:
    """Two changes at once, until time is up."""
    plain = question.value(Trial(""), 0)
    moving: list[Trial] = []
    for trial in singles:
        value = question.value(trial, 0)
        if value is None or plain is None or not np.isfinite(value).all():
            continue
        if np.array_equal(value, plain):
            continue
        moving.append(trial)
        factor = question.factor(trial)
        if factor is not None and (text := _meaning(question, calls, factor)) is not None:
            return f"{trial.text}; and {text}"
    for first, second in itertools.combinations(moving, 2):
        if not budget.left:
            return None
        both = first.and_(second)
        if question.same(question.value(both, 0), 0) and question.fits(both):
            return both.text
    for first in moving:
        if not budget.left:
            return None
        factor = question.factor(first)
        if factor is not None:
            return f"{first.text}; and the loss is {factor:.6g} times PyTorch's"
    return _with_number(question, calls, moving, budget)


def _with_number(
    question: Question, calls: Sequence[LossCall], moving: Sequence[Trial], budget: Budget
) -> str | None:
    """A change, and another number."""
    for first in moving:
        if not budget.left:
            return None
        for _, number in other_numbers(question.after(first), calls):
            both = first.and_(number)
            if question.fits(both):
                return both.text
    return None
