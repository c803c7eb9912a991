"""What departs of an optimizer, in words: of which parameters, and how a learning rate moves."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

NAMED = 4
"""Parameters that are named."""

SAME = 1e-7
"""Relative: two learning rates are one, for they are solved for."""

VECTORS = "parameters of one dimension (biases)"
MATRICES = "parameters of several dimensions (weights)"


def who(
    names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], groups: Sequence[Sequence[str]]
) -> str:
    """Some of the parameters, by what they have in common if that is all of such."""
    chosen = set(names)
    if len(groups) > 1:
        for number, group in enumerate(groups, 1):
            if chosen == set(group):
                return f"parameter group {number} of PyTorch ({listed(names)})"
    if chosen == {name for name, shape in shapes.items() if len(shape) <= 1}:
        return VECTORS
    if chosen == {name for name, shape in shapes.items() if len(shape) > 1}:
        return MATRICES
    return listed(names)


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def restricted(text: str, names: str, rates: Mapping[str, str]) -> str:
    """A cause that holds for some parameters alone.

    Args:
        text: the cause.
        names: of which parameters.
        rates: texts of weight decays that other parameters of PyTorch have.
    """
    if text == "the weight decay is missing" and names == VECTORS:
        return f"the weight decay skips {VECTORS}"
    if text in rates:
        return f"the weight decay of {rates[text]} is applied to {names} too"
    return f"{text}, for {names}"


def rate(factors: np.ndarray, own: float, others: Sequence[float] = ()) -> str:
    """How the learning rate differs, of its factors by PyTorch's at each step."""
    first = float(factors[0])
    if (np.abs(factors / first - 1) < SAME).all() if first else not factors.any():
        if not first:
            return "the learning rate is 0"
        if abs(first - 1) > 1e-12 and abs(first * own / float(np.float32(own)) - 1) < 1e-12:
            return "the learning rate is rounded to float32"
        for other in others:
            if abs(first * own / other - 1) < SAME and abs(other / own - 1) > SAME:
                return f"the learning rate is {other:g}, that of another group, instead of {own:g}"
        return f"the learning rate is {first:.6g} times PyTorch's"
    told = ", ".join(f"{factor:.4g}" for factor in factors[:6])
    more = ", ..." if len(factors) > 6 else ""
    text = f"the learning rate follows a schedule: {told}{more} times PyTorch's at the steps"
    kind = _schedule(factors)
    return f"{text} ({kind})" if kind else text


def _schedule(factors: np.ndarray) -> str:
    steps = np.arange(len(factors))
    differences = np.diff(factors)

    def alike(values: np.ndarray) -> bool:
        return bool(np.ptp(values) < 1e-6 * np.abs(values).max())

    if len(factors) > 2 and alike(differences):
        return "a linear warm-up" if differences[0] > 0 else "a linear decay"
    if (factors > 0).all() and len(factors) > 2 and alike(factors[1:] / factors[:-1]):
        return f"exponential, {factors[1] / factors[0]:.6g} times a step"
    peak = factors[0]
    ratio = 2 * factors[1] / peak - 1
    if peak > 0 and -1 < ratio < 1:
        period = math.pi / math.acos(ratio)
        if np.allclose(factors / peak, (1 + np.cos(math.pi * steps / period)) / 2, atol=1e-6):
            return f"a cosine over {period:.4g} steps"
    if len(factors) > 2 and np.allclose(factors * np.sqrt(steps + 1), peak, rtol=1e-6):
        return "1 / sqrt(step)"
    if len(factors) > 2 and alike(np.diff(factors[1:])) and differences[0] > 0 and not factors[0]:
        return "a linear warm-up from 0"
    changed = np.flatnonzero(np.abs(differences) > 1e-6 * np.abs(factors).max())
    if len(changed) == 1 and factors[changed[0]]:
        after = factors[changed[0] + 1] / factors[changed[0]]
        return f"constant, and {after:.6g} times so much from step {changed[0] + 2}"
    return ""
