"""The data as each framework's own ecosystem delivers it: bytes, labels, order, normalised values.

PyTorch's side is torchvision's data set, its transforms and a `DataLoader`; JAX's is the arrays
that TensorFlow Datasets reads, indexed and normalised as in the training step.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jax_impl.data.archive import Dataset, Split
from jax_impl.data.datasets import normalize
from parity.ladder.result import Comparison, Result, result
from parity.pairs.case import precision
from torch_ref.data import CIFAR10, Digits, make_loader

BATCH_SIZE = 500


def run(
    ours: Dataset, theirs: tuple[CIFAR10 | Digits, CIFAR10 | Digits], seed: int
) -> Iterator[Result]:
    """The results in float64 and in float32, of every image and label in both splits.

    The training split in a random order that both sides get, the test split in its own.
    """
    order = np.random.default_rng(seed).permutation(len(ours.train.labels))
    counts = _differences(ours.train, theirs[0], order)
    counts += _differences(ours.test, theirs[1], np.arange(len(ours.test.labels)))
    raw, labels, narrow, wide = (int(count) for count in counts)
    images = len(ours.train.labels) + len(ours.test.labels)
    for dtype, values in (("float64", wide), ("float32", narrow)):
        measured = raw + labels + values
        detail = (
            f"{images} images: {raw} bytes, {labels} labels and {values} normalised values differ"
        )
        comparison = Comparison(measured == 0, measured, 0, "differing values", detail)
        yield result("all", "data", dtype, comparison)


def _differences(ours: Split, theirs: CIFAR10 | Digits, order: np.ndarray) -> np.ndarray:
    """How many bytes, labels, float32 values and float64 values differ."""
    if ours.images.shape != theirs.data.shape:
        raise ValueError(f"{ours.images.shape} images against {theirs.data.shape}")
    normalised = jax.jit(normalize, static_argnames="dtype")
    raw = np.count_nonzero(ours.images != theirs.data)
    labels = np.count_nonzero(ours.labels != np.asarray(theirs.targets))
    narrow = wide = 0
    loader = make_loader(theirs, BATCH_SIZE, order=order.tolist())
    for start, (images, targets) in zip(range(0, len(order), BATCH_SIZE), loader, strict=True):
        batch = order[start : start + BATCH_SIZE]
        labels += np.count_nonzero(ours.labels[batch] != targets.numpy())
        expected = images.numpy().transpose(0, 2, 3, 1)
        found = normalised(ours.images[batch], dtype=jnp.float32)
        narrow += np.count_nonzero(np.asarray(found) != expected)
        with precision("float64"):
            found = normalised(ours.images[batch], dtype=jnp.float64)
            wide += np.count_nonzero(np.asarray(found) != expected.astype(np.float64))
    return np.array([raw, labels, narrow, wide])
