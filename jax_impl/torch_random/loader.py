"""What PyTorch's `DataLoader` and torchvision's augmentation draw, epoch by epoch, in NumPy."""

from collections.abc import Iterator

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


def random_crop_flip(
    generator: Generator, count: int, padding: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `RandomCrop(side, padding)` and then `RandomHorizontalFlip()` draw for `count` images.

    The images are side x side before padding, and loaded without workers, thus with draws from
    the global generator. Call it after an epoch's order was drawn, for the images in that order.

    Returns:
        The crops' tops and lefts within the padded images, int64 [count] in [0, 2·padding], and
        whether each image is flipped, bool [count].
    """
    if padding < 0:
        raise InputError(f"random_crop_flip: padding {padding}: give 0 or more")
    if padding == 0:  # there is one way to crop, and torchvision does not draw it
        flips = generator.uniform((count,)) < 0.5
        return np.zeros(count, np.int64), np.zeros(count, np.int64), flips
    # An image takes one word for each of torch.randint, torch.randint and torch.rand.
    words = generator.raw32(3 * count).reshape(count, 3).astype(np.int64)
    top, left = (words[:, :2] % (2 * padding + 1)).T
    return top, left, words[:, 2] % 2**24 < 2**23
