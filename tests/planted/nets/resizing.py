"""Bilinear interpolation of [n, c, h, w] in the ways that ports do it."""

import jax
import jax.numpy as jnp


def bilinear(
    x: jax.Array, size: tuple[int, int], *, align_corners: bool = False, half_pixels: bool = True
) -> jax.Array:
    """PyTorch's `interpolate(mode="bilinear")`; without `half_pixels` as TensorFlow 1 did."""
    for axis, wanted in zip((2, 3), size, strict=True):
        x = _along(x, axis, wanted, align_corners, half_pixels)
    return x


def _along(x: jax.Array, axis: int, wanted: int, corners: bool, half: bool) -> jax.Array:
    size = x.shape[axis]
    places = jnp.arange(wanted, dtype=x.dtype)
    if corners:
        places = places * (size - 1) / (wanted - 1)
    elif half:
        places = (places + 0.5) * size / wanted - 0.5
    else:
        places = places * size / wanted
    places = jnp.clip(places, 0, size - 1)
    low = jnp.floor(places).astype(int)
    high = jnp.minimum(low + 1, size - 1)
    part = (places - low).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return x.take(low, axis) * (1 - part) + x.take(high, axis) * part
