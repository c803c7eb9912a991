"""Writes CIFAR-10 in torchvision's layout, the published python one. Needs no PyTorch."""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = 5


def write(
    data_dir: Path,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: Sequence[str],
) -> dict[str, str]:
    """Writes `data_dir`/cifar-10-batches-py and returns the MD5 of each of its files by name.

    The pickles have the entries of the published ones, but for the images' names, which only the
    published python archive knows.

    Args:
        data_dir: a folder that exists and does not hold the layout yet.
        train: images uint8 [n, 32, 32, 3] and integer labels [n]; n a multiple of 5.
        test: the same of any n.
        class_names: by label.
    """
    folder = data_dir / FOLDER
    folder.mkdir()
    batches = zip(*(np.split(array, TRAIN_BATCHES) for array in train), strict=True)
    sums: dict[str, str] = {}
    first = 0
    for number, (images, labels) in enumerate(batches, start=1):
        title = f"training batch {number} of {TRAIN_BATCHES}"
        entry = _batch(images, labels, title, "train", first)
        sums[f"data_batch_{number}"] = _dump(entry, folder / f"data_batch_{number}")
        first += len(labels)
    entry = _batch(*test, "testing batch 1 of 1", "test", 0)
    sums["test_batch"] = _dump(entry, folder / "test_batch")
    meta = {
        "num_cases_per_batch": len(test[1]),
        "label_names": list(class_names),
        "num_vis": test[0][0].size,
    }
    sums["batches.meta"] = _dump(meta, folder / "batches.meta")
    return sums


def _batch(
    images: np.ndarray, labels: np.ndarray, title: str, prefix: str, first: int
) -> dict[str, Any]:
    return {
        "batch_label": title,
        "labels": labels.tolist(),
        "data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1),
        "filenames": [f"{prefix}_{first + i:05d}.png" for i in range(len(images))],
    }


def _dump(value: dict[str, Any], path: Path) -> str:
    content = pickle.dumps(value, protocol=4)
    path.write_bytes(content)
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
