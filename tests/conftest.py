"""Data for the tests: a small synthetic CIFAR-10, and the real one where its archive is given."""

import fcntl
import functools
import http.server
import io
import os
import signal
import sys
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_impl.data import archive, datasets
from parity.shell.prepare import prepare

RECORDS = 20

needs_tfds = pytest.mark.skipif(
    not datasets.has_tfds(), reason="tensorflow-datasets is not installed"
)
# Several processes test at once; by default each would take most of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# And their threads would wait for each other: PyTorch's spin while they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests compile what they test, and leave nothing in the user's cache.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

LONG = "tests/parity/diagnosis", "tests/parity/ladder", "tests/jax_impl/models"
"""Folders of long tests, which come first: else one process ends long after the others."""


PROOFS = frozenset((Path(__file__).parent / "proofs.txt").read_text().splitlines())
"""Long tests of kinds that quicker ones beside them cover too."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid in PROOFS:
            item.add_marker(pytest.mark.proof)
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


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
    """A data directory prepared from the real archive, once a session for all its processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "cifar10.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        prepare(shared / "cifar10", cifar10_archive, log=lambda line: None)
    return shared / "cifar10"


@pytest.fixture(autouse=True)
def own_signals():
    """What a command in this process sets for itself: the next test's children would inherit it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


@pytest.fixture
def restored_jax(monkeypatch):
    """The configuration that a variant changes, since it has a process of its own."""
    import jax

    from jax_impl.ops import convolution, pooling

    for module, name in (
        (convolution, "conv2d"),
        (convolution, "WINOGRAD_TILES"),
        (pooling, "max_pool2d"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    names = "jax_default_matmul_precision", "jax_default_device"
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def small_prepare():
    return functools.partial(prepare, records=RECORDS, log=lambda line: None)


@pytest.fixture
def other_archive(small_files, tmp_path) -> Path:
    files = small_files | {"test_batch.bin": small_files["data_batch_1.bin"]}
    return write_tar(tmp_path / "other.tar", archive.BINARY_FOLDER, files)


@pytest.fixture
def no_network(monkeypatch):
    """Makes each request fail as it does on a machine without a network."""
    import requests

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "head", refuse)
    monkeypatch.setattr(requests.Session, "get", refuse)


@pytest.fixture
def server(small_archive, monkeypatch):
    """Serves the small archive in the place of the published one."""
    handler = functools.partial(QuietHandler, directory=str(small_archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        url = f"http://127.0.0.1:{server.server_port}/{small_archive.name}"
        monkeypatch.setattr(archive, "URL", url)
        yield server
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The run directory of a small net's training in PyTorch on digits, which is mostly right."""
    from parity.commands import train_torch
    from parity.shell.train_options import TrainOptions

    out, small = tmp_path_factory.mktemp("trained") / "run", "simple_cnn:channels=4,6:hidden=16"
    options = TrainOptions(
        "torch", model=small, data="digits", epochs=3, lr=5e-3, checkpoint_every=0.0, out=out
    )
    assert train_torch.run(options) == 0
    return out


@pytest.fixture
def parity_command(capfd):
    """`(arguments) -> (exit status, stdout, stderr)` of a command in this process.

    The precision of products, which commands pin, is put back.
    """
    import jax

    import parity.program
    from parity.shell import cli

    before = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]

    def command(*arguments: object) -> tuple[object, str, str]:
        capfd.readouterr()
        given = [str(argument) for argument in arguments]
        with pytest.raises(SystemExit) as stop:
            cli.run(parity.program.main, parity.program.Options, args=given, prog="parity")
        return (stop.value.code, *capfd.readouterr())

    yield command
    jax.config.update("jax_default_matmul_precision", before)
