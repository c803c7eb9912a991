"""Augmentation of a batch on the device: crop, flip, normalise and cut out, as torchvision does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_impl.data.augmentation import Augmentation
from jax_impl.data.datasets import normalize
from jax_impl.errors import InputError
from jax_impl.torch_random.loader import Drawn


def draw(key: jax.Array, augmentation: Augmentation, images: jax.ShapeDtypeStruct | Any) -> Drawn:
    """What a batch of images [n, h, w, c] needs, each image on its own, of JAX's generator."""
    n, h, w, _ = images.shape
    # One call: on a CPU each costs as much as a small net's layer. 2^32 is so many times any of
    # the sizes that the remainders are as good as even.
    top, left, flipped, row, column = jax.random.bits(key, (len(Drawn._fields), n))

    def below(words: jax.Array, size: int) -> jax.Array:
        return (words % np.uint32(size)).astype(np.int32)

    drawn = Drawn()
    if augmentation.crop:
        corners = 2 * augmentation.crop + 1
        drawn = drawn._replace(top=below(top, corners), left=below(left, corners))
    if augmentation.flip:
        drawn = drawn._replace(flipped=flipped < np.uint32(2**31))
    if augmentation.cutout:
        drawn = drawn._replace(row=below(row, h), column=below(column, w))
    return drawn


def augmented(images: Any, dtype: Any, drawn: Drawn, augmentation: Augmentation) -> jax.Array:
    """uint8 [n, h, w, c] -> normalised `dtype` [n, h, w, c].

    In float32 bit for bit what torchvision gives for the same draws: `RandomCrop`,
    `RandomHorizontalFlip`, `ToTensor`, `Normalize`, and `torch_ref.augment.Cutout`.

    Raises:
        InputError: something is to be done that nothing was drawn for.
    """
    needed = {"crop": "top left", "flip": "flipped", "cutout": "row column"}
    for name in augmentation.names:
        for field in needed[name].split():
            if getattr(drawn, field) is None:
                raise InputError(f"{name}: nothing is drawn for it: give {field}")
    if augmentation.crop:
        images = _crop(images, drawn, augmentation)
    if augmentation.flip:
        images = jnp.where(drawn.flipped[:, None, None, None], images[:, :, ::-1], images)
    inputs = normalize(images, dtype)
    return _cut_out(inputs, drawn, augmentation.cutout) if augmentation.cutout else inputs


def _crop(images: jax.Array, drawn: Any, augmentation: Augmentation) -> jax.Array:
    margin = (augmentation.crop,) * 2
    mode = "reflect" if augmentation.reflect else "constant"
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode=mode)

    def corner(image: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
        return lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), images.shape[1:])

    return jax.vmap(corner)(padded, drawn.top, drawn.left)


def _cut_out(inputs: jax.Array, drawn: Any, size: int) -> jax.Array:
    """The square from centre - size // 2 to before centre + size // 2, as in the authors' code."""

    def within(extent: int, centre: jax.Array) -> jax.Array:
        offset = jnp.arange(extent) - centre[:, None]
        return (-(size // 2) <= offset) & (offset < size // 2)

    _, h, w, _ = inputs.shape
    cut = within(h, drawn.row)[:, :, None] & within(w, drawn.column)[:, None, :]
    return jnp.where(cut[..., None], jnp.zeros((), inputs.dtype), inputs)


def key_of(seed: int) -> jax.Array:
    """JAX's key of any seed that PyTorch takes, -2^63 to 2^64 - 1."""
    low, high = seed % 2**32, (seed >> 32) % 2**32
    return jax.random.fold_in(jax.random.key(low), high)
