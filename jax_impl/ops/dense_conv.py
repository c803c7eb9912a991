"""Convolution of maps so small that every output sees all of one, as a dense layer.

With "same" padding a k x k kernel covers a map of at most (k + 1) / 2 pixels a side from each of
its places. [h w c] numbers then give [h w o]: of 2x2 maps and a 3x3 kernel a product of 16 blocks
of c x o, where im2col copies and multiplies 36, most of them of padding.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def covered(images: jax.Array, kernel: jax.Array, padding: int) -> bool:
    """Whether every output of a convolution of stride 1 sees all of a map."""
    _, h, w, _ = images.shape
    kh, kw, _, _ = kernel.shape
    return kh == kw == 2 * padding + 1 and max(h, w) <= padding + 1


def conv2d(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Cross-correlation with stride 1 and "same" padding, where `covered`.

    [n, h, w, c], [kh, kw, c, o] -> [n, h, w, o].
    """
    n, h, w, _ = images.shape
    kh, kw, _, o = kernel.shape
    top, left = kh // 2 - (h - 1), kw // 2 - (w - 1)
    taps = kernel[top : top + 2 * h - 1, left : left + 2 * w - 1]
    matrix: Any = _matrix(taps, h, w)
    return (images.reshape(n, -1) @ matrix).reshape(n, h, w, o)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _matrix(taps: jax.Array, h: int, w: int) -> jax.Array:
    """The kernel as a dense layer's: [2 h - 1, 2 w - 1, c, o] -> [h w c, h w o].

    By pixel of the input and of the output it has the tap that leads from one to the other.
    """
    pixels = list(np.ndindex(h, w))
    rows = [
        jnp.concatenate([taps[i - y + h - 1, j - x + w - 1] for y, x in pixels], axis=1)
        for i, j in pixels
    ]
    return jnp.concatenate(rows)


def _forward(taps: jax.Array, h: int, w: int):
    return _matrix(taps, h, w), None


def _backward(h: int, w: int, _: None, gradient: jax.Array):
    blocks = gradient.reshape(h, w, -1, h, w, gradient.shape[1] // (h * w))

    def by_tap(down: int, across: int) -> jax.Array:
        met = [
            blocks[y + down, x + across, :, y, x]
            for y, x in np.ndindex(h, w)
            if 0 <= y + down < h and 0 <= x + across < w
        ]
        return sum(met[1:], met[0])

    # Stacked sums of blocks: JAX's own would add up arrays of zeros around each block.
    rows = [jnp.stack([by_tap(i, j) for j in range(1 - w, w)]) for i in range(1 - h, h)]
    return (jnp.stack(rows),)


_matrix.defvjp(_forward, _backward)
