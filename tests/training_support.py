"""What the tests of training share."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch.utils.data import DataLoader, TensorDataset

from jax_impl.data import datasets
from jax_impl.data.archive import Split


def random_split(size: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
    return Split(images, rng.integers(0, 10, size).astype(np.int32))


def torch_loader(split: Split, order: np.ndarray, batch_size: int, dtype=torch.float32):
    normalised = np.asarray(datasets.normalize(split.images))
    images = torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())
    dataset = TensorDataset(images.to(dtype), torch.from_numpy(split.labels.astype(np.int64)))
    return DataLoader(dataset, batch_size, sampler=order.tolist())


def rows(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, but for the time they took."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def assert_same(one: Path, other: Path) -> None:
    """Two runs have the same metrics and the same weights, bit for bit."""
    assert rows(one) == rows(other)
    ours, theirs = (safetensors.numpy.load_file(p / "weights.safetensors") for p in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(value, theirs[name]) for name, value in ours.items())
