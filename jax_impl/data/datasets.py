"""CIFAR-10 through TensorFlow Datasets, and scikit-learn's digits: in memory, or to be read."""

import contextlib
import dataclasses
import importlib.util
import io
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jax_impl.data import archive
from jax_impl.data.archive import Dataset, Split
from jax_impl.data.pipeline import Records, decoded
from jax_impl.errors import InputError, one_line, silent_logs

__all__ = [
    "MEAN",
    "STD",
    "Dataset",
    "Split",
    "data_directory",
    "has_tfds",
    "load_dataset",
    "load_cifar10",
    "load_digits",
    "normalize",
    "open_dataset",
    "quiet_tfds",
    "write_tfds",
]

MEAN = 0.5
STD = 0.5
"""Of each channel: ToTensor's x / 255 and then Normalize's (x - MEAN) / STD map bytes to [-1, 1]"""

TFDS_FOLDER = "cifar10/3.0.2"
PREPARE = "run `parity prepare`"
CHANNELS = 3
LOOK = 1000
"""Records whose labels are read at once."""
DIGITS_TRAIN = 1437  # of 1,797: four fifths

# Each operation rounded to float32, as PyTorch does them. A compiler may multiply by the
# reciprocal in place of a division, which changes most of the 256 values; it cannot change these.
_NORMALIZED = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(
    STD
)


def normalize(images: Any, dtype: Any = np.float32) -> Any:
    """uint8 images of any shape -> the same shape of `dtype`, in [-1, 1].

    In float32 bit for bit the values of torchvision's `ToTensor` and `Normalize`; other types get
    those values cast.
    """
    import jax.numpy as jnp  # here, so that preparing data needs no JAX

    return jnp.asarray(_NORMALIZED).astype(dtype)[images]


def data_directory(explicit: Path | None = None) -> Path:
    """Where prepared data lies: as given, else $PARITY_DATA_DIR, else the user's cache."""
    if explicit is not None:
        return Path(explicit).expanduser()
    if named := os.environ.get("PARITY_DATA_DIR"):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("jax-torch-parity"))


def load_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """The data set "cifar10", from `data_directory(data_dir)`, or "digits".

    Raises:
        InputError: another name, or CIFAR-10 that is not prepared.
    """
    if name == "cifar10":
        return load_cifar10(data_directory(data_dir))
    if name == "digits":
        return load_digits()
    raise InputError(f"unknown data set {name!r}; there are cifar10 and digits")


def open_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """As `load_dataset`, but of the images to train on none is held: they are `Records`.

    Raises:
        InputError: another name, or CIFAR-10 that is not prepared as TensorFlow Datasets has it.
    """
    if name != "cifar10":
        whole = load_dataset(name, data_dir)
        images = [{"image": image} for image in whole.train.images]
        shape = whole.train.images.shape[1:]
        records = Records(images, np.arange(len(images)), shape, f"the training images of {name}")
        return dataclasses.replace(whole, train=Split(records, whole.train.labels))
    return open_cifar10(data_directory(data_dir))


def open_cifar10(data_dir: Path, records: int = archive.RECORDS) -> Dataset:
    """CIFAR-10 as prepared in `data_dir`, of whose training images none is held.

    Raises:
        InputError: it is not prepared there by TensorFlow Datasets, or damaged.
    """
    if not (has_tfds() and (data_dir / TFDS_FOLDER).is_dir()):
        raise InputError(
            f"CIFAR-10 in {data_dir} is not in the files of TensorFlow Datasets, which Grain reads;"
            f" {PREPARE} with --overwrite"
        )
    folder, count = data_dir / TFDS_FOLDER, 5 * records
    with _told_damage(data_dir):
        sources = _sources(data_dir)
        stored = sources["train"]
        if len(stored) != count:
            raise ValueError(f"{len(stored)} images, not {count}")
        positions, labels = np.full(count, -1), np.full(count, -1, np.int32)
        for first in range(0, count, LOOK):
            places = range(first, min(first + LOOK, count))
            for place, example in zip(places, stored.__getitems__(places), strict=True):
                index = _index(example, "train_")
                positions[index], labels[index] = place, example["label"]
        if labels.min() < 0:
            raise ValueError(f"train_{labels.argmin():05d} is missing")
        names = _class_names(sources, data_dir)
        test = _canonical(sources["test"], "test_", records)
    images = Records(stored, positions, (32, 32, CHANNELS), f"{folder}, split train")
    return Dataset("cifar10", Split(images, labels), test, archive.NUM_CLASSES, names)


def load_cifar10(data_dir: Path, records: int = archive.RECORDS) -> Dataset:
    """CIFAR-10 as prepared in `data_dir`: 5 * records training and `records` test images.

    Through TensorFlow Datasets where it is installed, and from the python layout beside it where
    it is not; both hold the same bytes, and both are returned in canonical order.

    Raises:
        InputError: CIFAR-10 is not prepared there, or damaged.
    """
    data_dir = Path(data_dir)
    if has_tfds() and (data_dir / TFDS_FOLDER).is_dir():
        return _load_tfds(data_dir, records)
    if (data_dir / archive.PYTHON_FOLDER).is_dir():
        return archive.read(data_dir / archive.PYTHON_FOLDER, records).dataset
    raise InputError(f"CIFAR-10 is not prepared in {data_dir}; {PREPARE}")


def has_tfds() -> bool:
    """Whether TensorFlow Datasets and the ArrayRecord files it reads without TensorFlow work."""
    modules = "tensorflow_datasets", "array_record", "importlib_resources"
    return all(importlib.util.find_spec(module) for module in modules)


def _load_tfds(data_dir: Path, records: int) -> Dataset:
    with _told_damage(data_dir):
        sources = _sources(data_dir)
        train = _canonical(sources["train"], "train_", 5 * records)
        test = _canonical(sources["test"], "test_", records)
        names = _class_names(sources, data_dir)
    return Dataset("cifar10", train, test, archive.NUM_CLASSES, names)


def _sources(data_dir: Path) -> Any:
    import tensorflow_datasets as tfds

    with silent_logs():
        # The images come as PNG bytes, which Pillow alone decodes in half the time TFDS takes.
        return tfds.data_source(
            "cifar10",
            data_dir=data_dir,
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )


def _class_names(sources: Any, data_dir: Path) -> tuple[str, ...]:
    names = tuple(sources["train"].dataset_info.features["label"].names)
    beside = data_dir / archive.PYTHON_FOLDER
    # Their file has no checksum of its own; TFDS takes any names, and makes some up.
    if beside.is_dir() and names != archive.python_class_names(beside):
        raise ValueError("the names of the classes are not those of the archive")
    return names


@contextlib.contextmanager
def _told_damage(data_dir: Path) -> Iterator[None]:
    """TFDS, ArrayRecord and Pillow meet damaged files with errors of many types."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"CIFAR-10 in {data_dir / TFDS_FOLDER} is damaged ({one_line(error)}); "
            f"{PREPARE} with --overwrite"
        ) from error


def _index(example: Any, prefix: str) -> int:
    return int(example["id"].decode().removeprefix(prefix))


def _canonical(source: Any, prefix: str, count: int) -> Split:
    """Examples as TFDS stores them, shuffled -> the order of their ids, as in train_00006."""
    if len(source) != count:
        raise ValueError(f"{len(source)} images, not {count}")
    images = np.empty((count, 32, 32, CHANNELS), np.uint8)
    labels = np.full(count, -1, np.int32)
    for example in source.__getitems__(range(count)):
        index = _index(example, prefix)
        images[index] = decoded(example["image"])
        labels[index] = example["label"]
    if labels.min() < 0:
        raise ValueError(f"{prefix}{labels.argmin():05d} is missing")
    return Split(images, labels)


def write_tfds(dataset: Dataset, data_dir: Path) -> None:
    """Writes CIFAR-10 into `data_dir`/cifar10/3.0.2 as TFDS's own builder would, by ArrayRecord.

    TFDS's builder needs TensorFlow to generate its examples; this one has its features, names
    and keys, hence its shuffled order, and takes the examples from arrays.

    Raises:
        InputError: it cannot be written.
    """
    from tensorflow_datasets.image_classification import Cifar10

    class FromArrays(Cifar10, skip_registration=True):
        name = "cifar10"

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            features: Any = self.info.features
            features["label"].names = list(dataset.class_names)
            return {
                "train": _examples(dataset.train, "train_"),
                "test": _examples(dataset.test, "test_"),
            }

    try:
        with quiet_tfds():
            FromArrays(data_dir=data_dir, file_format="array_record").download_and_prepare()
    except RuntimeError as error:
        if "write() failed" not in str(error):  # as ArrayRecord says of a full disk
            raise
        raise InputError(f"cannot write {data_dir / TFDS_FOLDER}: {one_line(error)}") from error


def _examples(split: Split, prefix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        example = {"id": f"{prefix}{index:05d}", "image": _png(image), "label": int(label)}
        yield index, example


def _png(image: np.ndarray) -> bytes:
    """uint8 [height, width, 3] -> a PNG file with neither filters nor compression.

    A third larger than compressed, and written 15 times as fast and read more than twice.
    """
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + width * CHANNELS), np.uint8)
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Keeps TFDS from announcing itself, and its progress bars to a terminal."""
    import tensorflow_datasets as tfds

    if sys.stderr.isatty():
        tfds.enable_progress_bar()
    else:
        tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def load_digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits as small images of CIFAR-10's shape.

    8x8 pixels of 0 to 16 become 32x32 of 0 to 255 (each pixel four by four times, halves rounded
    up) in three equal channels. A fixed permutation makes 1,437 training and 360 test images;
    NumPy promises that `RandomState` never changes its stream.
    """
    import sklearn.datasets

    digits: Any = sklearn.datasets.load_digits()
    pixels = (digits.images.astype(np.int64) * 255 + 8) // 16
    images = pixels.astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    images = np.stack([images] * CHANNELS, axis=-1)
    labels = digits.target.astype(np.int32)
    order = np.random.RandomState(0).permutation(len(labels))
    train, test = order[:DIGITS_TRAIN], order[DIGITS_TRAIN:]
    return Dataset(
        "digits",
        Split(images[train], labels[train]),
        Split(images[test], labels[test]),
        num_classes=10,
        class_names=tuple(str(digit) for digit in range(10)),
    )
