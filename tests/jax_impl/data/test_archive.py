"""Reading CIFAR-10's archives: every form they come in, and every way they are unusable."""

import builtins
import os
import pickle
import struct
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CLASS_NAMES, RECORDS, binary_files, write_tar

from jax_impl.data import archive
from jax_impl.errors import InputError

BINARY, PYTHON = archive.BINARY_FOLDER, archive.PYTHON_FOLDER


def python_files(files: dict[str, bytes], protocol: int, keys: type = str) -> dict[str, bytes]:
    """The same images as a binary archive's files, in pickles."""

    def dump(entry: dict[str, Any]) -> bytes:
        named = {key.encode() if keys is bytes else key: item for key, item in entry.items()}
        return pickle.dumps(named, protocol=protocol)

    result = {"batches.meta": dump({"label_names": CLASS_NAMES, "num_vis": 3072})}
    for name, content in files.items():
        if name.endswith(".bin"):
            rows = np.frombuffer(content, np.uint8).reshape(-1, 3073)
            entry = {"data": rows[:, 1:].copy(), "labels": rows[:, 0].tolist()}
            result[name.removesuffix(".bin")] = dump(entry)
    return result


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """What Python 2's cPickle wrote of a batch: protocol 2, byte strings, arrays of old NumPy."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + (number(data.shape[0]) + number(data.shape[1]) + b"\x86")
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        + (number(-1) + number(-1) + b"K\x00tb\x89")
        + (b"T" + struct.pack("<i", data.nbytes) + data.tobytes() + b"tb")
    )
    entries = text(b"data") + array
    entries += text(b"labels") + b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + entries + b"u."


def check(dataset: archive.Dataset, files: dict[str, bytes]) -> None:
    """Compares with the records pixel by pixel, by the format's definition."""
    train = b"".join(files[f"data_batch_{i}.bin"] for i in range(1, 6))
    for split, content in ((dataset.train, train), (dataset.test, files["test_batch.bin"])):
        rows = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        assert split.images.shape == (len(rows), 32, 32, 3) and split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32 and len(split) == len(rows)
        np.testing.assert_array_equal(split.labels, rows[:, 0])
        for channel in range(3):
            plane = rows[:, 1 + 1024 * channel : 1 + 1024 * (channel + 1)]
            np.testing.assert_array_equal(split.images[..., channel].reshape(-1, 1024), plane)
    assert dataset.class_names == tuple(CLASS_NAMES)
    assert (dataset.name, dataset.num_classes) == ("cifar10", 10)


def with_file(files: dict[str, bytes], name: str, content: bytes) -> dict[str, bytes]:
    return files | {name: content}


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_reads_binary_archive(small_files, tmp_path, compression):
    path = write_tar(tmp_path / "any.name", BINARY, small_files, compression)
    result = archive.read(path, RECORDS)
    check(result.dataset, small_files)
    assert result.sha256 == archive.checksums(path)[0] and not result.official


@pytest.mark.parametrize("keys", [str, bytes])
@pytest.mark.parametrize("protocol", range(6))
def test_reads_python_archive(small_files, tmp_path, protocol, keys):
    files = python_files(small_files, protocol, keys)
    path = write_tar(tmp_path / "py.tar.gz", PYTHON, files, "gz")
    check(archive.read(path, RECORDS).dataset, small_files)


def test_reads_pickles_of_python_2(small_files, tmp_path):
    files = python_files(small_files, 2)
    rows = np.frombuffer(small_files["data_batch_2.bin"], np.uint8).reshape(-1, 3073)
    batch = python2_pickle(rows[:, 1:].copy(), rows[:, 0].tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, on its own old pickles
        assert (pickle.loads(batch, encoding="latin1")["data"] == rows[:, 1:]).all()
    path = write_tar(tmp_path / "py.tar", PYTHON, with_file(files, "data_batch_2", batch))
    check(archive.read(path, RECORDS).dataset, small_files)


def test_reads_pickled_fortran_order(small_files, tmp_path):
    rows = np.frombuffer(small_files["test_batch.bin"], np.uint8).reshape(-1, 3073)
    entry = {"data": np.asfortranarray(rows[:, 1:]), "labels": rows[:, 0].tolist()}
    files = with_file(python_files(small_files, 4), "test_batch", pickle.dumps(entry, protocol=4))
    check(archive.read(write_tar(tmp_path / "a", PYTHON, files), RECORDS).dataset, small_files)


@pytest.mark.parametrize("folder", [BINARY, PYTHON])
def test_reads_unpacked_folder_and_its_parent(small_files, tmp_path, folder):
    (tmp_path / folder).mkdir()
    files = small_files if folder == BINARY else python_files(small_files, 4)
    for name, content in files.items():
        (tmp_path / folder / name).write_bytes(content)
    for path in (tmp_path, tmp_path / folder):
        result = archive.read(path, RECORDS)
        check(result.dataset, small_files)
        assert result.sha256 is None and not result.official


@pytest.mark.parametrize("constant, index", [("BINARY_SHA256", 0), ("PYTHON_MD5", 1)])
def test_knows_published_archives(small_archive, monkeypatch, constant, index):
    monkeypatch.setattr(archive, constant, archive.checksums(small_archive)[index])
    assert archive.read(small_archive, RECORDS).official


def test_reads_full_size_archive(tmp_path):
    path = write_tar(tmp_path / "full.tar", BINARY, binary_files(10_000))
    dataset = archive.read(path).dataset
    assert len(dataset.train) == 50_000 and len(dataset.test) == 10_000


def test_ignores_other_members(small_files, tmp_path):
    files = {"readme.html": b"x" * 10_000_000} | small_files
    check(archive.read(write_tar(tmp_path / "a", BINARY, files), RECORDS).dataset, small_files)


def refused(path: Path, *words: str, records: int = RECORDS) -> None:
    """Asserts that reading is refused in one line with these words."""
    with pytest.raises(InputError) as caught:
        archive.read(path, records)
    message = str(caught.value)
    assert "\n" not in message
    for word in (*words, str(path)):
        assert word in message, message


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("part", [0.05, 0.3, 0.7])
def test_truncated_archive(small_files, tmp_path, compression, part):
    path = write_tar(tmp_path / "a", BINARY, small_files, compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match="damaged|lacks"):
        archive.read(path, RECORDS)


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_damaged_archive(small_files, tmp_path, compression):
    path = write_tar(tmp_path / "a", BINARY, small_files, compression)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged|is not in 0 to 9|lacks|bytes, not"):
        archive.read(path, RECORDS)


def test_wrong_checksum_at_the_end_of_gzip(small_files, tmp_path):
    path = write_tar(tmp_path / "a", BINARY, small_files, "gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF
    path.write_bytes(content)
    refused(path, "truncated or damaged", "CRC")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" * 1000, bytes(100_000)])
def test_not_an_archive(tmp_path, content):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no tar archive|is no complete CIFAR-10"):
        archive.read(path, RECORDS)


def test_missing_file(tmp_path):
    refused(tmp_path / "none.tar", "cannot read", "No such file")


def test_unreadable_file(small_archive, monkeypatch):
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtins, "open", refuse)
    refused(small_archive, "cannot read", "Permission denied")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
def test_unreadable_folder(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    refused(tmp_path / "closed", "cannot read", "Permission denied")


def test_folder_without_data(tmp_path):
    refused(tmp_path, "holds no CIFAR-10")


def test_missing_member(small_files, tmp_path):
    files = {name: content for name, content in small_files.items() if "batch_3" not in name}
    refused(write_tar(tmp_path / "a", BINARY, files), "lacks data_batch_3.bin")


def test_member_twice(small_files, tmp_path):
    path = write_tar(tmp_path / "a", BINARY, small_files)
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo(f"other/{'test_batch.bin'}"))
    refused(path, "test_batch.bin twice")


@pytest.mark.parametrize(
    "content, words",
    [
        (lambda old: old[:-1], "bytes, not 20 records of 3,073"),
        (lambda old: old[:-3073], "58,387 bytes, not 20 records"),
        (lambda old: old + b"x", "61,461 bytes, not 20 records"),
        (lambda old: old * 2, "too large"),
        (lambda old: old[:3073] + b"\x0a" + old[3074:], "label 10 of record 1 is not in 0 to 9"),
    ],
)
def test_wrong_records(small_files, tmp_path, content, words):
    files = with_file(small_files, "data_batch_4.bin", content(small_files["data_batch_4.bin"]))
    refused(write_tar(tmp_path / "a", BINARY, files), "data_batch_4.bin", words)


def test_wrong_class_names(small_files, tmp_path):
    files = with_file(small_files, "batches.meta.txt", b"cat\ndog\n")
    refused(write_tar(tmp_path / "a", BINARY, files), "does not name 10 classes")


@pytest.mark.parametrize(
    "name, kind",
    [
        ("../escape", tarfile.REGTYPE),
        ("cifar-10-batches-bin/../../escape", tarfile.REGTYPE),
        ("/tmp/escape", tarfile.REGTYPE),
        ("..\\escape", tarfile.REGTYPE),
        ("cifar-10-batches-bin/link", tarfile.SYMTYPE),
        ("cifar-10-batches-bin/hardlink", tarfile.LNKTYPE),
        ("cifar-10-batches-bin/device", tarfile.CHRTYPE),
        ("cifar-10-batches-bin/fifo", tarfile.FIFOTYPE),
    ],
)
def test_members_that_escape(small_files, tmp_path, name, kind):
    path = write_tar(tmp_path / "a", BINARY, small_files)
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        tar.addfile(member)
    refused(path, "unsafe", repr(name))


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def refused_pickle(files: dict[str, bytes], tmp_path: Path, content: bytes, *words: str) -> None:
    changed = with_file(python_files(files, 4), "data_batch_1", content)
    refused(write_tar(tmp_path / "a", PYTHON, changed), "data_batch_1", *words)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, np.load])
def test_pickles_execute_nothing(small_files, tmp_path, function, protocol):
    content = pickle.dumps({"data": Call(function, f"touch {tmp_path}/ran")}, protocol=protocol)
    refused_pickle(small_files, tmp_path, content, "asks for")
    assert not (tmp_path / "ran").exists()


def test_pickles_change_nothing(small_files, tmp_path):
    # BUILD sets attributes of whatever was looked up.
    content = b"\x80\x02cnumpy.core.numeric\n_frombuffer\n}U\x06markerK\x01sb."
    refused_pickle(small_files, tmp_path, content)
    assert not hasattr(archive._frombuffer, "marker")


def test_pickles_name_no_other_encoding(small_files, tmp_path):
    content = b"\x80\x02}U\x01ac_codecs\nencode\nX\x03\x00\x00\x00abcU\x05utf-8\x86Rs."
    refused_pickle(small_files, tmp_path, content, "asks for the encoding utf-8")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        pickle.dumps({"data": 1})[:-3],
        b"\x80\x04Pid\n.",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros((RECORDS, 3072), object)}, protocol=4),
        pickle.dumps({"data": np.zeros((RECORDS, 3072), np.int8)}, protocol=4),
        pickle.dumps({"data": np.float32(1)}, protocol=4),
    ],
)
def test_bad_pickles(small_files, tmp_path, content):
    refused_pickle(small_files, tmp_path, content, "is no pickle of CIFAR-10")


GOOD = np.zeros((RECORDS, 3072), np.uint8)


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"data": GOOD[:-1], "labels": [0] * RECORDS}, "'data' is (19, 3072)"),
        ({"data": GOOD.reshape(-1), "labels": [0] * RECORDS}, "'data' is (61440,)"),
        ({"data": [0], "labels": [0] * RECORDS}, "'data' is list"),
        ({"labels": [0] * RECORDS}, "'data' is NoneType"),
        ({"data": GOOD}, "'labels' is no list of integers"),
        ({"data": GOOD, "labels": [0.5] * RECORDS}, "'labels' is no list of integers"),
        ({"data": GOOD, "labels": [0] * 19}, "19 labels for 20 images"),
        ({"data": GOOD, "labels": [0] * 19 + [-1]}, "label -1 of record 19"),
        ({"data": GOOD, "labels": [10**30] * RECORDS}, "of record 0 is not in 0 to 9"),
    ],
)
def test_wrong_contents_of_pickles(small_files, tmp_path, entry, words):
    refused_pickle(small_files, tmp_path, pickle.dumps(entry), words)


@pytest.mark.parametrize("names", [["cat"], None, [1] * 10])
def test_wrong_class_names_of_pickles(small_files, tmp_path, names):
    meta = pickle.dumps({"label_names": names})
    files = with_file(python_files(small_files, 4), "batches.meta", meta)
    refused(write_tar(tmp_path / "a", PYTHON, files), "does not name 10 classes")


def test_reads_no_more_than_a_member_may_hold(small_files, tmp_path):
    files = with_file(small_files, "batches.meta.txt", b"a " * 10_000)
    refused(write_tar(tmp_path / "a", BINARY, files), "batches.meta.txt", "too large")


def test_stream_is_not_unpacked(small_files, tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar.gz", BINARY, small_files, "gz")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    archive.read(path, RECORDS)
    assert sorted(tmp_path.iterdir()) == before


def test_published_facts_of_the_real_archive(cifar10_original):
    dataset = cifar10_original
    assert dataset.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert dataset.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert np.bincount(dataset.train.labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    counts = np.stack(
        [np.bincount(dataset.train.images[..., c].ravel(), minlength=256) for c in range(3)]
    )
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)
    np.testing.assert_allclose(mean, [0.49140, 0.48216, 0.44653], atol=6e-6)
    np.testing.assert_allclose(std, [0.24703, 0.24348, 0.26159], atol=6e-6)
