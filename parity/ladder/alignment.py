"""JAX's tensors in the shape of PyTorch's, where the layouts of the two tell how."""

from collections.abc import Iterator

import numpy as np

from parity.ladder.tolerance import relative_error

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
    nearest: tuple[float, np.ndarray] | None = None
    for candidate in _candidates(value, channels_last, inner):
        if candidate.shape != reference.shape:
            if not inner or candidate.size != reference.size:
                continue
            candidate = candidate.reshape(reference.shape)
        error = relative_error(candidate, reference)
        if nearest is None or error < CLEARLY * nearest[0]:
            nearest = error, candidate
        if error <= SAME:
            break
    return None if nearest is None else nearest[1]


def _candidates(value: np.ndarray, channels_last: bool, inner: bool) -> Iterator[np.ndarray]:
    moved = np.moveaxis(value, -1, 1) if value.ndim >= 3 else value
    if channels_last and value.ndim == 4:
        yield moved
    yield value
    if value.ndim >= 3 and (channels_last or inner):
        yield moved
    if inner and value.ndim == 4:
        yield value.transpose(0, 2, 1, 3)
    if inner and value.ndim == 3:  # recurrent nets may have time first
        yield value.transpose(1, 0, 2)
