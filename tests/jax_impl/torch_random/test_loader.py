"""Orders and augmentation against the real `DataLoader` and torchvision's transforms."""

# A range serves as a data set.
# pyright: reportArgumentType=false

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from jax_impl.errors import InputError
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import augmentation_draws, loader_orders, random_crop_flip

SEED = 11
EPOCHS = 10


def started() -> Generator:
    """The global generators after a seed and draws like those of a model's weights."""
    torch.manual_seed(SEED)
    torch.rand(1000)
    torch.randn(3)
    generator = Generator(SEED)
    generator.uniform((1000,))
    generator.normal((3,))
    return generator


def visited(loader: DataLoader) -> list[int]:
    return [index for batch in loader for index in batch]


def at_the_same_point(generator: Generator, twin: torch.Generator) -> bool:
    return bool((generator.get_state() == twin.get_state().numpy()).all())


LARGE = pytest.param(50_000, marks=pytest.mark.proof)


@pytest.mark.parametrize("with_own", [False, True], ids=["global", "own"])
@pytest.mark.parametrize("drop_last", [False, True], ids=["keep", "drop"])
@pytest.mark.parametrize("batch_size", [16, 32])
@pytest.mark.parametrize("size", [1, 10, 1000, 1024, LARGE])
def test_orders(size, batch_size, drop_last, with_own):
    generator = started()
    own, twin = (Generator(-7), torch.Generator().manual_seed(-7)) if with_own else (None, None)
    loader = DataLoader(
        range(size),
        batch_size,
        shuffle=True,
        drop_last=drop_last,
        generator=twin,
        collate_fn=list,
    )
    kept = size // batch_size * batch_size if drop_last else size
    for order in itertools.islice(loader_orders(size, generator, own), EPOCHS):
        assert order.dtype == np.int64
        assert order[:kept].tolist() == visited(loader)
        assert at_the_same_point(generator, torch.default_generator)


def test_own_generator_between_epochs():
    """What the loader draws when it ends is drawn with the next order."""
    generator, own, twin = started(), Generator(3), torch.Generator().manual_seed(3)
    loader = DataLoader(range(20), 8, shuffle=True, generator=twin)
    orders = loader_orders(20, generator, own)
    for _ in range(3):
        epoch = iter(loader)
        next(epoch)
        next(orders)
        assert at_the_same_point(own, twin)
        list(epoch)
        assert not at_the_same_point(own, twin)


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.parametrize("persistent", [False, True], ids=["anew", "persistent"])
@pytest.mark.parametrize("with_own", [False, True], ids=["global", "own"])
def test_orders_of_workers(with_own, persistent):
    generator = started()
    own, twin = (Generator(5), torch.Generator().manual_seed(5)) if with_own else (None, None)
    loader = DataLoader(
        range(50),
        8,
        shuffle=True,
        num_workers=2,
        generator=twin,
        collate_fn=list,
        persistent_workers=persistent,
        multiprocessing_context="fork",
    )
    for order in itertools.islice(loader_orders(50, generator, own, persistent), 3):
        assert order.tolist() == visited(loader)
        assert at_the_same_point(generator, torch.default_generator)


class Augmented(Dataset):
    """Images of their own pixels' numbers, cropped and flipped."""

    def __init__(self, size: int, side: int, padding: int):
        self.size, self.image = size, torch.arange(1, side * side + 1).reshape(1, side, side)
        self.transform = transforms.Compose(
            [transforms.RandomCrop(side, padding), transforms.RandomHorizontalFlip()]
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor]:
        return index, self.transform(self.image)


@pytest.mark.parametrize(
    "size, side, padding", [(10, 32, 4), (1000, 32, 4), (50, 9, 2), (50, 8, 0)]
)
@pytest.mark.parametrize("batch_size", [16, 32])
@pytest.mark.parametrize("with_own", [False, True], ids=["global", "own"])
def test_crops_and_flips(size, side, padding, batch_size, with_own):
    """Order, crop and flip of each image, as these draw in turns from one generator."""
    generator = started()
    own, twin = (Generator(5), torch.Generator().manual_seed(5)) if with_own else (None, None)
    data = Augmented(size, side, padding)
    loader = DataLoader(data, batch_size, shuffle=True, generator=twin)
    padded = np.pad(data.image[0].numpy(), padding)
    for order in itertools.islice(loader_orders(size, generator, own), 3):
        tops, lefts, flips = random_crop_flip(generator, size, padding)
        assert (tops.dtype, lefts.dtype, flips.dtype) == (np.int64, np.int64, np.bool)
        batches = list(loader)
        assert order.tolist() == torch.cat([indices for indices, _ in batches]).tolist()
        images = torch.cat([images for _, images in batches])[:, 0].numpy()
        for image, top, left, flip in zip(images, tops, lefts, flips, strict=True):
            crop = padded[top : top + side, left : left + side]
            assert (image == (crop[:, ::-1] if flip else crop)).all()
        assert at_the_same_point(generator, torch.default_generator)


def test_bad_arguments():
    generator = Generator(0)
    with pytest.raises(InputError, match="0 samples"):
        next(loader_orders(0, generator))
    with pytest.raises(InputError, match="own_generator"):
        next(loader_orders(5, generator, generator))
    with pytest.raises(InputError, match="crop is -1"):
        random_crop_flip(generator, 5, -1)
    for given, why in (
        ({"count": -1}, "count is -1: give 0 or more"),
        ({"crop": 1.5}, "crop is 1.5: give 0 or more"),
        ({"side": 0, "cutout": True}, "side is 0: give 1 or more"),
    ):
        with pytest.raises(InputError, match=why):
            augmentation_draws(generator, **({"count": 3} | given))
