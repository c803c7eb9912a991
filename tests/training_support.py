"""What the tests of training share."""

import numpy as np
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
