"""Downloading CIFAR-10, from a server on this machine."""

import socket
import threading
import time

import pytest
from conftest import RECORDS, needs_tfds
from prepare_support import PYTHON

import parity.shell.prepare
from jax_impl.data import archive, datasets
from jax_impl.errors import InputError
from parity.shell.prepare import NoNetwork, prepare


@needs_tfds
def test_downloads(server, small_archive, tmp_path, monkeypatch, capfd):
    import tensorflow_datasets as tfds

    tfds.enable_progress_bar()
    monkeypatch.setattr(archive, "BINARY_SHA256", archive.checksums(small_archive)[0])
    lines: list[str] = []
    result = prepare(tmp_path / "data", log=lines.append, records=RECORDS)
    assert result.official and result.source == archive.URL
    assert lines[0] == f"downloading {archive.URL}"
    assert len(datasets.load_cifar10(tmp_path / "data", RECORDS).train) == 5 * RECORDS
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        PYTHON,
        "cifar10",
        "prepared.json",
    ]
    assert capfd.readouterr() == ("", "")


@needs_tfds
def test_refuses_a_download_that_is_not_the_published_archive(server, small_prepare, tmp_path):
    with pytest.raises(InputError, match="is not the published archive: its SHA-256"):
        small_prepare(tmp_path / "data")
    assert not (tmp_path / "data").exists()


@needs_tfds
def test_tfds_verifies_its_registered_checksum(server, small_prepare, tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import checksums

    known = checksums.get_all_url_infos()
    published = known["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    assert published.checksum == archive.BINARY_SHA256
    monkeypatch.setattr(checksums, "get_all_url_infos", lambda: {archive.URL: published})
    with pytest.raises(InputError, match="failed: .*wrong checksum"):
        small_prepare(tmp_path / "data")
    assert not (tmp_path / "data").exists()


@needs_tfds
def test_failed_download(server, small_prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(parity.shell.prepare, "check_network", lambda: None)
    monkeypatch.setattr(archive, "URL", archive.URL + ".missing")
    with pytest.raises(InputError, match="the download of .* failed: .*404") as caught:
        small_prepare(tmp_path / "data")
    assert not isinstance(caught.value, NoNetwork)
    assert not (tmp_path / "data").exists()


def test_torchvision_knows_the_published_python_archive():
    import torchvision

    assert archive.PYTHON_MD5 == torchvision.datasets.CIFAR10.tgz_md5


@needs_tfds
def test_server_that_answers_with_an_error(server, monkeypatch):
    monkeypatch.setattr(archive, "URL", archive.URL + ".missing")
    with pytest.raises(NoNetwork, match="the server answers 404"):
        parity.shell.prepare.check_network()


@needs_tfds
def test_host_that_never_answers(monkeypatch):
    monkeypatch.setattr(parity.shell.prepare, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(archive, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        started = time.perf_counter()
        with pytest.raises(NoNetwork, match="ReadTimeout"):
            parity.shell.prepare.check_network()
        assert time.perf_counter() - started < 2


@needs_tfds
def test_address_that_is_looked_up_forever(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(parity.shell.prepare, "PROBE_SECONDS", -0.9)
    monkeypatch.setattr(parity.shell.prepare, "_probe", lambda url: str(release.wait(10)))
    with pytest.raises(NoNetwork, match="no answer"):
        parity.shell.prepare.check_network()
    release.set()


def test_download_needs_tfds(monkeypatch):
    monkeypatch.setattr(datasets, "has_tfds", lambda: False)
    with pytest.raises(NoNetwork, match="without tensorflow-datasets"):
        parity.shell.prepare.check_network()
