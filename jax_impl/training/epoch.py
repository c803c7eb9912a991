"""Whole epochs as compiled loops over uint8 images that stay on the device."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jax_impl.errors import InputError
from jax_impl.models.model import Model, Variables
from jax_impl.ops import platform
from jax_impl.training import optim, regions
from jax_impl.training.state import TrainState
from jax_impl.training.step import compute_dtype, make_train_step, update

CHUNK = 100
"""Steps in one compiled call: how often an epoch reports its progress."""

TrainEpoch = Callable[..., Iterator[tuple[TrainState, np.ndarray]]]


def make_train_epoch(
    model: Model, optimizer: optax.GradientTransformation, batch_size: int, dtype: Any = None
) -> TrainEpoch:
    """An epoch as `(state, images, labels, order) -> iterator of (state, losses)`.

    `images` (uint8) and `labels` are whole splits; `order` [m] holds the indices to train on, in
    batches of `batch_size` and at the end one smaller batch, as PyTorch's `DataLoader` has it.
    After every `CHUNK` steps it yields the state and the losses (float [steps]) of those steps.
    It consumes `state`, and each state that it has yielded when it goes on. `dtype` is `update`'s.
    Weights that the model never reads are passed over where the optimizer is `optim.Lazy` and its
    state of them is zero.

    Raises:
        InputError: a batch of fewer than one image, or (by the epoch) an order without images.
    """
    if batch_size < 1:
        raise InputError(f"the batch size is {batch_size}: give 1 or more")
    train_step = make_train_step(model, optimizer, dtype)
    # On a CPU one compilation serves chunks of every length. A GPU asks the host after each step
    # whether it was the last one, unless the length is known.
    known = ("lazy",) if platform.on_cpu() else ("lazy", "length")
    options = platform.compiler_options()

    def visited(state: TrainState, images: jax.Array) -> TrainState:
        batch = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), images.dtype)
        return _regions(model, optimizer, state, batch, dtype)

    @jax.jit
    def may_be_lazy(state: TrainState, images: jax.Array) -> jax.Array:
        return regions.zero_outside(state.opt_state, visited(state, images).opt_state)

    @partial(jax.jit, donate_argnums=0, static_argnames=known, compiler_options=options)
    def run(given: TrainState, images, labels, batches, start, length, lazy):
        boxes = visited(given, images) if lazy else None
        read = None if boxes is None else boxes.params

        def body(index, carry):
            state, losses = carry
            batch = batches[start + index]
            state, loss = update(model, optimizer, state, images[batch], labels[batch], dtype, read)
            return state, losses.at[index].set(loss)

        losses = jnp.zeros(CHUNK, compute_dtype(given.params))
        if boxes is None:
            return lax.fori_loop(0, length, body, (given, losses))
        state, losses = lax.fori_loop(0, length, body, (regions.cut(given, boxes), losses))
        return regions.put(given, state, boxes), losses

    def train_epoch(state, images, labels, order):
        if not len(order):
            raise InputError("an epoch needs at least one image")
        order = np.asarray(order, np.int32)
        steps, rest = divmod(len(order), batch_size)
        if steps:
            batches = jnp.asarray(order[: steps * batch_size].reshape(steps, batch_size))
            lazy = isinstance(optimizer, optim.Lazy) and bool(may_be_lazy(state, images))
            for start in range(0, steps, CHUNK):
                length = min(CHUNK, steps - start)
                state, losses = run(state, images, labels, batches, start, length=length, lazy=lazy)
                yield state, np.asarray(losses)[:length]
        if rest:
            batch = jnp.asarray(order[-rest:])
            state, loss = train_step(state, images[batch], labels[batch])
            yield state, np.asarray(loss)[None]

    return train_epoch


def _regions(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Any,
    dtype: Any,
) -> TrainState:
    """A `regions.Region` for every array of a state: what training on such images has to visit."""
    inputs = jax.ShapeDtypeStruct(images.shape, dtype or compute_dtype(state.params))

    def logits(params: Any, batch_stats: Any, inputs: jax.Array) -> jax.Array:
        return model.apply(Variables(params, batch_stats), inputs, train=True)[0]

    read = regions.read_by(logits, state.params, state.batch_stats, inputs)
    opt_state = regions.of_state(optimizer, state.opt_state, read)
    step, batch_stats = jax.tree.map(regions.whole, (state.step, state.batch_stats))
    return TrainState(step, read, batch_stats, opt_state)
