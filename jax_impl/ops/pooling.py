"""Max-pooling with PyTorch's gradient, without a select-and-scatter."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jax_impl.ops.im2col import window_of
from jax_impl.ops.platform import kept


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool2d(images: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """`torch.nn.functional.max_pool2d` on [n, h, w, c], its gradient included.

    Of equal maxima the first in window order gets the whole gradient, as in PyTorch. No
    select-and-scatter, which costs a CPU more than the rest of a small network's step.
    """
    return _max_pool(images, window, stride, padding)[0]


def _max_pool(
    images: jax.Array, window: int, stride: int, padding: int
) -> tuple[jax.Array, jax.Array]:
    """The maxima, and the position within the window of the first of each, as int8."""
    _, h, w, _ = images.shape
    out_h, out_w = ((size + 2 * padding - window) // stride + 1 for size in (h, w))
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, border, constant_values=-jnp.inf)
    best = window_of(padded, 0, 0, out_h, out_w, stride)
    first = jnp.zeros(best.shape, jnp.int8)
    for tap in range(1, window * window):
        value = window_of(padded, tap // window, tap % window, out_h, out_w, stride)
        better = (value > best) | (value != value)  # a NaN wins, as in PyTorch
        best, first = jnp.where(better, value, best), jnp.where(better, jnp.int8(tap), first)
    return best, first


def _max_pool_forward(images: jax.Array, window: int, stride: int, padding: int):
    best, first = _max_pool(images, window, stride, padding)
    return best, (first, images.shape)


def _max_pool_backward(window: int, stride: int, padding: int, saved, gradient: jax.Array):
    """Pixels at the same place of their stride are met by the same taps: a sum for each place."""
    first, (n, h, w, c) = saved
    first, gradient = kept(first), kept(gradient)
    out_h, out_w = gradient.shape[1:3]
    down, across = -(-(h + 2 * padding) // stride), -(-(w + 2 * padding) // stride)
    zero = jnp.zeros((), gradient.dtype)

    def place(row: int, column: int) -> jax.Array:
        total = jnp.zeros((n, down, across, c), gradient.dtype)
        for i in range(row, window, stride):
            for j in range(column, window, stride):
                above, left = i // stride, j // stride
                border = (above, down - out_h - above, 0), (left, across - out_w - left, 0)
                met = jnp.where(first == i * window + j, gradient, zero)
                total += lax.pad(met, zero, ((0, 0, 0), *border, (0, 0, 0)))
        return total

    rows = [jnp.stack([place(i, j) for j in range(stride)], 3) for i in range(stride)]
    total = jnp.stack(rows, 2).reshape(n, stride * down, stride * across, c)
    return (total[:, padding : padding + h, padding : padding + w],)


max_pool2d.defvjp(_max_pool_forward, _max_pool_backward)
