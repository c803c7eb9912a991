"""JAX's tensors in the shape of PyTorch's, where the layouts of the two tell how."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from parity.ladder.tolerance import relative_error

Way = Callable[[np.ndarray], np.ndarray]
"""From JAX's layout to PyTorch's."""

SAME = 1e-6
"""Relative: two that are this near are in one layout."""


CLEARLY = 0.3
"""Of an error: another layout with less than that is the right one."""


class Layout(NamedTuple):
    """How a tensor of JAX's is laid upon PyTorch's: by which move, and whether the two agree."""

    name: str
    way: Way
    agrees: bool


def aligned(
    value: np.ndarray, reference: np.ndarray, channels_last: bool, inner: bool = True
) -> np.ndarray | None:
    """`value` in the reference's shape, or None. The arguments are those of `layout`."""
    found = layout(value, reference, channels_last, inner)
    return None if found is None else found.way(value)


def layout(
    value: np.ndarray,
    reference: np.ndarray,
    channels_last: bool,
    inner: bool = True,
    expected: str | None = None,
) -> Layout | None:
    """The layout of a value of JAX's, for others of its shape too; None if its size is another.

    Of several ways the one to be expected, by the name of a move or else by `channels_last`, unless
    another one brings the values clearly nearer: shapes do not tell where sides are equal. The
    output of an `inner` module may also be NHWC where the model's is NCHW and the reverse, and have
    its heads on an axis of their own ([n, t, heads, d] against [n, t, heads d]).
    """
    nearest: tuple[float, Layout] | None = None
    moves = dict(_moves(value.ndim, channels_last, inner))
    fitting = [name for name, move in moves.items() if move(value).shape == reference.shape]
    fitting.sort(key=lambda name: name != expected)
    # Any two tensors of one size can be reshaped into each other, so that comes last.
    reshaping = [n for n in moves if n not in fitting and inner and value.size == reference.size]
    for name in fitting + reshaping:

        def way(array: np.ndarray, move: Way = moves[name]) -> np.ndarray:
            return move(array).reshape(reference.shape)

        error = relative_error(way(value), reference)
        if nearest is None or error < CLEARLY * nearest[0]:
            nearest = error, Layout(name, way, error <= SAME)
        if error <= SAME:
            break
    return None if nearest is None else nearest[1]


def _moves(axes: int, channels_last: bool, inner: bool) -> Iterator[tuple[str, Way]]:
    """By name, the likeliest first."""
    second = "channels to the second axis", lambda array: np.moveaxis(array, -1, 1)
    if channels_last and axes == 4:
        yield second
    yield "none", lambda array: array
    if axes >= 3 and (channels_last or inner):
        yield second
    if inner and axes == 4:
        yield "heads before time", lambda array: array.transpose(0, 2, 1, 3)
    if inner and axes == 3:  # recurrent nets may have time first
        yield "examples before time", lambda array: array.transpose(1, 0, 2)
