"""Training over many epochs, and the orders in which they visit the images."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jax_impl.data.archive import Split
from jax_impl.data.pipeline import Loader
from jax_impl.errors import NotFinite
from jax_impl.torch_random.loader import Drawn
from jax_impl.training import mesh as meshes
from jax_impl.training.epoch import Steps, TrainEpoch
from jax_impl.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One epoch of `fit`.

    Its number, from 1; the mean of its batches' losses; the share of its images that were
    classified right when they were trained on; and seconds of training, with compilation.
    """

    number: int
    loss: float
    accuracy: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a training stands, for one that goes on from there.

    Args:
        step: steps taken since its start.
        epoch: the one under way, from 1.
        done: steps taken of this epoch.
        loss: the sum of the losses of its batches.
        right: images that were classified right.
        images: images trained on.
        seconds: of this epoch's training.
    """

    step: int = 0
    epoch: int = 1
    done: int = 0
    loss: float = 0.0
    right: int = 0
    images: int = 0
    seconds: float = 0.0

    def after(self, steps: Steps, seconds: float) -> "Progress":
        """After some more steps, so many seconds after the epoch's start."""
        loss = self.loss
        for value in steps.losses.tolist():  # one by one: the parts of a resumed epoch are others
            loss += value
        count = len(steps.losses)
        return Progress(
            self.step + count,
            self.epoch,
            self.done + count,
            loss,
            self.right + steps.right,
            self.images + steps.images,
            seconds,
        )

    def next_epoch(self) -> "Progress":
        """At the start of the next one."""
        return Progress(self.step, self.epoch + 1)

    def summary(self) -> Epoch:
        """What the epoch came to, when all of it is done."""
        return Epoch(self.epoch, self.loss / self.done, self.right / self.images, self.seconds)


START = Progress()


def shuffled(size: int, seed: int) -> Iterator[np.ndarray]:
    """A permutation of range(size) for each epoch, without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.permutation(size)


def fit(
    train_epoch: TrainEpoch,
    state: TrainState,
    split: Split,
    orders: Iterable[np.ndarray | tuple[np.ndarray, Drawn]],
    *,
    start: Progress = START,
    keep_going: bool = True,
    seconds: float = math.inf,
    mesh: Mesh | None = None,
    loader: Loader | None = None,
    on_epoch: Callable[[Epoch, TrainState], None] = lambda epoch, state: None,
    on_steps: Callable[[Progress, TrainState], None] = lambda progress, state: None,
) -> tuple[TrainState, list[Epoch]]:
    """Trains one epoch on each of `orders` (indices into `split`); consumes `state`.

    Args:
        train_epoch: from `make_train_epoch`.
        state: before the first epoch, or where `start` stands.
        split: the images and labels to train on.
        orders: indices into `split`, an array for each epoch, perhaps with what their augmentation
            draws.
        start: where `state` stands; the first of `orders` is of its epoch.
        keep_going: train on with a loss that is not finite.
        seconds: about so many between two calls of `on_steps`, on a CPU.
        mesh: of devices, for which the epoch was made and on which the state lies.
        loader: reads the images as they are trained on; without one all of them lie on the device.
        on_epoch: called after each epoch; the state it gets is consumed by the next one.
        on_steps: called after some steps; the state it gets is consumed by the next ones.

    Raises:
        NotFinite: a loss is not, and `keep_going` is not asked for.
    """
    put = jax.device_put if mesh is None else partial(meshes.put, mesh)
    if loader is None:
        inputs = put((split.images, split.labels))
        trained_on = partial(_on_device, train_epoch, inputs, seconds)
    else:
        trained_on = partial(_as_read, train_epoch, loader, split, put, seconds)
    epochs, progress = [], start
    for order in orders:
        began = time.perf_counter() - progress.seconds
        visit = order if isinstance(order, tuple) else (order, None)
        for trained, steps in trained_on(state, *visit, progress.done):
            state = trained
            if not keep_going and (stop := _not_finite(steps, progress)):
                raise stop
            progress = progress.after(steps, time.perf_counter() - began)
            on_steps(progress, state)
        epochs.append(progress.summary())
        on_epoch(epochs[-1], state)
        progress = progress.next_epoch()
    return state, epochs


def _on_device(
    train_epoch: TrainEpoch,
    inputs: tuple[Any, Any],
    seconds: float,
    state: TrainState,
    order: np.ndarray,
    drawn: Drawn | None,
    start: int,
) -> Iterator[tuple[TrainState, Steps]]:
    """An epoch of images that lie on the device."""
    return train_epoch(state, *inputs, order, drawn, start=start, seconds=seconds)


def _as_read(
    train_epoch: TrainEpoch,
    loader: Loader,
    split: Split,
    put: Callable[[Any], Any],
    seconds: float,
    state: TrainState,
    order: np.ndarray,
    drawn: Drawn | None,
    start: int,
) -> Iterator[tuple[TrainState, Steps]]:
    """An epoch of images that are read meanwhile: the steps of `train_epoch` on all of them."""
    done = start * loader.batch_size
    for images, labels in loader.parts(split, order, start):
        rows = slice(done, done + len(images))
        own = drawn and Drawn(*(None if field is None else field[rows] for field in drawn))
        visit = state, *put((images, labels)), np.arange(len(images)), own
        for trained, steps in train_epoch(*visit, seconds=seconds):
            state = trained
            yield state, steps
        done += len(images)


def fit_together(
    train_epoch: TrainEpoch,
    states: TrainState,
    split: Split,
    visits: Iterable[Sequence[tuple[np.ndarray, Drawn]]],
    *,
    keep_going: bool = True,
    seconds: float = math.inf,
    on_epoch: Callable[[dict[int, Epoch], TrainState], None] = lambda epochs, states: None,
    on_steps: Callable[[dict[int, Progress], TrainState], None] = lambda going, states: None,
    on_stop: Callable[[int, NotFinite], None] = lambda training, stop: None,
) -> tuple[TrainState, dict[int, list[Epoch]]]:
    """K trainings at once, each as `fit` does it on its own; consumes `states`.

    Args:
        train_epoch: from `make_train_epoch`, of K seeds.
        states: `state.stacked` ones.
        split: the images and labels to train on.
        visits: for each epoch the order of each training, with what its augmentation draws.
        keep_going: go on with a training whose loss is not finite.
        seconds: about so many between two calls of `on_steps`, on a CPU.
        on_epoch: called after each epoch with that of each training, by its number from 0; seconds
            are its share of those that all took.
        on_steps: called after some steps with the progress of each training.
        on_stop: called for a training whose loss is not finite, which is told no more.

    Returns:
        the states, and the epochs of each training that went on to the end.
    """
    images, labels = jax.device_put((split.images, split.labels))
    count = len(states.step)
    going, epochs = dict.fromkeys(range(count), START), {k: [] for k in range(count)}
    for each in visits:
        began = time.perf_counter()
        order, drawn = jax.tree.map(lambda *rows: np.stack(rows), *each)
        for trained, steps in train_epoch(states, images, labels, order, drawn, seconds=seconds):
            states, share = trained, (time.perf_counter() - began) / count
            for k, progress in [*going.items()]:
                if not keep_going and (stop := _not_finite(steps.of(k), progress)):
                    on_stop(k, stop)
                    del going[k], epochs[k]
                else:
                    going[k] = progress.after(steps.of(k), share)
            if not going:
                return states, epochs
            on_steps(going, states)
        for k, progress in going.items():
            epochs[k].append(progress.summary())
        on_epoch({k: own[-1] for k, own in epochs.items()}, states)
        going = {k: progress.next_epoch() for k, progress in going.items()}
    return states, epochs


def _not_finite(steps: Steps, before: Progress) -> NotFinite | None:
    """The first of the losses that is none, of steps that follow `before`."""
    bad = np.flatnonzero(~np.isfinite(steps.losses))
    if not len(bad):
        return None
    return NotFinite(float(steps.losses[bad[0]]), before.epoch, before.done + int(bad[0]) + 1)
