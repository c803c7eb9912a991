"""Convolution as im2col and one matrix product, whose gradients are products too."""

import jax
import jax.numpy as jnp
from jax import lax

FEW_CHANNELS = 8
"""Up to so many, taps are taken by whole rows: of one alone there is too little to copy."""


def conv2d_im2col(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int, groups: int
) -> jax.Array:
    """`conv2d` as one matrix product, batched over the groups.

    Taps that only ever meet padding are left out.
    """
    n, _, _, c = images.shape
    o = kernel.shape[-1]
    (rows, out_h), (columns, out_w) = live_taps(images, kernel, stride, padding, dilation)
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    weights = kernel[rows.start : rows.stop, columns.start : columns.stop]
    if groups == dilation == 1 and len(columns) > stride > 1 and c <= FEW_CHANNELS:
        taps = _taps_by_rows(padded, rows, columns, out_h, out_w, stride)
    else:
        taps = [
            window_of(padded, i * dilation, j * dilation, out_h, out_w, stride)
            for i in rows
            for j in columns
        ]
    if groups == 1:
        patches = jnp.concatenate(taps, axis=-1) if len(taps) > 1 else taps[0]
        flat = patches.reshape(n * out_h * out_w, -1) @ weights.reshape(-1, o)
        return flat.reshape(n, out_h, out_w, o)
    patches = jnp.stack(taps, axis=-2).reshape(-1, len(taps), groups, c // groups)
    weights = weights.reshape(len(taps), c // groups, groups, o // groups)
    flat = jnp.einsum("ptgc,tcgo->pgo", patches, weights)
    return flat.reshape(n, out_h, out_w, o)


def live_taps(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int
) -> list[tuple[range, int]]:
    """For each axis of `conv2d` the taps that ever meet a pixel, and the output's size."""
    found = []
    for size, taps in zip(images.shape[1:3], kernel.shape[:2], strict=True):
        out = (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        found.append((_live(taps, size, out, stride, padding, dilation), out))
    return found


def _live(size: int, extent: int, out: int, stride: int, padding: int, dilation: int) -> range:
    """The taps along one axis of the kernel that meet a pixel at some output position."""
    live = [
        tap
        for tap in range(size)
        if any(
            0 <= tap * dilation - padding + stride * position < extent for position in range(out)
        )
    ]
    return range(live[0], live[-1] + 1)


def window_of(padded: jax.Array, i: int, j: int, out_h: int, out_w: int, stride: int) -> jax.Array:
    """What a tap at offset (i, j) meets: [n, out_h, out_w, c]."""
    n, _, _, c = padded.shape
    stop = (n, i + (out_h - 1) * stride + 1, j + (out_w - 1) * stride + 1, c)
    return lax.slice(padded, (0, i, j, 0), stop, (1, stride, stride, 1))


def _taps_by_rows(
    padded: jax.Array, rows: range, columns: range, out_h: int, out_w: int, stride: int
) -> list[jax.Array]:
    """What the taps of each row of the kernel meet: [n, out_h, out_w, columns c], in `rows`.

    Pixels of one stride lie together in memory: a row's taps are copied as runs of that length, for
    all rows of pixels at once.
    """
    n, h, _, c = padded.shape
    across = out_w + (len(columns) - 1) // stride
    padded = padded[:, :, columns.start : columns.start + across * stride]
    missing = across * stride - padded.shape[2]
    runs = jnp.pad(padded, ((0, 0), (0, 0), (0, missing), (0, 0))).reshape(n, h, across, -1)
    line = [
        lax.slice(runs, (0, 0, j, 0), (n, h, j + out_w, min(stride, len(columns) - j * stride) * c))
        for j in range(-(-len(columns) // stride))
    ]
    met = jnp.concatenate(line, axis=-1)
    return [lax.slice_in_dim(met, i, i + (out_h - 1) * stride + 1, stride, axis=1) for i in rows]
