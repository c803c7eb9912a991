"""Which data a run uses, and what it is told of it."""

import functools

import pytest
from conftest import RECORDS, needs_tfds

import parity.shell.prepare
from jax_impl.data import archive
from jax_impl.errors import InputError
from parity.shell.data_choice import Choice, resolve
from parity.shell.prepare import NoNetwork, find, prepare


@pytest.fixture
def small_resolve(monkeypatch):
    """`resolve` for archives of the small size, with no archive in the environment."""
    small = functools.partial(prepare, records=RECORDS)
    monkeypatch.setattr(parity.shell.prepare, "prepare", small)
    monkeypatch.delenv("CIFAR10_ARCHIVE", raising=False)
    return functools.partial(resolve, log=lambda line: None)


def test_resolve_digits(small_resolve, tmp_path):
    assert small_resolve("digits", tmp_path) == Choice("digits", "data: digits, as asked")


@pytest.mark.parametrize("wanted", ["auto", "cifar10"])
def test_resolve_prepared(
    small_resolve, small_archive, small_prepare, tmp_path, wanted, no_network
):
    small_prepare(tmp_path, small_archive)
    choice = small_resolve(wanted, tmp_path)
    assert choice.name == "cifar10"
    for words in (str(tmp_path), str(small_archive), "checksum is not a published one"):
        assert words in choice.reason


@pytest.mark.parametrize("wanted", ["auto", "cifar10"])
def test_resolve_archive(small_resolve, small_archive, tmp_path, monkeypatch, wanted, no_network):
    monkeypatch.setenv("CIFAR10_ARCHIVE", str(small_archive))
    choice = small_resolve(wanted, tmp_path)
    assert choice.name == "cifar10" and str(small_archive) in choice.reason
    assert find(tmp_path)


@pytest.mark.parametrize("wanted", ["auto", "cifar10"])
def test_resolve_bad_archive_is_an_error(small_resolve, tmp_path, monkeypatch, wanted, no_network):
    monkeypatch.setenv("CIFAR10_ARCHIVE", str(tmp_path / "missing.tar"))
    with pytest.raises(InputError, match="CIFAR10_ARCHIVE: cannot read .*missing.tar") as caught:
        small_resolve(wanted, tmp_path / "data")
    assert not isinstance(caught.value, NoNetwork) and not (tmp_path / "data").exists()


def test_prepared_data_win_over_an_archive_and_say_so(
    small_resolve, small_archive, small_prepare, tmp_path, monkeypatch
):
    small_prepare(tmp_path, small_archive)
    monkeypatch.setenv("CIFAR10_ARCHIVE", str(small_archive))
    assert "CIFAR10_ARCHIVE" not in small_resolve("auto", tmp_path).reason
    monkeypatch.setenv("CIFAR10_ARCHIVE", "my other.tar.gz")
    told = "not read: parity prepare --overwrite --archive 'my other.tar.gz' puts it in its place"
    assert told in small_resolve("auto", tmp_path).reason


@needs_tfds
def test_resolve_without_network(small_resolve, tmp_path, no_network):
    choice = small_resolve("auto", tmp_path / "data")
    assert choice.name == "digits"
    assert choice.reason.startswith("data: digits") and "no network" in choice.reason
    with pytest.raises(NoNetwork, match="no network"):
        small_resolve("cifar10", tmp_path / "data")
    assert not (tmp_path / "data").exists()


@needs_tfds
@pytest.mark.parametrize("wanted", ["auto", "cifar10"])
def test_resolve_downloads(server, small_resolve, small_archive, tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(archive, "BINARY_SHA256", archive.checksums(small_archive)[0])
    choice = small_resolve(wanted, tmp_path)
    assert choice == Choice("cifar10", f"data: CIFAR-10, prepared in {tmp_path} from {archive.URL}")


@needs_tfds
def test_resolve_does_not_hide_a_bad_download(server, small_resolve, tmp_path):
    with pytest.raises(InputError, match="is not the published archive"):
        small_resolve("auto", tmp_path)
