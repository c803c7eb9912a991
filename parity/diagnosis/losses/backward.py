"""Where the gradient of a loss by the outputs is stopped, on one side alone."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from parity.diagnosis.common import SAME, SECONDS
from parity.diagnosis.losses.calls import Changing, LossCall, Suspect, described
from parity.diagnosis.losses.trials import ERRORS
from parity.ladder.rungs.loss import cloned, torch_gradients
from parity.ladder.tolerance import relative_error
from parity.pairs.budget import Budget
from parity.pairs.pair import Tensors
from parity.pairs.widening import widened

Changes = tuple[tuple[int, Suspect], ...]


def stopped(
    loss: Callable[[Any, Any], Any], outputs: Any, labels: Any, examples: int, ours: Tensors
) -> str | None:
    """The change of the PyTorch loss that leaves its value, and makes its gradient JAX's.

    Args:
        loss: PyTorch's, (outputs, labels) -> tensor.
        outputs: fixed ones, as PyTorch's loss takes them.
        labels: as PyTorch's loss takes them.
        examples: their number.
        ours: JAX's gradient by the outputs, by path.
    """
    mode = Changing(examples, keep=True)

    def seen(outputs: Any, labels: Any) -> Any:
        with mode:
            return loss(outputs, labels)

    theirs = torch_gradients(widened(seen), cloned(outputs), labels)
    ratio = _ratio(ours, theirs)
    if ratio is not None:
        if not ratio:
            return "no gradient passes through the loss"
        return f"the gradient of the loss is {ratio:.6g} times PyTorch's, its value the same"
    # A part of a tensor is what is computed of it, which says more.
    singles = sorted(
        _suspects(mode.calls, mode.results),
        key=lambda single: mode.calls[single[1][0][0]].name == "__getitem__",
    )
    budget = Budget(SECONDS)
    for text, changes in itertools.chain(singles, _everywhere(mode.calls, singles), _two(singles)):
        if not budget.left:
            return None
        given: dict[int, list[Suspect]] = {}
        for index, suspect in changes:
            given.setdefault(index, []).append(suspect)

        def changed(outputs: Any, labels: Any, given: Any = given) -> Any:
            with Changing(examples, given):
                return loss(outputs, labels)

        try:
            found = torch_gradients(widened(changed), cloned(outputs), labels)
        except ERRORS:
            continue
        if all(relative_error(ours[path], found[path]) <= SAME for path in ours):
            return text
    return None


def _ratio(ours: Tensors, theirs: Tensors) -> float | None:
    """The number that PyTorch's gradient is to be multiplied by to be JAX's."""
    a, b = (np.concatenate([np.ravel(x[path]) for path in ours]) for x in (ours, theirs))
    power = float(b @ b)
    ratio = float(a @ b) / power if power else 0.0
    return ratio if relative_error(a, ratio * b) <= SAME else None


def _suspects(calls: Sequence[LossCall], results: Sequence[Any]) -> Iterator[tuple[str, Changes]]:
    """Each call's result, and each of its tensors where there are several, without a gradient."""
    for index, (call, result) in enumerate(zip(calls, results, strict=True)):
        where = described(calls, index)
        if call.name == "detach":
            text = "the gradient is not stopped where PyTorch's is, by detach"
            yield text, ((index, Suspect(text, make=lambda call: call.args[0] * 1)),)
        if not isinstance(result, torch.Tensor) or not result.requires_grad:
            continue
        stop = Suspect("", make=lambda call: call.plain().detach())
        yield f"the gradient is stopped at {where} in the loss", ((index, stop),)
        names = [
            n for n, v in call.given.items() if isinstance(v, torch.Tensor) and v.requires_grad
        ]
        for name in names if len(names) > 1 else ():
            cut = Suspect("", edit=lambda call, n=name: call.with_(**{n: call.given[n].detach()}))
            word = {"0": "first argument", "1": "second argument"}.get(name, name)
            yield f"the gradient is stopped at the {word} of {where} in the loss", ((index, cut),)


def _everywhere(
    calls: Sequence[LossCall], singles: Sequence[tuple[str, Changes]]
) -> Iterator[tuple[str, Changes]]:
    """All calls of one name at once."""
    for name in dict.fromkeys(call.name for call in calls):
        alike = [c for _, (c,) in singles if calls[c[0]].name == name and c[1].make is not None]
        if len(alike) > 1:
            yield f"the gradient is stopped at every {name} in the loss", tuple(alike)


def _two(singles: Sequence[tuple[str, Changes]]) -> Iterator[tuple[str, Changes]]:
    for (first, a), (second, b) in itertools.combinations(singles, 2):
        if a[0][0] != b[0][0]:
            yield f"{first}; and {second}", a + b
