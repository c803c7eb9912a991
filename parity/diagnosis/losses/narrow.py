"""Whether a loss is computed in a narrower precision than its outputs have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from parity.ladder.tolerance import relative_error
from parity.pairs.trees import filled, leaves

TOLERANCE = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}
"""The most, relative, that a loss computed in it may be off."""


def computed_in(
    ours: Callable[[Any], np.ndarray], theirs: Callable[[Any], np.ndarray], outputs: Any
) -> str | None:
    """The precision that JAX's loss of float64 outputs is computed in, if that is a narrower one.

    Outputs are moved by far less than a narrower precision tells apart, and by twice as much. A
    loss in float64 moves by twice as much then, one in less not at all or by its own roundings.

    Args:
        ours: JAX's loss of outputs in PyTorch's structure.
        theirs: PyTorch's.
        outputs: of float64 tensors.
    """
    narrow = str(ours(outputs).dtype)
    if narrow in TOLERANCE:
        return narrow
    if _jumps(ours, theirs, outputs, 2.0**-18):
        return _half(ours, theirs, outputs)
    return "float32" if _jumps(ours, theirs, outputs, 2.0**-34) else None


def partly(
    ours: Callable[[Any], np.ndarray], theirs: Callable[[Any], np.ndarray], outputs: Any
) -> bool:
    """Whether some of JAX's loss is computed in float32: it moves by other steps than PyTorch's.

    Of losses that agree as far as float32 tells.
    """
    start, their_start = np.sum(ours(outputs)), np.sum(theirs(outputs))
    if relative_error(ours(outputs), theirs(outputs)) > TOLERANCE["float32"]:
        return False
    jumps = 0
    for seed in range(6):
        moved = _moved(outputs, 2.0**-34, seed)
        move, expected = np.sum(ours(moved)) - start, np.sum(theirs(moved)) - their_start
        jumps += abs(move - expected) > 0.05 * abs(expected)
    return jumps > 3


def _half(
    ours: Callable[[Any], np.ndarray], theirs: Callable[[Any], np.ndarray], outputs: Any
) -> str:
    """The one whose values JAX's all are; else the one whose rounding is as large as the error."""
    near = [_moved(outputs, 0.25, seed) for seed in range(8)]
    values = [torch.from_numpy(np.array(ours(x), np.float64)) for x in near]
    for dtype in (torch.bfloat16, torch.float16):
        if all(torch.equal(value, value.to(dtype).double()) for value in values):
            return str(dtype).removeprefix("torch.")

    def error(found: Callable[[Any], np.ndarray]) -> float:
        return float(np.mean([relative_error(found(x), theirs(x)) for x in near])) or 1e-16

    apart = {
        dtype: abs(np.log(error(lambda x, d=dtype: theirs(_cast(x, d))) / error(ours)))
        for dtype in ("bfloat16", "float16")
    }
    return min(apart, key=lambda dtype: apart[dtype])


def _jumps(
    ours: Callable[[Any], np.ndarray],
    theirs: Callable[[Any], np.ndarray],
    outputs: Any,
    size: float,
    tries: int = 6,
) -> bool:
    """Whether JAX's loss moves otherwise than in proportion, on most tries; PyTorch's does."""
    start, their_start = np.sum(ours(outputs)), np.sum(theirs(outputs))
    jumps = 0
    for seed in range(tries):
        once, twice = (_moved(outputs, size * times, seed) for times in (1, 2))
        moves = np.array([np.sum(ours(once)), np.sum(ours(twice))]) - start
        expected = np.array([np.sum(theirs(once)), np.sum(theirs(twice))]) - their_start
        smooth = expected[0] and abs(expected[1] / expected[0] - 2) < 0.1
        if not smooth or not np.isfinite(moves).all():
            return False
        jumps += not moves[0] or abs(moves[1] / moves[0] - 2) > 0.2
    return jumps > tries // 2


def _moved(outputs: Any, size: float, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def moved(x: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return x * (1 + size * (2 * noise - 1))

    return _mapped(moved, outputs)


def _cast(outputs: Any, dtype: str) -> Any:
    """Rounded to a precision, in float64 still."""
    return _mapped(lambda x: x.to(getattr(torch, dtype)).to(x.dtype), outputs)


def _mapped(function: Callable[[torch.Tensor], torch.Tensor], outputs: Any) -> Any:
    tensors = {p: x for p, x in leaves(outputs).items() if isinstance(x, torch.Tensor)}
    return filled(outputs, {p: function(x) for p, x in tensors.items() if x.is_floating_point()})
