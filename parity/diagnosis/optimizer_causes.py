"""Why an optimizer departs from PyTorch's: the fault that reproduces what it did."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from parity.diagnosis.optimizer_faults import faults
from parity.diagnosis.optimizer_rules import Rules, rules, trajectory
from parity.ladder.tolerance import FLOAT64_TOLERANCE, relative_error
from parity.pairs.optimizers import OptimizerSpec
from parity.pairs.pair import Tensors

AGREEMENT = 1e-9
"""A cause agrees to so much, relative to a tensor's largest value, ..."""

IMPROVEMENT = 1e-3
"""... and to so small a part of the difference from PyTorch that it explains, ..."""

ROUNDING = 1e-13
"""... but is not asked for less than what exact implementations differ by after dozens of steps."""


class Departure(NamedTuple):
    """The first step, from 1, and tensor that differ from torch.optim's, and their difference."""

    step: int
    name: str
    error: float


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

    Every known fault is tried alone, as a change of the rules. Several may do the same: the answer
    names them all, the likeliest first, with ", or " between them.

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
    base = rules(spec, len(gradients))
    unexplained = _error(base, params, gradients, observed)
    limit = max(min(AGREEMENT, IMPROVEMENT * unexplained), ROUNDING)
    fits = [
        text
        for text, changed in faults(spec, base)
        if _error(changed, params, gradients, observed) <= limit
    ]
    return ", or ".join(dict.fromkeys(fits)) or None


def _error(
    followed: Rules, params: Tensors, gradients: Sequence[Tensors], observed: Sequence[Tensors]
) -> float:
    """The largest relative error of any tensor at any step."""
    made = trajectory(followed, params, gradients)
    return max(
        relative_error(found[name], value)
        for found, tensors in zip(observed, made, strict=True)
        for name, value in tensors.items()
    )
