"""The notebook's data: torchvision's CIFAR-10, scikit-learn's digits, and their loaders."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from torch_ref.errors import InputError

TRANSFORM = transforms.Compose(
    [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
)
MANIFEST = "prepared.json"
PREPARE = "run `parity prepare`"


class CIFAR10(torchvision.datasets.CIFAR10):
    """torchvision's data set, which also verifies data prepared from an archive of other sums.

    torchvision unpickles a file only when its MD5 is the published one. Where `root` holds the
    manifest of a preparation, the sums that it wrote take their place.

    Raises:
        InputError: the data set is missing or does not match its sums.
    """

    def __init__(
        self,
        root: str | Path,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        root = Path(root)
        if not (root / self.base_folder).is_dir():
            raise InputError(f"CIFAR-10 is not prepared in {root}; {PREPARE}")
        if (root / MANIFEST).exists():
            self._expect(_prepared_sums(root / MANIFEST, f"{self.base_folder}/"))
        try:
            super().__init__(root, train, transform, target_transform)
        except RuntimeError as error:
            raise InputError(
                f"CIFAR-10 in {root / self.base_folder} is incomplete or does not match its "
                f"checksums; {PREPARE} with --overwrite"
            ) from error

    def _expect(self, sums: dict[str, str]) -> None:
        """Puts `sums` in the place of the published ones; a file without a sum matches none."""
        self.train_list = [[name, sums.get(name, "none")] for name, _ in self.train_list]
        self.test_list = [[name, sums.get(name, "none")] for name, _ in self.test_list]
        self.meta = self.meta | {"md5": sums.get(self.meta["filename"], "none")}


def _prepared_sums(path: Path, folder: str) -> dict[str, str]:
    """MD5 by name of the files in `folder`, from the manifest of a preparation."""
    try:
        files = json.loads(path.read_text())["files"]
        return {name.removeprefix(folder): str(md5) for name, md5 in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot use {path} ({error}); {PREPARE} with --overwrite") from error


class Digits(torchvision.datasets.VisionDataset):
    """scikit-learn's 8x8 digits, enlarged to RGB images of 32x32: 1,437 to train, 360 to test."""

    def __init__(
        self,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(root="", transform=transform, target_transform=target_transform)
        pixels, targets = sklearn.datasets.load_digits(return_X_y=True)
        grey = np.floor(pixels.reshape(-1, 8, 8) * 255 / 16 + 0.5).astype(np.uint8)
        order = np.random.RandomState(0).permutation(len(targets))
        chosen = order[:1437] if train else order[1437:]
        enlarged = np.kron(grey[chosen], np.ones((1, 4, 4), np.uint8))
        self.data = np.repeat(enlarged[..., None], 3, axis=3)
        self.targets = targets[chosen].tolist()
        self.classes = [str(digit) for digit in range(10)]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = Image.fromarray(self.data[index])
        target = self.targets[index]
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        return len(self.data)


def load(
    name: str, data_dir: str | Path | None = None, transform: Callable[[Any], Any] = TRANSFORM
) -> tuple[CIFAR10 | Digits, CIFAR10 | Digits]:
    """The training and the test set of "cifar10", as prepared in `data_dir`, or of "digits".

    Raises:
        InputError: another name, or CIFAR-10 that is not prepared in `data_dir`.
    """
    if name == "cifar10" and data_dir is not None:
        return CIFAR10(data_dir, True, transform), CIFAR10(data_dir, False, transform)
    if name == "digits":
        return Digits(True, transform), Digits(False, transform)
    raise InputError(f"unknown data set {name!r}; there are digits, and cifar10 in a directory")


def make_loader(
    dataset: Dataset[Any],
    batch_size: int,
    shuffle: bool = False,
    seed: int | None = None,
    order: Sequence[int] | None = None,
    num_workers: int = 0,
) -> DataLoader[Any]:
    """Batches of (images float32 [n, 3, 32, 32], labels int64 [n]), the last one perhaps smaller.

    Args:
        dataset: what to load.
        batch_size: images in a batch.
        shuffle: draw a new order for each epoch.
        seed: of the order; None takes PyTorch's global generator, as the notebook does.
        order: indices to load, in this order, in place of `shuffle`.
        num_workers: processes that load; 0 loads in this one.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(
        dataset,
        batch_size,
        shuffle=shuffle,
        sampler=order,
        num_workers=num_workers,
        generator=generator,
    )
