"""Augmentation as transforms of torchvision's, drawn from PyTorch's global generator."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset
from torchvision import transforms

from torch_ref.data import TRANSFORM
from torch_ref.errors import InputError


class Cutout:
    """Sets a square to 0, its centre anywhere in the image; perhaps cut off at the borders.

    DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, as in the authors' code, but for odd
    sizes, of which that leaves a pixel out, and for the generator: the row and then the column are
    `torch.randint`'s.
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Of a normalised image [c, h, w]."""
        _, h, w = image.shape
        row, column = (int(torch.randint(extent, (1,))) for extent in (h, w))
        top, left, image = row - self.size // 2, column - self.size // 2, image.clone()
        rows = slice(max(0, top), max(0, top + self.size))
        image[:, rows, max(0, left) : max(0, left + self.size)] = 0
        return image


class Alternating(Dataset[Any]):
    """A data set whose images are mirrored in every other epoch, a drawn half in the first.

    Of Jordan 2024, https://arxiv.org/abs/2404.00498, where it replaces a flip that is drawn anew.
    `epoch` counts from 1, and is to be set before each.
    """

    def __init__(self, dataset: Any, seed: int):
        self.dataset, self.epoch = dataset, 1
        generator = torch.Generator().manual_seed(seed)  # the global one draws what it did
        self.mirrored = torch.rand(len(dataset), generator=generator) < 0.5

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        """An image [c, h, w] and its label."""
        image, label = self.dataset[index]
        now = bool(self.mirrored[index]) == (self.epoch % 2 == 1)
        return image.flip(-1) if now else image, label


def transform(
    size: int,
    *,
    crop: int = 0,
    reflect: bool = False,
    flip: bool = False,
    cutout: int = 0,
    alternate: bool = False,
) -> Callable[[Any], torch.Tensor]:
    """`torch_ref.data.TRANSFORM` of images of `size`, augmented.

    Args:
        size: pixels of a side.
        crop: pixels of padding, black or with `reflect` mirrored, of which a crop is taken.
        reflect: as above.
        flip: half of the images are mirrored, left to right.
        cutout: the side of `Cutout`'s square.
        alternate: there is no flip here, for `Alternating` does it.

    Raises:
        InputError: a number of pixels below 0.
    """
    if min(crop, cutout) < 0:
        raise InputError(f"crop is {crop} and cutout {cutout}: give 0 pixels or more")
    chain: list[Any] = []
    if crop:
        mode = "reflect" if reflect else "constant"
        chain.append(transforms.RandomCrop(size, padding=crop, padding_mode=mode))
    if flip and not alternate:
        chain.append(transforms.RandomHorizontalFlip())
    chain.append(TRANSFORM)
    if cutout:
        chain.append(Cutout(cutout))
    return transforms.Compose(chain)
