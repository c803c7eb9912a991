"""Both sides' data: the same bytes, in the same order, normalised to the same floats."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import RECORDS, needs_tfds
from PIL import Image

import torch_ref.data
import torch_ref.errors
from jax_impl.data import archive, datasets
from jax_impl.errors import InputError
from torch_ref import layout

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def small(small_archive) -> datasets.Dataset:
    return archive.read(small_archive, RECORDS).dataset


@pytest.fixture(scope="module")
def small_tfds(small, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("tfds")
    datasets.write_tfds(small, directory)
    return directory


def write_layout(dataset: datasets.Dataset, folder: Path) -> dict[str, str]:
    train, test = dataset.train, dataset.test
    return layout.write(
        folder, (train.images, train.labels), (test.images, test.labels), dataset.class_names
    )


def manifest(folder: Path, sums: dict[str, str]) -> None:
    files = {f"{layout.FOLDER}/{name}": md5 for name, md5 in sums.items()}
    (folder / "prepared.json").write_text(json.dumps({"files": files}))


def assert_same(left: datasets.Dataset, right: datasets.Dataset) -> None:
    for a, b in ((left.train, right.train), (left.test, right.test)):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert (a.images.dtype, a.labels.dtype) == (np.uint8, np.int32)
        assert (b.images.dtype, b.labels.dtype) == (np.uint8, np.int32)
    assert left.class_names == right.class_names


# Normalisation.


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_normalize_is_torchvisions_to_the_bit(transform):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    transformed: Any = torch_ref.data.TRANSFORM(Image.fromarray(values))
    expected = transformed.numpy()
    result = np.asarray(transform(lambda x: datasets.normalize(x, jnp.float32))(values))
    assert result.dtype == np.float32 and result.shape == (16, 16, 3)
    assert result.transpose(2, 0, 1).tobytes() == expected.tobytes()
    assert (result.min(), result.max()) == (-1, 1)


def test_normalize_casts_the_float32_values():
    values = jnp.arange(256, dtype=jnp.uint8)
    single = datasets.normalize(values)
    half = datasets.normalize(values, jnp.bfloat16)
    assert half.dtype == jnp.bfloat16 and (half == single.astype(jnp.bfloat16)).all()
    with jax.enable_x64(True):
        double = datasets.normalize(values, jnp.float64)
        assert double.dtype == jnp.float64
        np.testing.assert_array_equal(np.asarray(double), np.asarray(single))


# Where data lies.


def test_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("PARITY_DATA_DIR", str(tmp_path / "variable"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert datasets.data_directory(tmp_path) == tmp_path
    assert datasets.data_directory(Path("~/here")) == tmp_path / "here"
    assert datasets.data_directory() == tmp_path / "variable"
    monkeypatch.setenv("PARITY_DATA_DIR", "")
    assert datasets.data_directory().name == "jax-torch-parity"


def test_unknown_names():
    with pytest.raises(InputError, match="unknown data set 'mnist'"):
        datasets.load_dataset("mnist")
    with pytest.raises(torch_ref.errors.InputError, match="unknown data set 'mnist'"):
        torch_ref.data.load("mnist")


# CIFAR-10 on the JAX side.


@needs_tfds
def test_tfds_round_trip_in_canonical_order(small, small_tfds):
    assert_same(datasets.load_cifar10(small_tfds, RECORDS), small)


@needs_tfds
def test_tfds_stores_its_own_layout(small_tfds, small):
    import tensorflow_datasets as tfds

    folder = small_tfds / "cifar10" / "3.0.2"
    assert {"dataset_info.json", "features.json", "label.labels.txt"} <= {
        path.name for path in folder.iterdir()
    }
    builder: Any = tfds.builder("cifar10", data_dir=small_tfds)
    assert type(builder).__module__.startswith("tensorflow_datasets")
    assert (str(builder.version), builder.info.splits["train"].num_examples) == ("3.0.2", 100)
    assert set(builder.info.features) == {"id", "image", "label"}
    # As TFDS decodes the images itself, and shuffled, as TFDS stores them.
    source = builder.as_data_source(split="test")
    ids = [int(example["id"].decode().removeprefix("test_")) for example in source]
    assert sorted(ids) == list(range(RECORDS)) and ids != sorted(ids)
    for index, example in zip(ids, source, strict=True):
        np.testing.assert_array_equal(example["image"], small.test.images[index])
        assert example["label"] == small.test.labels[index]


@needs_tfds
def test_writing_is_silent(small, tmp_path, capfd):
    import tensorflow_datasets as tfds

    tfds.enable_progress_bar()
    datasets.write_tfds(small, tmp_path)
    datasets.load_cifar10(tmp_path, RECORDS)
    assert capfd.readouterr() == ("", "")


def test_png_is_exact_for_any_shape():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    with Image.open(io.BytesIO(datasets._png(image))) as opened:
        opened.load()
        assert (opened.mode, opened.size) == ("RGB", (7, 5))
        np.testing.assert_array_equal(np.asarray(opened), image)


@needs_tfds
def test_without_tfds_the_python_layout_serves(small, small_tfds, tmp_path, monkeypatch):
    write_layout(small, tmp_path)
    monkeypatch.setattr(datasets, "has_tfds", lambda: False)
    assert_same(datasets.load_cifar10(tmp_path, RECORDS), small)
    with pytest.raises(InputError, match="not prepared in .*parity prepare"):
        datasets.load_cifar10(small_tfds, RECORDS)


def test_not_prepared(tmp_path):
    with pytest.raises(InputError, match="not prepared in .*parity prepare"):
        datasets.load_dataset("cifar10", tmp_path / "none")


@needs_tfds
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "info"])
def test_damaged_tfds(small, tmp_path, damage):
    datasets.write_tfds(small, tmp_path)
    folder = tmp_path / "cifar10" / "3.0.2"
    (record,) = folder.glob("*train*")
    content = record.read_bytes()
    if damage == "truncate":
        record.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        changed = bytearray(content)
        changed[len(content) // 4 : len(content) // 2] = bytes(len(content) // 4)
        record.write_bytes(changed)
    elif damage == "remove":
        record.unlink()
    elif damage == "info":
        (folder / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match="is damaged .* --overwrite") as caught:
        datasets.load_cifar10(tmp_path, RECORDS)
    assert "\n" not in str(caught.value)


@needs_tfds
@pytest.mark.parametrize("records", [RECORDS - 1, RECORDS + 1])
def test_tfds_of_another_size(small_tfds, records):
    with pytest.raises(InputError, match=f"is damaged .100 images, not {5 * records}"):
        datasets.load_cifar10(small_tfds, records)


def test_missing_example(small, tmp_path):
    train = datasets.Split(small.train.images, small.train.labels)
    twice = [
        (0, "train_00000"),
        *((i, f"train_{i:05d}") for i in range(1, 99)),
        (99, "train_00000"),
    ]
    png = [datasets._png(train.images[i]) for i, _ in twice]

    class Source(list):
        def __getitems__(self, keys):
            return [self[key] for key in keys]

    source = Source({"id": name.encode(), "image": png[i], "label": 1} for i, name in twice)
    with pytest.raises(ValueError, match="train_00099 is missing"):
        datasets._canonical(source, "train_", 100)


# CIFAR-10 on the PyTorch side.


def test_layout_reads_back_on_both_sides(small, tmp_path):
    sums = write_layout(small, tmp_path)
    manifest(tmp_path, sums)
    assert_same(archive.read(tmp_path, RECORDS).dataset, small)
    train, test = torch_ref.data.load("cifar10", tmp_path)
    for result, split in ((train, small.train), (test, small.test)):
        np.testing.assert_array_equal(result.data, split.images)
        assert result.targets == split.labels.tolist()
        assert tuple(result.classes) == small.class_names
        image, label = result[3]
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32
        expected = datasets.normalize(split.images[3])
        assert (image.permute(1, 2, 0).numpy() == np.asarray(expected)).all()
        assert label == split.labels[3]


def test_layout_sums_are_those_of_the_files(small, tmp_path):
    sums = write_layout(small, tmp_path)
    folder = tmp_path / layout.FOLDER
    assert sums == {path.name: archive.checksums(path)[1] for path in folder.iterdir()}
    assert len(sums) == 7


def refused(folder: Path, words: str) -> None:
    with pytest.raises(torch_ref.errors.InputError, match=words) as caught:
        torch_ref.data.load("cifar10", folder)
    assert "\n" not in str(caught.value)


def test_torchvision_without_manifest_wants_published_sums(small, tmp_path):
    write_layout(small, tmp_path)
    refused(tmp_path, "does not match its checksums.*--overwrite")


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("how", ["changed", "missing", "unlisted"])
def test_torchvision_verifies_what_was_prepared(small, tmp_path, name, how):
    sums = write_layout(small, tmp_path)
    path = tmp_path / layout.FOLDER / name
    if how == "changed":
        # A pickle that would fail loudly were it loaded.
        path.write_bytes(b"cos\nabort\n(tR.")
    elif how == "missing":
        path.unlink()
    else:
        del sums[name]
    manifest(tmp_path, sums)
    refused(tmp_path, "does not match its checksums")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}'])
def test_torchvision_with_damaged_manifest(small, tmp_path, text):
    write_layout(small, tmp_path)
    (tmp_path / "prepared.json").write_text(text)
    refused(tmp_path, "cannot use .*prepared.json.*--overwrite")


def test_torchvision_not_prepared(tmp_path):
    refused(tmp_path, "not prepared in .*parity prepare")


def test_manifest_of_one_directory_leaves_the_published_sums(small, tmp_path):
    manifest(tmp_path, write_layout(small, tmp_path))
    torch_ref.data.load("cifar10", tmp_path)
    assert torch_ref.data.CIFAR10.train_list[0][1] == "c99cafc152244af753f735de768cd75f"


# Digits.


def test_digits_are_the_same_on_both_sides():
    dataset = datasets.load_dataset("digits")
    train, test = torch_ref.data.load("digits")
    for result, split, count in ((train, dataset.train, 1437), (test, dataset.test, 360)):
        assert len(result) == len(split) == count
        np.testing.assert_array_equal(result.data, split.images)
        assert result.targets == split.labels.tolist()
        image, label = result[5]
        expected = np.asarray(datasets.normalize(split.images[5]))
        assert (image.permute(1, 2, 0).numpy() == expected).all()
        assert type(label) is int
    assert tuple(train.classes) == dataset.class_names == tuple("0123456789")


def test_digits_are_scikit_learns():
    import sklearn.datasets

    digits: Any = sklearn.datasets.load_digits()
    dataset = datasets.load_digits()
    images = np.concatenate([dataset.train.images, dataset.test.images])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert images.shape == (1797, 32, 32, 3) and images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert (images == images[..., :1]).all()
    # Each 4x4 block is one pixel of the original; all images are there, each once.
    blocks = images[..., 0].reshape(-1, 8, 4, 8, 4)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    levels = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    original = np.searchsorted(levels, blocks[:, :, 0, :, 0])
    expected = sorted(
        (i.tobytes(), t) for i, t in zip(digits.images.astype(int), digits.target, strict=True)
    )
    assert sorted((i.tobytes(), t) for i, t in zip(original, labels, strict=True)) == expected
    # The permutation is fixed for good.
    assert dataset.test.labels[:10].tolist() == [7, 9, 4, 7, 0, 2, 6, 1, 3, 1]


# Loaders.


def loaded(loader) -> list[int]:
    return torch.cat([labels for _, labels in loader]).tolist()


def test_loader_takes_an_order():
    train, _ = torch_ref.data.load("digits")
    order = [5, 3, 1000, 3, 0]
    loader = torch_ref.data.make_loader(train, 2, order=order)
    assert loaded(loader) == [train.targets[i] for i in order]
    assert [len(labels) for _, labels in loader] == [2, 2, 1]


def test_loader_order_depends_on_the_seed_alone():
    _, test = torch_ref.data.load("digits")
    first, again, other = (
        loaded(torch_ref.data.make_loader(test, 64, shuffle=True, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first != test.targets and sorted(first) == sorted(test.targets)
    assert loaded(torch_ref.data.make_loader(test, 64)) == test.targets


def test_loader_is_the_notebooks():
    _, test = torch_ref.data.load("digits")
    torch.manual_seed(7)
    plain = loaded(torch.utils.data.DataLoader(test, batch_size=32, shuffle=True))
    torch.manual_seed(7)
    assert loaded(torch_ref.data.make_loader(test, 32, shuffle=True)) == plain


# Import arrows.


@pytest.mark.parametrize(
    "module, forbidden",
    [
        ("jax_impl.data.archive", ["torch", "jax", "tensorflow", "tensorflow_datasets"]),
        ("jax_impl.data.datasets", ["torch", "tensorflow", "tensorflow_datasets"]),
        ("torch_ref.data", ["jax", "flax", "tensorflow"]),
        ("torch_ref.layout", ["jax", "torch"]),
        ("parity.shell.prepare", ["jax", "torch", "tensorflow", "tensorflow_datasets"]),
    ],
)
def test_imports(module, forbidden):
    code = f"import sys, {module}; print([m for m in {forbidden} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# The real archive.


def test_real_data_is_the_same_in_every_layout(cifar10_dir, cifar10_original, monkeypatch):
    dataset = datasets.load_dataset("cifar10", cifar10_dir)
    assert_same(dataset, cifar10_original)
    monkeypatch.setattr(datasets, "has_tfds", lambda: False)
    assert_same(dataset, datasets.load_dataset("cifar10", cifar10_dir))
    for split, result in zip(
        (dataset.train, dataset.test), torch_ref.data.load("cifar10", cifar10_dir), strict=True
    ):
        np.testing.assert_array_equal(result.data, split.images)
        assert result.targets == split.labels.tolist()
