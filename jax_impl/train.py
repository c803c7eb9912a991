"""Training: a frozen state, one jitted step, whole epochs on the device, evaluation, `fit`.

Images stay uint8 on the device; they are gathered and normalised inside the jitted step.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jax_impl import lowering, optim, regions
from jax_impl.archive import Split
from jax_impl.data import normalize
from jax_impl.errors import InputError
from jax_impl.models import Model, Variables

CHUNK = 100
"""Steps in one compiled call: how often an epoch reports its progress."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "batch_stats", "opt_state"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that training changes, as one pytree. `step` (int32) counts the steps taken."""

    step: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any

    @property
    def variables(self) -> Variables:
        return Variables(self.params, self.batch_stats)


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One epoch of `fit`: from 1, the mean of its batches' losses, seconds with compilation."""

    number: int
    loss: float
    seconds: float


def create_state(variables: Variables, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; a copy, since steps consume the state they are given."""
    params, batch_stats = jax.tree.map(jnp.array, tuple(variables))
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """`torch.nn.functional.cross_entropy(reduction="none")`: [n, classes], int [n] -> [n].

    `label_smoothing` mixes that share of a uniform distribution into the labels.
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not label_smoothing:
        return loss
    uniform = -jax.nn.log_softmax(logits).mean(-1)
    return (1 - label_smoothing) * loss + label_smoothing * uniform


def loss_and_stats(
    params: dict[str, Any],
    model: Model,
    batch_stats: dict[str, Any],
    images: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, dict[str, Any]]:
    """The batch's mean loss in train mode, in the parameters' dtype, and the updated running
    statistics."""
    logits, batch_stats = model.apply(Variables(params, batch_stats), images, train=True)
    return cross_entropy(logits.astype(_dtype(params)), labels).mean(), batch_stats


def _dtype(params: dict[str, Any]) -> Any:
    return jax.tree.leaves(params)[0].dtype


def update(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    dtype: Any = None,
    read: Any = None,
) -> tuple[TrainState, jax.Array]:
    """One step, not jitted: what `make_train_step` and `make_train_epoch` compile.

    Args:
        images: uint8 [n, h, w, 3]; normalised here.
        labels: int [n].
        dtype: to compute in, by default the parameters'. With bfloat16 and parameters in float32
            these, their gradients, the statistics and the loss stay in float32.
        read: by parameter the `regions.Region` that the state holds of it and the model reads; by
            default all.

    Returns:
        the new state and the batch's mean loss before the step.
    """
    dtype = dtype or _dtype(state.params)

    def loss(params: dict[str, Any], *arguments: Any) -> Any:
        if read is not None:
            params = jax.tree.map(lambda part, region: region.embed(part), params, read)
        return loss_and_stats(params, *arguments)

    gradient = jax.value_and_grad(loss, has_aux=True)
    (value, batch_stats), gradients = gradient(
        state.params, model, state.batch_stats, normalize(images, dtype), labels
    )
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, batch_stats, opt_state), value


def _regions(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Any,
    dtype: Any,
) -> TrainState:
    """A `regions.Region` for every array of a state: what training on such images has to visit."""
    inputs = jax.ShapeDtypeStruct(images.shape, dtype or _dtype(state.params))

    def logits(params: Any, batch_stats: Any, inputs: jax.Array) -> jax.Array:
        return model.apply(Variables(params, batch_stats), inputs, train=True)[0]

    read = regions.read_by(logits, state.params, state.batch_stats, inputs)
    opt_state = regions.of_state(optimizer, state.opt_state, read)
    step, batch_stats = jax.tree.map(regions.whole, (state.step, state.batch_stats))
    return TrainState(step, read, batch_stats, opt_state)


def make_train_step(
    model: Model, optimizer: optax.GradientTransformation, dtype: Any = None
) -> Callable:
    """The jitted `(state, images, labels) -> (state, loss)` of `update`; it consumes `state`.

    Inside another `jax.jit` call `update` itself: this one has options for the compiler.
    """
    step, options = partial(update, model, optimizer, dtype=dtype), lowering.compiler_options()
    return jax.jit(step, donate_argnums=0, compiler_options=options)


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
    known = ("lazy",) if lowering.on_cpu() else ("lazy", "length")
    options = lowering.compiler_options()

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

        losses = jnp.zeros(CHUNK, _dtype(given.params))
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


def make_evaluate(
    model: Model, batch_size: int = 100, dtype: Any = None
) -> Callable[[Variables, Split], float]:
    """`(variables, split) -> top-1 accuracy` in [0, 1], in batches of `batch_size`.

    `dtype` is that to compute in, by default the parameters'.
    """

    @jax.jit
    def count(variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        def correct(batch):
            inputs = normalize(batch[0], dtype or _dtype(variables.params))
            logits, _ = model.apply(variables, inputs, train=False)
            return (logits.argmax(-1) == batch[1]).sum()

        return lax.map(correct, (images, labels)).sum()

    def evaluate(variables: Variables, split: Split) -> float:
        size = len(split.labels)
        batches = -(-size // batch_size)
        padding = batches * batch_size - size
        images = np.pad(split.images, ((0, padding), (0, 0), (0, 0), (0, 0)))
        labels = np.pad(split.labels, (0, padding), constant_values=-1)  # no logit is class -1
        images = images.reshape(batches, batch_size, *images.shape[1:])
        return int(count(variables, images, labels.reshape(batches, batch_size))) / size

    return evaluate


def shuffled(size: int, seed: int) -> Iterator[np.ndarray]:
    """A permutation of range(size) for each epoch, without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.permutation(size)


def fit(
    train_epoch: TrainEpoch,
    state: TrainState,
    split: Split,
    orders: Iterable[np.ndarray],
    *,
    on_epoch: Callable[[Epoch, TrainState], None] = lambda epoch, state: None,
    on_steps: Callable[[int], None] = lambda steps: None,
) -> tuple[TrainState, list[Epoch]]:
    """Trains one epoch on each of `orders` (indices into `split`); consumes `state`.

    Args:
        train_epoch: from `make_train_epoch`.
        on_epoch: called after each epoch; the state it gets is consumed by the next one.
        on_steps: called with the number of steps taken since its last call.
    """
    images, labels = jax.device_put((split.images, split.labels))
    epochs = []
    for number, order in enumerate(orders, 1):
        started, losses = time.perf_counter(), []
        for trained, chunk in train_epoch(state, images, labels, order):
            state = trained
            losses.append(chunk)
            on_steps(len(chunk))
        seconds = time.perf_counter() - started
        loss = float(np.concatenate(losses).mean(dtype=np.float64))
        epochs.append(Epoch(number, loss, seconds))
        on_epoch(epochs[-1], state)
    return state, epochs
