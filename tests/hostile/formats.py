"""The files that are read from strangers, a small good one of each, and what a reader may find.

Each format has `content`, a strategy `changed()` of others like it, `write(content)` -> its path,
`read(path)`, and `wrong(path, found)`: None if what was read is what the file says.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
import torch
from hypothesis import strategies as st

import torch_ref.data
import torch_ref.models
from hostile.changes import changed
from jax_impl.data import archive, datasets
from jax_impl.models import registry
from jax_impl.models.model import Variables, from_spec
from jax_impl.training.checksums import KEY
from parity.commands import convert
from parity.pairs import weight_source
from parity.pairs.weights import to_flax
from parity.shell import prepare

RECORDS = 2
SPEC = registry.parse("simple_cnn:channels=2,2:hidden=2")
MODEL = from_spec(SPEC)
PACKERS = {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def images_of(dataset: archive.Dataset) -> list[np.ndarray]:
    """All arrays of a data set."""
    return [
        array for split in (dataset.train, dataset.test) for array in (split.images, split.labels)
    ]


def valid(dataset: archive.Dataset) -> str | None:
    """What of a data set cannot be; that a number is another, no file without a sum can say."""
    for split, records in ((dataset.train, 5 * RECORDS), (dataset.test, RECORDS)):
        if split.images.shape != (records, 32, 32, 3) or split.images.dtype != np.uint8:
            return f"images {split.images.dtype}{split.images.shape}"
        if (
            split.labels.shape != (records,)
            or not ((split.labels >= 0) & (split.labels < 10)).all()
        ):
            return f"labels {split.labels}"
    names = dataset.class_names
    odd = len({*names}) != 10 or not all(name.isprintable() and name for name in names)
    return f"classes {names}" if odd else None


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    """Equal in shape and in every byte."""
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True)
    )


def batches(seed: int = 0) -> dict[str, bytes]:
    """The files of the python layout."""
    draw = np.random.default_rng(seed)
    files = {
        name: pickle.dumps(
            {"data": draw.integers(0, 256, (RECORDS, 3072), np.uint8), "labels": [1, 2]}
        )
        for name in archive.PYTHON_FILES
    }
    names = {"label_names": [f"class {label}" for label in range(10)]}
    return files | {archive.PYTHON_META: pickle.dumps(names, 2)}


def fixed_checksums(blocks: bytes) -> bytes:
    """A tar whose headers have the checksums that they should have."""
    data = bytearray(blocks)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


class Tar:
    """A binary archive as it lies, its headers' checksums made right after the change."""

    def __init__(self, folder: Path):
        self.folder = folder
        draw = np.random.default_rng(0)
        files = {
            name: b"".join(bytes([label]) + draw.bytes(3072) for label in (3, 9))
            for name in archive.BINARY_FILES
        }
        files[archive.BINARY_META] = b"".join(b"class%d\n" % label for label in range(10))
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(f"{archive.BINARY_FOLDER}/{name}")
                member.size, member.pax_headers = len(text), {"comment": "é" * 60}
                tar.addfile(member, io.BytesIO(text))
        self.content: Any = buffer.getvalue()

    def changed(self) -> st.SearchStrategy[Any]:
        return changed(self.content).flatmap(
            lambda content: st.sampled_from((content, fixed_checksums(content)))
        )

    def write(self, content: Any) -> Path:
        path = self.folder / "a.tar"
        path.write_bytes(content)
        return path

    def read(self, path: Path) -> archive.Dataset:
        return archive.read(path, RECORDS).dataset

    def wrong(self, path: Path, found: archive.Dataset) -> str | None:
        """Python's own reader must find the same records in the files of these names."""
        files: dict[str, bytes] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    files.setdefault(Path(member.name).name, content.read())
        images = (*found.train.images, *found.test.images)
        labels = (*found.train.labels, *found.test.labels)
        ours = b"".join(
            bytes([label]) + image.transpose(2, 0, 1).tobytes()
            for image, label in zip(images, labels, strict=True)
        )
        if ours != b"".join(files[name] for name in archive.BINARY_FILES):
            return "other records than tarfile reads"
        return valid(found)


class Packed(Tar):
    """The same compressed, and changed where it is compressed: each kind has a checksum."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.content = gzip.compress(self.content, mtime=0)
        self.original = images_of(self.read(self.write(self.content)))
        plain = gzip.decompress(self.content)
        self.packed = [pack(plain) for name, pack in PACKERS.items() if name != "tar"]

    def changed(self) -> st.SearchStrategy[Any]:
        return st.sampled_from(self.packed).flatmap(changed)

    def wrong(self, path: Path, found: archive.Dataset) -> str | None:
        return None if same(images_of(found), self.original) else "other records than were packed"


class Pickle:
    """The folder of the python layout, one file of it changed."""

    def __init__(self, folder: Path):
        self.folder, self.files = folder / "unpacked", batches()
        self.folder.mkdir()
        self.content: Any = (archive.PYTHON_META, self.files[archive.PYTHON_META])

    def changed(self) -> st.SearchStrategy[Any]:
        some = (archive.PYTHON_META, archive.PYTHON_FILES[0])
        return st.sampled_from(some).flatmap(
            lambda name: st.tuples(st.just(name), changed(self.files[name]))
        )

    def write(self, content: Any) -> Path:
        for name, text in (self.files | dict([content])).items():
            (self.folder / name).write_bytes(text)
        return self.folder

    def read(self, path: Path) -> archive.Dataset:
        return archive.read(path, RECORDS).dataset

    def wrong(self, path: Path, found: archive.Dataset) -> str | None:
        return valid(found)


class Weights:
    """A file of weights, read as `parity convert` reads it."""

    suffix = ".pth"

    def __init__(self, folder: Path):
        self.folder = folder
        torch.manual_seed(0)
        self.state = torch_ref.models.create_model(
            "simple_cnn", channels=(2, 2), hidden=2
        ).state_dict()
        self.content: Any = self.made()
        self.original = jax.tree.leaves(self.read(self.write(self.content)))

    def made(self) -> Any:
        """The good file."""
        buffer = io.BytesIO()
        torch.save(self.state, buffer)
        return buffer.getvalue()

    def changed(self) -> st.SearchStrategy[Any]:
        return changed(self.content)

    def write(self, content: Any) -> Path:
        path = self.folder / f"a{self.suffix}"
        path.unlink(missing_ok=True)  # a file that is mapped would change under its reader
        path.write_bytes(content)
        return path

    def read(self, path: Path) -> Variables:
        return weight_source.read(path, SPEC, MODEL)

    def wrong(self, path: Path, found: Variables) -> str | None:
        """PyTorch's own reader must find the same."""
        theirs = torch.load(path, map_location="cpu", weights_only=True)
        expected = to_flax(theirs.get("state_dict", theirs), MODEL)
        if not same(jax.tree.leaves(found), jax.tree.leaves(expected)):
            return "other weights than torch.load reads"
        return None


class Zip(Weights):
    """As it lies: every part has a checksum."""

    def wrong(self, path: Path, found: Variables) -> str | None:
        return None if same(jax.tree.leaves(found), self.original) else "other weights"


class ZipInside(Weights):
    """What torch.save packs is changed, and packed again with its checksums."""

    def changed(self) -> st.SearchStrategy[Any]:
        with zipfile.ZipFile(io.BytesIO(self.content)) as file:
            parts = {entry.filename: file.read(entry) for entry in file.infolist()}
        name = next(name for name in parts if name.endswith("data.pkl"))
        some = (name, name, name, *parts)
        return st.sampled_from(some).flatmap(
            lambda name: changed(parts[name]).map(lambda text: self.packed(parts | {name: text}))
        )

    def packed(self, parts: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, text in parts.items():
                file.writestr(name, text)
        return buffer.getvalue()


class Legacy(Weights):
    """PyTorch's format of before 2020, which has no checksum."""

    def made(self) -> Any:
        buffer = io.BytesIO()
        torch.save(self.state, buffer, _use_new_zipfile_serialization=False)
        return buffer.getvalue()


class Safetensors(Weights):
    """A file of this project's own, with a checksum of every tensor; header and body changed."""

    suffix = ".safetensors"

    def made(self) -> Any:
        path = self.folder / "made.safetensors"
        with jax.enable_x64(True):
            convert.write(path, to_flax(self.state, MODEL), SPEC, MODEL)
        return path.read_bytes()

    def changed(self) -> st.SearchStrategy[Any]:
        size = struct.unpack("<Q", self.content[:8])[0]
        header, body = self.content[8 : 8 + size], self.content[8 + size :]
        inside = changed(header).map(lambda text: struct.pack("<Q", len(text)) + text + body)
        return st.one_of(changed(self.content), inside)

    def wrong(self, path: Path, found: Variables) -> str | None:
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
        expected = to_flax(safetensors.numpy.load(content), MODEL)
        if not same(jax.tree.leaves(found), jax.tree.leaves(expected)):
            return "other weights than safetensors reads"
        told = json.loads(header["__metadata__"].get(KEY, "{}")) if "__metadata__" in header else {}
        if {*told} == {*self.state} and not same(jax.tree.leaves(found), self.original):
            return "other weights than their checksums"
        return None


class Folder:
    """A folder of several files, one of them changed or gone."""

    folder: Path
    name: str
    files: dict[str, bytes]

    def keep(self, made: Path) -> None:
        """Takes the good files from a folder."""
        self.files = {
            file.relative_to(made).as_posix(): file.read_bytes()
            for file in sorted(made.rglob("*"))
            if file.is_file()
        }

    def changed(self) -> st.SearchStrategy[Any]:
        return st.sampled_from(sorted(self.files)).flatmap(
            lambda name: st.fixed_dictionaries(
                {name: st.one_of(st.none(), *[changed(self.files[name])] * 9)}
            )
        )

    def write(self, content: Any) -> Path:
        path = self.folder / self.name
        shutil.rmtree(path, ignore_errors=True)
        for name, text in (self.files | content).items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                (path / name).write_bytes(text)
        return path


class Orbax(Folder, Weights):
    """A checkpoint."""

    name = "checkpoint"

    def made(self) -> Any:
        path = self.folder / "made"
        convert.write(path, to_flax(self.state, MODEL), SPEC, MODEL)
        self.keep(path)
        return {}

    def wrong(self, path: Path, found: Variables) -> str | None:
        return None if same(jax.tree.leaves(found), self.original) else "other weights"


class Prepared(Folder):
    """What `parity prepare` left, as both sides read it."""

    name = "data"

    def __init__(self, folder: Path):
        self.folder = folder
        source = folder / "source"
        source.mkdir()
        for name, text in batches().items():
            (source / name).write_bytes(text)
        prepare.prepare(folder / "made", source, records=RECORDS, log=lambda _: None)
        self.keep(folder / "made")
        self.content: Any = {}
        self.original = images_of(self.read(self.write({})))

    def read(self, path: Path) -> archive.Dataset:
        prepare.find(path)
        torch_ref.data.CIFAR10(path, train=True)
        return datasets.load_cifar10(path, RECORDS)

    def wrong(self, path: Path, found: archive.Dataset) -> str | None:
        return None if same(images_of(found), self.original) else "another data set"


FORMATS = {
    "tar": Tar,
    "packed": Packed,
    "pickle": Pickle,
    "zip": Zip,
    "inside of zip": ZipInside,
    "legacy": Legacy,
    "safetensors": Safetensors,
    "orbax": Orbax,
    "prepared": Prepared,
}
