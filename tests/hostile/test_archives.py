"""Archives of CIFAR-10 whose headers, pickles or names claim what no data set needs."""

import bz2
import gzip
import io
import os
import pickle
import struct
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from jax_impl.data import archive, bounded, datasets
from jax_impl.errors import InputError
from parity.shell import prepare

SECONDS = 10


def refused(path: Path) -> str:
    began = time.monotonic()
    with pytest.raises(InputError) as error:
        archive.read(path, records=2)
    assert time.monotonic() - began < SECONDS
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    return str(error.value)


def header(name: bytes, kind: bytes, size: bytes) -> bytes:
    """A block of a tar, with its checksum."""
    block = bytearray(512)
    block[: len(name)], block[100:108] = name, b"0000644\0"
    block[124:136], block[156:157], block[257:265] = size, kind, b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


HUGE = b"\x80" + bytes(4) + b"\x7f" * 7
"""2^55 and more, in base 256."""


@pytest.mark.parametrize("size", [octal(3 << 29), HUGE])
@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g", b"X", b"0", b"S"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_a_member_that_claims_any_size_is_refused(size, kind, pack, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(pack(header(b"foo", kind, size) + bytes(4096)))
    assert "a member claims" in refused(path)


def test_an_archive_of_any_length_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "MOST", 1 << 20)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(header(b"foo", b"0", octal(5)) + bytes(1 << 22)))
    assert "unpacks to more than 1,048,576 bytes" in refused(path)


def pax(**attributes: str) -> bytes:
    """A tar whose first member has these attributes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("data_batch_1")
        member.pax_headers = attributes
        tar.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pax(**{"GNU.sparse.size": "x"}),
        pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
        header(b"foo", b"L", octal(4)).join([b""] * 3001),
        (header(b"foo", b"L", octal(4)) + b"name".ljust(512, b"\0")) * 3000,
    ],
    ids=["sparse size", "sparse map", "headers of headers", "names of names"],
)
def test_attributes_that_are_none_are_damage(content, tmp_path):
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    assert "damaged" in refused(tmp_path / "a.tar") or "lacks" in refused(tmp_path / "a.tar")


def test_python_2s_protocol_0_is_read(tmp_path):
    """As Python 2 wrote it: the bytes of an array escaped, up to four letters each."""
    pixels = np.random.default_rng(0).integers(128, 256, (2, 3072)).astype(np.uint8)
    escaped = "".join(f"\\x{byte:02x}" for byte in pixels.tobytes())
    folder = unpacked(tmp_path)
    for name in archive.PYTHON_FILES:
        (folder / name).write_text(
            "(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n"
            "(I0\ntp4\nS'b'\np5\ntp6\nRp7\n(I1\n(I2\nI3072\ntp8\ncnumpy\ndtype\np9\n"
            "(S'u1'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
            f"S'{escaped}'\np15\ntp16\nbsS'labels'\np17\n(lp18\nI1\naI2\nas.",
            "ascii",
        )
    images = archive.read(folder, records=2).dataset.test.images
    np.testing.assert_array_equal(images.transpose(0, 3, 1, 2).reshape(2, -1), pixels)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_refused(kind, tmp_path):
    path = tmp_path / "pipe" if kind == "pipe" else Path("/dev/zero")
    if kind == "pipe":
        os.mkfifo(path)
    assert "no regular file" in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"K\x01r" + struct.pack("<I", 1 << 26) + b".",
        b"K\x01r" + struct.pack("<I", 2**32 - 1) + b".",
        b"K\x01p99999999999\n.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",
    ],
    ids=["memo", "memo of 2^32", "memo in text", "bytearray", "bytes", "number", "frame"],
)
def test_a_pickle_sets_no_more_aside_than_it_has(content, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder = unpacked(tmp_path)
    (folder / archive.PYTHON_FILES[0]).write_bytes(content)
    assert "is no pickle of CIFAR-10" in refused(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


def unpacked(folder: Path, names=None) -> Path:
    """The python layout, of two records a file."""
    path = folder / "unpacked"
    path.mkdir()
    for name in archive.PYTHON_FILES:
        batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]}
        (path / name).write_bytes(pickle.dumps(batch))
    names = [f"c{i}" for i in range(10)] if names is None else names
    (path / archive.PYTHON_META).write_bytes(pickle.dumps({"label_names": names}, 2))
    return path


TEN = [f"c{i}" for i in range(10)]


@pytest.mark.parametrize(
    "names",
    [
        ["x"] * 10,
        [*TEN[:9], "\udc80"],
        [*TEN[:9], "a\nb"],
        [*TEN[:9], ""],
        [*TEN[:9], "x" * 10_001],
    ],
    ids=["twice", "surrogate", "newline", "empty", "long"],
)
def test_names_of_classes_are_ten_short_texts(names, tmp_path):
    assert "batches.meta" in refused(unpacked(tmp_path, names))


@pytest.mark.parametrize("change", ["cut", "another name", "gone"])
def test_other_names_of_classes_beside_the_prepared_data_are_noticed(change, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    prepare.prepare(tmp_path / "data", unpacked(tmp_path), records=2, log=lambda _: None)
    assert datasets.load_cifar10(tmp_path / "data", 2).class_names == tuple(TEN)
    path = tmp_path / "data" / datasets.TFDS_FOLDER / "label.labels.txt"
    text = path.read_text()
    path.unlink()
    if change != "gone":
        path.write_text(text[:8] if change == "cut" else text.replace("c5", "XX"))
    with pytest.raises(InputError, match="is damaged .*parity prepare"):
        datasets.load_cifar10(tmp_path / "data", 2)


def test_a_name_of_a_member_is_shown_escaped_and_shortened(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../\x1b[31m" + "x" * 300))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    message = refused(tmp_path / "a.tar")
    assert "is unsafe" in message and "\x1b" not in message and "..." in message


@pytest.mark.parametrize(
    "text",
    [b'\xff{"schema":1}', b"[" * 100_000, b'{"schema":1,"files":["' + b"x" * 300 + b'"]}'],
    ids=["not UTF-8", "deep", "long name"],
)
def test_a_damaged_manifest_is_told(text, tmp_path):
    (tmp_path / "prepared.json").write_bytes(text)
    with pytest.raises(InputError, match="prepared.json is damaged"):
        prepare.prepare(tmp_path, unpacked(tmp_path), records=2)


def test_text_of_odd_escapes_gives_no_warning(tmp_path, recwarn):
    folder = unpacked(tmp_path)
    (folder / archive.PYTHON_FILES[0]).write_bytes(b"V\\q\nc\\q\n\\q\n.")
    refused(folder)
    (folder / archive.PYTHON_FILES[0]).write_bytes(b"S'\\q'\n.")
    refused(folder)
    assert not recwarn.list


def test_an_attribute_that_overflows_is_damage(tmp_path):
    content = b"99999999999999999999 comment=x\n"
    tar = header(b"foo", b"x", octal(len(content))) + content.ljust(512, b"\0") + bytes(1024)
    (tmp_path / "a.tar").write_bytes(tar)
    assert "damaged" in refused(tmp_path / "a.tar")
