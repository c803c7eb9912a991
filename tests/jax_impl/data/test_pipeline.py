"""Images that Grain reads as they are trained on."""

import math
import os
import signal
import subprocess
import sys
from typing import Any, cast

import numpy as np
import pytest
from conftest import RECORDS, needs_tfds

from jax_impl.data import archive, datasets, pipeline
from jax_impl.data.archive import Split
from jax_impl.data.pipeline import Loader, Records, held
from jax_impl.errors import InputError
from jax_impl.torch_random.loader import Drawn
from jax_impl.training.epoch import Steps
from jax_impl.training.fit import Progress, fit

SHAPE = 6, 5, 3


@pytest.fixture(scope="module")
def small(small_archive):
    return archive.read(small_archive, RECORDS).dataset


@pytest.fixture(scope="module")
def small_tfds(small, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    datasets.write_tfds(small, directory)
    return directory


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (53, *SHAPE), dtype=np.uint8)


def split_of(source, count=53):
    found = Records(source, np.arange(count), SHAPE, "these images")
    return Split(found, np.arange(count, dtype=np.int32))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("start", [0, 2, 11])
def test_an_order_comes_whole_and_in_parts_of_batches(workers, start, images, monkeypatch):
    monkeypatch.setattr(pipeline, "PART", 4 * 5 * math.prod(SHAPE))
    split = split_of([{"image": image} for image in images])
    order = np.random.default_rng(1).permutation(53)
    parts = [*Loader(5, workers).parts(split, order, start)]
    left = order[5 * start :]
    assert np.array_equal(np.concatenate([labels for _, labels in parts] or [[]]), left)
    found = [image for some, _ in parts for image in some]
    assert all(np.array_equal(image, images[i]) for image, i in zip(found, left, strict=True))
    sizes = [len(labels) for _, labels in parts]
    assert len({*sizes[:-1]}) <= 1 and all(size % 5 == 0 and size <= 20 for size in sizes[:-1])


@needs_tfds
def test_images_of_files_are_those_of_arrays(small_tfds, small):
    opened = datasets.open_cifar10(small_tfds, len(small.test.labels))
    assert isinstance(opened.train.images, Records)
    assert opened.train.images.shape == small.train.images.shape
    for split, whole in ((opened.train, small.train), (opened.test, small.test)):
        assert np.array_equal(held(split).images, whole.images)
        assert np.array_equal(split.labels, whole.labels)
    order = np.arange(len(small.train.labels))[::-1]
    ((found, labels),) = Loader(7, 1).parts(opened.train, order)
    assert np.array_equal(found, small.train.images[::-1])
    assert np.array_equal(labels, small.train.labels[::-1])


def test_a_slice_keeps_the_numbers_of_its_images(images):
    some = split_of([{"image": image} for image in images]).images[20:]
    assert len(some) == 33 and some.shape == (33, *SHAPE)
    assert np.array_equal(some[3], images[23])
    some.source[23]["image"] = b"no image"
    with pytest.raises(InputError, match=r"image 23 of these images is damaged: .*identify"):
        some[3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(workers, images):
    source = [{"image": image} for image in images]
    source[17]["image"] = images[0][:, :2]
    order = np.random.default_rng(1).permutation(53)
    told = r"^image 17 of these images is damaged: it is \[6, 2, 3\]$"
    with pytest.raises(InputError, match=told):
        list(Loader(5, workers).parts(split_of(source), order))


def test_a_worker_that_is_killed_is_told(images):
    class Deadly:
        def __len__(self):
            return 53

        def __getitem__(self, number):
            if number == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"image": np.zeros(SHAPE, np.uint8)}

    with pytest.raises(InputError, match=r"^a worker of the loader has ended .*code -9"):
        list(Loader(5, 1).parts(split_of(Deadly()), np.arange(53)))


def test_training_is_that_of_images_on_the_device(images):
    """The steps get the same images, labels and draws, from any batch on."""
    split = split_of([{"image": image} for image in images])
    order = np.random.default_rng(1).permutation(53)
    drawn = Drawn(flipped=order % 3 == 0)
    seen, state = [], cast(Any, 0)

    def epoch(state, images, labels, order, drawn=None, start=0, seconds=0.0):
        for at in range(5 * start, len(order), 5):
            rows = order[at : at + 5]
            own = None if drawn is None else np.asarray(drawn.flipped)[at : at + 5]
            seen.append([np.asarray(images)[rows], np.asarray(labels)[rows], own])
            yield state, Steps(np.zeros(1), len(rows), 0)

    for loader in (None, Loader(5)):
        whole = Split(images, split.labels) if loader is None else split
        fit(epoch, state, whole, [(order, drawn)], start=Progress(done=3, epoch=1), loader=loader)
    assert len(seen) == 2 * (11 - 3)
    for one, other in zip(seen[:8], seen[8:], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.proof
def test_memory_does_not_grow_with_the_data():
    """3 GB of images that are made as they are asked for: a fixed number of them is held."""
    code = """
import resource, sys, numpy as np
from jax_impl.data.archive import Split
from jax_impl.data.pipeline import Loader, Records
class Made:
    def __len__(self):
        return 10**6
    def __getitem__(self, number):
        return {"image": np.full((224, 224, 3), number % 256, np.uint8)}
def peak(count):
    images = Records(Made(), np.arange(count), (224, 224, 3), "made")
    for _ in Loader(32).parts(Split(images, np.zeros(count, np.int32)), np.arange(count)):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
begun = peak(64)
print(begun, peak(20_000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    begun, peak = map(int, done.stdout.split())
    print(f"{begun / 2**20:.0f} MiB, {peak / 2**20:.0f} MiB")
    # What is ready, what is put together of what, and what was given and is given next.
    assert peak - begun <= 8 * pipeline.PART and peak < 1.5 * 2**30
