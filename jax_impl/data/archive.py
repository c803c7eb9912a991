"""CIFAR-10 as its authors publish it: the binary and the python archive, read with NumPy alone.

The binary archive holds, for each image, a label byte and 3,072 pixel bytes: the red, green and
blue planes of 32x32. The python archive holds the same in pickles. Format and archives:
https://www.cs.toronto.edu/~kriz/cifar.html
"""

import bz2
import dataclasses
import gzip
import hashlib
import io
import lzma
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from jax_impl.data import bounded
from jax_impl.errors import InputError, one_line, shown

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
# TensorFlow Datasets, url_checksums/cifar10.txt.
BINARY_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
# torchvision.datasets.CIFAR10.tgz_md5.
PYTHON_MD5 = "c58f30108f718f92721af3b95e74349a"

RECORDS = 10_000  # images in each file of the archive
NUM_CLASSES = 10
PIXELS = 3 * 32 * 32
RECORD_BYTES = 1 + PIXELS

BINARY_FOLDER = "cifar-10-batches-bin"
PYTHON_FOLDER = "cifar-10-batches-py"
BINARY_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6)) + ("test_batch.bin",)
PYTHON_FILES = tuple(f"data_batch_{i}" for i in range(1, 6)) + ("test_batch",)
BINARY_META = "batches.meta.txt"
PYTHON_META = "batches.meta"

MOST_NAME = 100
"""Letters of a class's name."""

_DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [n, 32, 32, 3] (NHWC) and labels int32 [n], in canonical order.

    The images are in memory, or `pipeline.Records`, which are read one by one.
    """

    images: Any
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A training split, a test split and the names of the classes, by label."""

    name: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Archive:
    """What an archive holds, its checksum, and whether it is a published one.

    `sha256` is that of its file, None for a folder. `official` says whether that file is one of the
    two that the data set's authors publish.
    """

    dataset: Dataset
    sha256: str | None
    official: bool


def read(path: Path, records: int = RECORDS) -> Archive:
    """CIFAR-10 from an archive or an unpacked folder.

    Args:
        path: a binary or python archive (a tar, plain or compressed by gzip, bzip2 or xz), the
            folder it unpacks to, or a folder that contains that one.
        records: images in each file; the published archives hold 10,000.

    Returns:
        5 * records training images and `records` test images, in the order of the files.

    Raises:
        InputError: the path cannot be read, or holds anything but CIFAR-10.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise InputError(f"{path} is no regular file: write a pipe to a file first")
        if path.is_dir():
            return Archive(_parse(_folder_files(path, records), path, records), None, False)
        sha256, md5 = checksums(path)
        official = sha256 == BINARY_SHA256 or md5 == PYTHON_MD5
        return Archive(_parse(_tar_files(path, records), path, records), sha256, official)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def checksums(path: Path) -> tuple[str, str]:
    """The SHA-256 and the MD5 of a file, in hexadecimal.

    Raises:
        InputError: the file cannot be read.
    """
    sums = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                for checksum in sums:
                    checksum.update(block)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return sums[0].hexdigest(), sums[1].hexdigest()


def _folder_files(path: Path, records: int) -> dict[str, bytes]:
    """Bytes of the data set's files in `path` or in the folder of the published name within it."""
    for folder in (path, path / BINARY_FOLDER, path / PYTHON_FOLDER):
        files = {
            name: _read_member((folder / name).open("rb"), limit, f"{name} in {folder}")
            for name, limit in _limits(records).items()
            if (folder / name).is_file()
        }
        if files:
            return files
    raise InputError(
        f"{path} holds no CIFAR-10: expected {BINARY_FOLDER} or {PYTHON_FOLDER} and its files"
    )


def _tar_files(path: Path, records: int) -> dict[str, bytes]:
    """Bytes of the data set's files in a tar archive, read as a stream; nothing is unpacked."""
    with open(path, "rb") as file:
        magic = file.read(8)
    opener = next((f for start, f in _DECOMPRESSORS.items() if magic.startswith(start)), open)
    files: dict[str, bytes] = {}
    limits = _limits(records)
    seen = False
    try:
        with opener(path, "rb") as unpacked:
            stream: Any = bounded.Bounded(unpacked)
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=bounded.Member) as tar:
                for member in tar:
                    seen = True
                    _refuse_escape(member, path)
                    name = PurePosixPath(member.name).name
                    if name not in limits or not member.isfile():
                        continue
                    if name in files:
                        raise InputError(f"{path} holds {name} twice")
                    content = tar.extractfile(member)
                    assert content is not None
                    files[name] = _read_member(content, limits[name], f"{name} in {path}")
            # Compressed streams keep a checksum at their end: read on to have it verified.
            while stream.read(1 << 20):
                pass
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    # tarfile and the decompressors meet damaged bytes with errors of many types.
    except Exception as error:
        # The system's own errors have a number; those of gzip and bzip2 for bad bytes have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = "is truncated or damaged" if seen else "is no tar archive, or a damaged one"
        raise InputError(f"{path} {what} ({one_line(error)}); get it again from {URL}") from error
    return files


def _refuse_escape(member: tarfile.TarInfo, path: Path) -> None:
    """Refuses names outside the archive's own folder, links and devices."""
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise InputError(
            f"{path} is unsafe: member {shown(member.name)!r} leaves the archive's folder or is no "
            "regular file"
        )


def _limits(records: int) -> dict[str, int]:
    """The files that matter, and for each the most bytes that are read of it."""
    binary = dict.fromkeys(BINARY_FILES, (records + 1) * RECORD_BYTES)
    # By protocol 0 a pixel takes up to four bytes (\\xff), by others from Python 3 two (UTF-8).
    python = dict.fromkeys(PYTHON_FILES, records * (4 * PIXELS + 100) + 10_000)
    return binary | python | {BINARY_META: 10_000, PYTHON_META: 10_000}


def _read_member(file: IO[bytes], limit: int, where: str) -> bytes:
    """All bytes of a file that has at most `limit` of them."""
    with file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputError(f"{where} is too large: more than {limit:,} bytes")
    return content


def _parse(files: dict[str, bytes], path: Path, records: int) -> Dataset:
    """The data set from the bytes of its files, binary or python."""
    binary = any(name in files for name in BINARY_FILES)
    names, meta = (BINARY_FILES, BINARY_META) if binary else (PYTHON_FILES, PYTHON_META)
    missing = [name for name in (*names, meta) if name not in files]
    if missing:
        raise InputError(f"{path} is no complete CIFAR-10: it lacks {', '.join(missing)}")
    parse_batch, parse_meta = (
        (_binary_batch, _binary_meta) if binary else (_python_batch, _python_meta)
    )
    batches = [parse_batch(files.pop(name), f"{name} in {path}", records) for name in names]
    train = Split(*(np.concatenate(arrays) for arrays in zip(*batches[:5], strict=True)))
    class_names = parse_meta(files[meta], f"{meta} in {path}")
    return Dataset("cifar10", train, Split(*batches[5]), NUM_CLASSES, class_names)


def _binary_batch(content: bytes, where: str, records: int) -> tuple[np.ndarray, np.ndarray]:
    if len(content) != records * RECORD_BYTES:
        raise InputError(
            f"{where} has {len(content):,} bytes, not {records:,} records of {RECORD_BYTES:,}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(records, RECORD_BYTES)
    return _images(rows[:, 1:]), _labels(rows[:, 0], where)


def _binary_meta(content: bytes, where: str) -> tuple[str, ...]:
    return _class_names(content.decode("utf-8", "replace").split(), where)


def _python_batch(content: bytes, where: str, records: int) -> tuple[np.ndarray, np.ndarray]:
    batch = _unpickle(content, where)
    data, labels = batch.get("data"), batch.get("labels")
    if not isinstance(data, np.ndarray) or data.shape != (records, PIXELS):
        shape = data.shape if isinstance(data, np.ndarray) else type(data).__name__
        raise InputError(f"{where}: 'data' is {shape}, not uint8 ({records}, {PIXELS})")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise InputError(f"{where}: 'labels' is no list of integers")
    if len(labels) != records:
        raise InputError(f"{where}: {len(labels):,} labels for {records:,} images")
    return _images(data), _labels(np.array(labels, object), where)


def _python_meta(content: bytes, where: str) -> tuple[str, ...]:
    names = _unpickle(content, where).get("label_names")
    return _class_names([_text(name) for name in names] if isinstance(names, list) else [], where)


def _images(rows: np.ndarray) -> np.ndarray:
    """uint8 [n, 3072], three planes a row -> contiguous uint8 [n, 32, 32, 3]."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _labels(labels: np.ndarray, where: str) -> np.ndarray:
    wrong = np.flatnonzero((labels < 0) | (labels >= NUM_CLASSES))
    if wrong.size:
        raise InputError(
            f"{where}: label {labels[wrong[0]]} of record {wrong[0]} is not in 0 to "
            f"{NUM_CLASSES - 1}"
        )
    return labels.astype(np.int32)


def python_class_names(folder: Path) -> tuple[str, ...]:
    """Those that the python layout in a folder says.

    Raises:
        InputError: they cannot be read.
    """
    path = folder / PYTHON_META
    try:
        content = _read_member(path.open("rb"), _limits(1)[PYTHON_META], str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return _python_meta(content, str(path))


def _class_names(names: list[Any], where: str) -> tuple[str, ...]:
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) != len(names) or len({*texts}) != len(names) or len(names) != NUM_CLASSES:
        raise InputError(f"{where} does not name {NUM_CLASSES} classes")
    odd = [name for name in texts if not name.isprintable() or not 0 < len(name) <= MOST_NAME]
    if odd:
        raise InputError(f"{where} names a class {shown(odd[0])!r}")
    return tuple(names)


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _unpickle(content: bytes, where: str) -> dict[Any, Any]:
    """A pickled dict of the python archive, with text keys; nothing in it is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in text
            bounded.check_pickle(content)
            value = _Unpickler(io.BytesIO(content), encoding="latin-1").load()
    # Hostile or damaged bytes make an unpickler raise nearly anything.
    except Exception as error:
        raise InputError(f"{where} is no pickle of CIFAR-10: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where} is no pickle of CIFAR-10: it holds no dict")
    return {
        _text(key): item.array if isinstance(item, _Array) else item for key, item in value.items()
    }


class _Unpickler(pickle.Unpickler):
    """Admits dicts, lists, numbers, text, bytes and uint8 arrays.

    It calls nothing but the stand-ins below: NumPy itself never sees what a pickle asks of it.
    """

    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get(f"{module.replace('numpy._core.', 'numpy.core.')}.{name}")
        if stand_in is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        # A new function each time, for a pickle may set attributes of what it looked up.
        return lambda *arguments: stand_in(*arguments)


class _Dtype:
    """numpy.dtype(code, align, copy)."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignores the state: a type of one byte has no byte order."""


class _Array:
    """A uint8 array, empty until its state comes: (version, shape, dtype, is Fortran, content)."""

    def __init__(self, *_: object) -> None:
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.array = _frombuffer(content, dtype, shape, "F" if is_fortran else "C").array


def _frombuffer(content: bytes | str, dtype: _Dtype, shape: Any, order: Any) -> _Array:
    if dtype.code != "u1":
        raise pickle.UnpicklingError(f"an array of {dtype.code}, not of bytes")
    content = content.encode("latin-1") if isinstance(content, str) else content
    result = _Array()
    result.array = np.frombuffer(content, np.uint8).reshape(shape, order=order)
    return result


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin-1")


# What arrays are pickled with: by Python 2, by protocols to 2 and to 4, and by protocol 5.
_STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _encode,
}
