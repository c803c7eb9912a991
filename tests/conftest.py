"""Data for the tests: a small synthetic CIFAR-10, and the real one where its archive is given."""

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from jax_impl import archive, data
from parity.prepare import prepare

RECORDS = 20

needs_tfds = pytest.mark.skipif(not data.has_tfds(), reason="tensorflow-datasets is not installed")
# Several processes test at once; by default each would take most of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Tests compile what they test, and leave nothing in the user's cache.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

CLASS_NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def binary_files(records: int) -> dict[str, bytes]:
    """The files of a binary archive with random images, by name."""
    rng = np.random.default_rng(0)
    files = {"batches.meta.txt": ("\n".join(CLASS_NAMES) + "\n\n").encode()}
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        rows = rng.integers(0, 256, (records, 3073), np.uint8)
        rows[:, 0] %= 10
        files[name] = rows.tobytes()
    return files


def write_tar(path: Path, folder: str, files: Mapping[str, bytes], compression: str = "") -> Path:
    """A tar of `files` in `folder`, at `path`; compression "", "gz", "bz2" or "xz"."""
    with tarfile.open(path, f"w:{compression}") as tar:  # pyright: ignore
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="session")
def small_files() -> dict[str, bytes]:
    """A binary archive's files with RECORDS random images in each."""
    return binary_files(RECORDS)


@pytest.fixture(scope="session")
def small_archive(small_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "small.tar.gz"
    return write_tar(path, "cifar-10-batches-bin", small_files, "gz")


@pytest.fixture(scope="session")
def cifar10_archive() -> Path:
    """The real archive."""
    path = os.environ.get("CIFAR10_ARCHIVE")
    if not path:
        pytest.skip("CIFAR10_ARCHIVE names no CIFAR-10 archive")
    return Path(path)


@pytest.fixture(scope="session")
def cifar10_original(cifar10_archive: Path) -> archive.Dataset:
    """What the real archive holds."""
    return archive.read(cifar10_archive).dataset


@pytest.fixture(scope="session")
def cifar10_dir(cifar10_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory prepared from the real archive, once a session."""
    directory = tmp_path_factory.mktemp("cifar10")
    prepare(directory, cifar10_archive, log=lambda line: None)
    return directory
