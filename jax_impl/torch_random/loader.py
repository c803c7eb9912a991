"""What PyTorch's `DataLoader` and torchvision's augmentation draw, epoch by epoch, in NumPy."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jax_impl.errors import InputError
from jax_impl.torch_random.generator import Generator


def loader_orders(
    size: int,
    generator: Generator,
    own_generator: Generator | None = None,
    persistent_workers: bool = False,
) -> Iterator[np.ndarray]:
    """The orders, int64 [size], in which `DataLoader(shuffle=True)` visits its data, without end.

    They and the states of the generators are PyTorch's for any batch size and number of workers.
    An epoch's draws are made when its order is asked for, and what the loader draws at the end
    of an epoch when the next order is: epochs are run to their ends, one after the other.

    Args:
        size: samples in the data set.
        generator: PyTorch's global one, in the state at the first epoch's start: `Generator(seed)`
            after `torch.manual_seed(seed)`, less what was drawn since, as for a model's weights.
        own_generator: the loader's `generator=`, from which it then draws everything.
        persistent_workers: as given to the loader.

    Raises:
        InputError: at the first order, for a size below 1 or an `own_generator` that is the global.
    """
    if size < 1:
        raise InputError(f"loader_orders: {size} samples; PyTorch's RandomSampler takes 1 or more")
    if own_generator is generator:
        raise InputError("loader_orders: own_generator is the global generator; leave it out")
    source = generator if own_generator is None else own_generator
    for epoch in range(2**63):
        if epoch == 0 or not persistent_workers:
            source.random(())  # the workers' base seed, drawn without workers as well
        if own_generator is None:
            yield Generator(int(generator.random(()))).randperm(size)
        else:
            yield own_generator.randperm(size)
            own_generator.randperm(size)  # RandomSampler cuts a last, empty part out of another


class Drawn(NamedTuple):
    """What augmentation draws for n images, each [n] or None where it draws no such thing.

    The crop's corner within the padded image, whether the image is flipped (bool), and the centre
    of the square that is cut out.
    """

    top: Any = None
    left: Any = None
    flipped: Any = None
    row: Any = None
    column: Any = None


def augmentation_draws(
    generator: Generator,
    count: int,
    side: int = 32,
    *,
    crop: int = 0,
    flip: bool = False,
    cutout: bool = False,
) -> Drawn:
    """What `RandomCrop(side, crop)`, `RandomHorizontalFlip()` and a cutout draw, in this order.

    For `count` images of side x side that are loaded without workers, thus with draws from the
    global generator. Call it after an epoch's order was drawn, for the images in that order. A crop
    without padding is none: torchvision draws nothing for it. The cutout's centre is
    `torch.randint(side, (1,))` for its row, and again for its column: `torch_ref.augment.Cutout`.

    Returns:
        int64 and bool arrays [count].

    Raises:
        InputError: a padding or a count below 0, or a side below 1.
    """
    for name, value, least in (("crop", crop, 0), ("count", count, 0), ("side", side, 1)):
        if not isinstance(value, int) or value < least:
            raise InputError(f"augmentation_draws: {name} is {value!r}: give {least} or more")
    # An image takes one word for each of torch.randint and torch.rand.
    each = 2 * bool(crop) + flip + 2 * cutout
    words = generator.raw32(each * count).reshape(count, each).astype(np.int64).T
    drawn = Drawn()
    if crop:
        drawn = drawn._replace(top=words[0] % (2 * crop + 1), left=words[1] % (2 * crop + 1))
    if flip:
        drawn = drawn._replace(flipped=words[2 * bool(crop)] % 2**24 < 2**23)
    if cutout:
        drawn = drawn._replace(row=words[-2] % side, column=words[-1] % side)
    return drawn


def alternating_flips(seed: int, count: int) -> np.ndarray:
    """Which images `torch_ref.augment.Alternating` mirrors in the first epoch, bool [count]."""
    return Generator(seed).raw32(count) % 2**24 < 2**23


def random_crop_flip(
    generator: Generator, count: int, padding: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `RandomCrop(side, padding)` and then `RandomHorizontalFlip()` draw for `count` images.

    As `augmentation_draws`, for images of any side.

    Returns:
        The crops' tops and lefts within the padded images, int64 [count] in [0, 2·padding], and
        whether each image is flipped, bool [count].
    """
    drawn = augmentation_draws(generator, count, crop=padding, flip=True)
    none = np.zeros(count, np.int64)  # there is one way to crop without padding
    return (drawn.top, drawn.left, drawn.flipped) if padding else (none, none, drawn.flipped)
