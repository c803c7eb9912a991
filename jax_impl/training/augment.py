"""Augmentation of a batch on the device: crop, flip, normalise and cut out, as torchvision does."""

from collections.abc import Sequence
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
    """What a batch of images [n, h, w, c] needs, each image on its own, of JAX's generator.

    Flips that alternate are none of it: they depend on the epoch, and are given.
    """
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
    if augmentation.flip and not augmentation.alternate:
        drawn = drawn._replace(flipped=flipped < np.uint32(2**31))
    if augmentation.cutout:
        drawn = drawn._replace(row=below(row, h), column=below(column, w))
    return drawn


NEEDED = {"crop": ("top", "left"), "flip": ("flipped",), "cutout": ("row", "column")}


def needed(augmentation: Augmentation) -> list[str]:
    """The fields of what is drawn for it."""
    return [field for name in augmentation.names for field in NEEDED[name]]


def check_drawn(
    drawn: Drawn, shape: tuple[int, ...], augmentation: Augmentation, required: Sequence[str]
) -> None:
    """Whether `drawn` is of the augmentation of images of `shape`, [..., n, h, w, c].

    The fields that are `required` have to be there.

    Raises:
        InputError: it is not, in kind or number, or (of NumPy's arrays) in size.
    """
    *many, h, w, _ = shape
    fields, corners = needed(augmentation), 2 * augmentation.crop + 1
    below = {"top": corners, "left": corners, "row": h, "column": w}
    for field, values in drawn._asdict().items():
        if values is None:
            if field not in required:
                continue
            what = "nothing is drawn for it"
            raise InputError(f"{field} of the augmentation: {what}; give {' '.join(fields)}")
        if field not in fields:
            what = "that is not to be done"
            raise InputError(f"{field} of the augmentation: {what}; give {' '.join(fields)}")
        kind, words = (np.integer, "integers") if field in below else (np.bool, "bool")
        if values.shape != (*many,) or not jnp.issubdtype(values.dtype, kind):
            found = f"{values.dtype} {list(values.shape)}"
            raise InputError(f"{field} of the augmentation is {found}: give {words} {many}")
        if field in below and isinstance(values, np.ndarray) and values.size:
            if values.min() < 0 or values.max() >= below[field]:
                found = f"{values.min()} to {values.max()}"
                raise InputError(
                    f"{field} of the augmentation is {found}: give 0 to {below[field] - 1}"
                )


def augmented(images: Any, dtype: Any, drawn: Drawn, augmentation: Augmentation) -> jax.Array:
    """uint8 [n, h, w, c] -> normalised `dtype` [n, h, w, c].

    In float32 bit for bit what torchvision gives for the same draws: `RandomCrop`,
    `RandomHorizontalFlip`, `ToTensor`, `Normalize`, and `torch_ref.augment.Cutout`; and last, in
    place of the second, `torch_ref.augment.Alternating`.

    Raises:
        InputError: as `check_drawn`.
    """
    check_drawn(drawn, images.shape, augmentation, needed(augmentation))
    if augmentation.crop:
        images = _crop(images, drawn, augmentation)
    if augmentation.flip and not augmentation.alternate:
        images = _mirror(images, drawn.flipped)
    inputs = normalize(images, dtype)
    if augmentation.cutout:
        inputs = _cut_out(inputs, drawn, augmentation.cutout)
    return _mirror(inputs, drawn.flipped) if augmentation.alternate else inputs


def _mirror(images: jax.Array, which: Any) -> jax.Array:
    return jnp.where(which[:, None, None, None], images[:, :, ::-1], images)


def _crop(images: jax.Array, drawn: Any, augmentation: Augmentation) -> jax.Array:
    margin = (augmentation.crop,) * 2
    mode = "reflect" if augmentation.reflect else "constant"
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode=mode)

    def corner(image: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
        return lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), images.shape[1:])

    return jax.vmap(corner)(padded, drawn.top, drawn.left)


def _cut_out(inputs: jax.Array, drawn: Any, size: int) -> jax.Array:

    def within(extent: int, centre: jax.Array) -> jax.Array:
        offset = jnp.arange(extent) - (centre[:, None] - size // 2)
        return (offset >= 0) & (offset < size)

    _, h, w, _ = inputs.shape
    cut = within(h, drawn.row)[:, :, None] & within(w, drawn.column)[:, None, :]
    return jnp.where(cut[..., None], jnp.zeros((), inputs.dtype), inputs)


def key_of(seed: int) -> jax.Array:
    """JAX's key of any seed that PyTorch takes, -2^63 to 2^64 - 1."""
    low, high = seed % 2**32, (seed >> 32) % 2**32
    return jax.random.fold_in(jax.random.key(low), high)
