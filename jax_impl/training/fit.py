"""Training over many epochs, and the orders in which they visit the images."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from jax_impl.data.archive import Split
from jax_impl.errors import NotFinite
from jax_impl.torch_random.loader import Drawn
from jax_impl.training.epoch import TrainEpoch
from jax_impl.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One epoch of `fit`: from 1, the mean of its batches' losses, seconds with compilation."""

    number: int
    loss: float
    seconds: float


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
    keep_going: bool = True,
    on_epoch: Callable[[Epoch, TrainState], None] = lambda epoch, state: None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> tuple[TrainState, list[Epoch]]:
    """Trains one epoch on each of `orders` (indices into `split`); consumes `state`.

    Args:
        train_epoch: from `make_train_epoch`.
        state: before the first epoch.
        split: the images and labels to train on.
        orders: indices into `split`, an array for each epoch, perhaps with what their augmentation
            draws.
        keep_going: train on with a loss that is not finite.
        on_epoch: called after each epoch; the state it gets is consumed by the next one.
        on_steps: called with the number of steps taken since its last call.

    Raises:
        NotFinite: a loss is not, and `keep_going` is not asked for.
    """
    images, labels = jax.device_put((split.images, split.labels))
    epochs = []
    for number, order in enumerate(orders, 1):
        started, losses = time.perf_counter(), []
        visit = order if isinstance(order, tuple) else (order,)
        for trained, chunk in train_epoch(state, images, labels, *visit):
            state = trained
            bad = np.flatnonzero(~np.isfinite(chunk))
            if len(bad) and not keep_going:
                step = sum(map(len, losses)) + int(bad[0]) + 1
                raise NotFinite(float(chunk[bad[0]]), number, step)
            losses.append(chunk)
            on_steps(len(chunk))
        seconds = time.perf_counter() - started
        loss = float(np.concatenate(losses).mean(dtype=np.float64))
        epochs.append(Epoch(number, loss, seconds))
        on_epoch(epochs[-1], state)
    return state, epochs
