"""Images that are read as they are trained on, by Grain: for data that memory does not hold."""

import contextlib
import dataclasses
import io
import itertools
import math
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from jax_impl.data.archive import Split
from jax_impl.errors import InputError, one_line

PART = 64 * 2**20
"""Bytes of images, about, that are given at once, and as many that are ready."""
MOST_STEPS = 100
"""Steps, at most, for which images are given at once: those of one compiled call."""
THREADS, AHEAD = 16, 64
"""Of a process that reads, and the batches, at most, that are ready."""
QUIET = "ignore:resource_tracker:UserWarning"
"""Given to a process that Python starts for the workers."""
MOST_WORKERS = 256


class Records:
    """Images uint8 [n, h, w, 3], of which none is held: each is read and decoded when asked for.

    Args:
        source: of files or arrays, by number: a dict whose "image" is a PNG, or uint8 [h, w, 3].
            Grain's workers get a copy of it by pickle.
        positions: of each image, its number in the source.
        shape: h, w and 3.
        name: of all of them, for who is told of a damaged one.
    """

    def __init__(self, source: Any, positions: np.ndarray, shape: tuple[int, ...], name: str):
        self.source, self.positions, self.name = source, positions, name
        self.shape = (len(positions), *shape)
        self.numbers = np.arange(len(positions))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, which: Any) -> Any:
        """An image, or of a slice of them the `Records`. Raises InputError if it is damaged."""
        if isinstance(which, slice):
            return self.picked(np.arange(len(self))[which])
        try:
            image = self.source[int(self.positions[which])]["image"]
            if isinstance(image, bytes):
                image = decoded(image)
            if image.shape != self.shape[1:]:
                raise ValueError(f"it is {list(image.shape)}")
        # Record files and decoders meet damage with errors of many types.
        except Exception as error:
            told = f"image {self.numbers[which]} of {self.name} is damaged"
            raise InputError(f"{told}: {one_line(error, 200)}") from error
        return image

    def picked(self, which: np.ndarray) -> "Records":
        """Those of these numbers, in this order; a damaged one is told by its number here."""
        found = Records(self.source, self.positions[which], self.shape[1:], self.name)
        found.numbers = self.numbers[which]
        return found


def decoded(content: bytes) -> np.ndarray:
    """The pixels of a PNG, uint8. Raises what Pillow does where it is none."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content), formats=("PNG",)))


def held(split: Split) -> Split:
    """A split whose images are in memory."""
    if not isinstance(split.images, Records):
        return split
    images = [split.images[i] for i in range(len(split.labels))]
    return Split(np.stack(images) if images else np.empty(split.images.shape), split.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Loader:
    """Reads images in an order, some batches at once, while others are trained on.

    Args:
        batch_size: of the batches.
        workers: processes that read and decode; 0 is by threads of this one.
    """

    batch_size: int
    workers: int = 0

    def parts(
        self, split: Split, order: np.ndarray, start: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images uint8 [k, h, w, 3] and labels [k], whole batches of them at once.

        Args:
            split: whose images are `Records`.
            order: indices into it.
            start: batches that are passed over.

        The last batch may be smaller.

        Raises:
            InputError: an image is damaged, or a worker ended.
        """
        left = np.asarray(order)[start * self.batch_size :]
        size = self.batch_size * math.prod(split.images.shape[1:])
        together = batches_at_once(-(-len(left) // self.batch_size), size)
        with contextlib.closing(self._batches(split.images.picked(left), size)) as batches:
            each, done = _each(batches, self.workers), 0
            while images := [*itertools.islice(each, together)]:
                labels = split.labels[left[done : done + sum(map(len, images))]]
                done += len(labels)
                yield np.concatenate(images), labels

    def _batches(self, images: Records, size: int) -> Any:
        """Grain's iterator over batches of so many bytes."""
        import grain  # here, so that other training needs no Grain
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        source: Any = images
        dataset = grain.MapDataset.source(source).batch(self.batch_size)
        ahead = max(2, min(AHEAD, PART // size))
        read: Any = dataset.to_iter_dataset(grain.ReadOptions(min(THREADS, ahead), ahead))
        if self.workers:
            # What its last batches were shared in is cleaned up at the end, with a warning.
            if QUIET not in sys.warnoptions:
                sys.warnoptions.append(QUIET)
            each = max(1, ahead // self.workers)
            read = read.mp_prefetch(grain.MultiprocessingOptions(self.workers, each))
        return iter(read)


def batches_at_once(count: int, size: int) -> int:
    """Of so many, each of `size` bytes: parts of one number of batches, but for the last."""
    most = max(1, min(MOST_STEPS, PART // size))
    return max(1, -(-count // max(1, -(-count // most))))


def _each(batches: Any, workers: int) -> Iterator[np.ndarray]:
    """Those of Grain's iterator, whose errors are told in a line."""
    for number in itertools.count():
        try:
            # A worker is started when the first batch of its own is asked for.
            with _deaf() if number < workers else contextlib.nullcontext():
                images = next(batches)
        except StopIteration:
            return
        except InputError as error:
            raise InputError(str(error)) from error  # without the pages that Grain adds
        except RuntimeError as error:
            told = one_line(error, 200)
            raise InputError(f"a worker of the loader has ended ({told}): run it again") from error
        yield images


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started inside never get Ctrl-C: it is their parent's to answer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
