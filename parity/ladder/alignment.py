"""JAX's tensors in the shape of PyTorch's, where the layouts of the two tell how."""

from collections.abc import Callable, Iterator

import numpy as np

from parity.ladder.tolerance import relative_error

Way = Callable[[np.ndarray], np.ndarray]
"""From JAX's layout to PyTorch's."""

SAME = 1e-6
"""Relative: two that are this near are in one layout."""


CLEARLY = 0.3
"""Of an error: another layout with less than that is the right one."""


def aligned(
    value: np.ndarray, reference: np.ndarray, channels_last: bool, inner: bool = True
) -> np.ndarray | None:
    """`value` in the reference's shape, or None.

    Of several ways the one to be expected, by `channels_last`, unless another one brings the values
    clearly nearer: shapes do not tell where sides are equal. The output of an `inner` module may
    also be NHWC where the model's is NCHW and the reverse, and have its heads on an axis of their
    own ([n, t, heads, d] against [n, t, heads d]).
    """
    way = layout(value, reference, channels_last, inner)
    return None if way is None else way(value)


def layout(
    value: np.ndarray, reference: np.ndarray, channels_last: bool, inner: bool = True
) -> Way | None:
    """What `aligned` does with the value, for others of its shape."""
    nearest: tuple[float, Way] | None = None
    moves = list(_moves(value.ndim, channels_last, inner))
    fitting = [move for move in moves if move(value).shape == reference.shape]
    # Any two tensors of one size can be reshaped into each other, so that comes last.
    reshaping = [m for m in moves if m not in fitting and inner and value.size == reference.size]
    for move in fitting + reshaping:

        def way(array: np.ndarray, move: Way = move) -> np.ndarray:
            return move(array).reshape(reference.shape)

        error = relative_error(way(value), reference)
        if nearest is None or error < CLEARLY * nearest[0]:
            nearest = error, way
        if error <= SAME:
            break
    return None if nearest is None else nearest[1]


def _moves(axes: int, channels_last: bool, inner: bool) -> Iterator[Way]:
    def to_second(array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, -1, 1)

    if channels_last and axes == 4:
        yield to_second
    yield lambda array: array
    if axes >= 3 and (channels_last or inner):
        yield to_second
    if inner and axes == 4:
        yield lambda array: array.transpose(0, 2, 1, 3)
    if inner and axes == 3:  # recurrent nets may have time first
        yield lambda array: array.transpose(1, 0, 2)
