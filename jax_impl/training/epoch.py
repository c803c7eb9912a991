"""Whole epochs as compiled loops over uint8 images that stay on the device."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh

from jax_impl.data.augmentation import NOTHING, Augmentation
from jax_impl.data.datasets import normalize
from jax_impl.errors import InputError
from jax_impl.models.model import Model, Variables
from jax_impl.ops import platform
from jax_impl.torch_random.loader import Drawn
from jax_impl.training import mesh as meshes
from jax_impl.training import optim, regions
from jax_impl.training.augment import augmented, check_drawn, draw, key_of, needed
from jax_impl.training.hosts import of_first
from jax_impl.training.state import TrainState
from jax_impl.training.step import compute_dtype, update

CHUNK = 100
"""Most steps in one compiled call: how often an epoch reports its progress."""


class Steps(NamedTuple):
    """Of some steps: the losses, float [steps]; images, and how many were classified right.

    Of K trainings at once the losses are [K, steps], and those right int [K].
    """

    losses: np.ndarray
    images: int
    right: Any

    def of(self, training: int) -> "Steps":
        """Those of one of the trainings at once."""
        return Steps(self.losses[training], self.images, int(self.right[training]))


TrainEpoch = Callable[..., Iterator[tuple[TrainState, Steps]]]


def make_train_epoch(
    model: Model,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    dtype: Any = None,
    augmentation: Augmentation = NOTHING,
    seed: int | Sequence[int] = 0,
    label_smoothing: float = 0.0,
    mesh: Mesh | None = None,
) -> TrainEpoch:
    """An epoch, `(state, images, labels, order, drawn=None, start=0, seconds=inf)`, in parts.

    `images` (uint8) and `labels` are whole splits; `order` [m] holds the indices to train on, in
    batches of `batch_size` and at the end one smaller batch, as PyTorch's `DataLoader` has it; the
    first `start` batches are passed over.
    After every `CHUNK` steps, and on a CPU after as many as take some `seconds`, it yields the
    state and those `Steps`; what is computed is the same. It consumes `state`, and each state that
    it has yielded when it goes on. `dtype` and `label_smoothing` are `update`'s.
    What `augmentation` draws for the images of `order` is `drawn`, arrays [m]; what is not given of
    it each step draws by JAX's generator from the `seed` and the number of steps taken before.
    Weights that the model never reads are passed over where the optimizer is `optim.Lazy` and its
    state of them is zero.

    With K seeds it trains K times at once: the arrays of `state` have a leading axis K, `order` is
    [K, m], `drawn` [K, m], and so is what it yields. Each is computed as on its own (`jax.vmap`).

    On a `mesh`, where the state lies as `mesh.put_state` puts it and images and labels as `put`,
    each step is divided among its devices, whatever the batch's size; only one training at once.

    Raises:
        InputError: no seed, several on a mesh, a batch of fewer than one image, smoothing that is
            no share, or (by the epoch) an order without images or of others, a start beyond it, or
            draws that are not what `augmentation` needs.
    """
    if batch_size < 1:
        raise InputError(f"the batch size is {batch_size}: give 1 or more")
    if not 0 <= label_smoothing <= 1:
        raise InputError(f"the label smoothing is {label_smoothing}: give 0 to 1")
    many = len(seed) if isinstance(seed, Sequence) else None
    if many is not None and mesh is not None:
        raise InputError("trainings at once: on a mesh one at a time; give one seed")
    if many == 0:
        raise InputError("trainings at once: give one seed or more")
    keys = jnp.stack([*map(key_of, seed)]) if isinstance(seed, Sequence) else key_of(seed)
    each = jax.vmap if many else _as_it_is
    put: Callable[[Any], Any] = partial(jax.tree.map, jnp.asarray)
    shared = settled = all_read = _as_it_is
    if mesh is not None:
        keys = jax.jit(jax.random.wrap_key_data)(meshes.put(mesh, jax.random.key_data(keys)))
        put, all_read = partial(meshes.put, mesh), partial(meshes.gathered, mesh)
        shared = partial(meshes.constrain, sharding=meshes.shared_out(mesh))
        settled = partial(meshes.settled, mesh)
    # On a CPU one compilation serves chunks of every length. A GPU asks the host after each step
    # whether it was the last one, unless the length is known.
    known = ("lazy",) if platform.on_cpu() else ("lazy", "length")
    options = platform.compiler_options()

    def batch_of(images: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), images.dtype)

    def visited(state: TrainState, images: jax.Array) -> TrainState:
        return _regions(model, optimizer, state, batch_of(images), dtype)

    def step_on(state, images, labels, batch, drawn, read=all_read):
        batch, drawn = shared((batch, drawn))
        prepared = normalize
        if augmentation:
            prepared = partial(augmented, drawn=drawn, augmentation=augmentation)
        inputs, told = shared((images[batch], labels[batch]))
        how = dtype, read, prepared, label_smoothing
        return settled(update(model, optimizer, state, inputs, told, *how))

    def draws(given, key, step, count, images):
        """Of `count` steps after `step` what is not given: generators are slow in a CPU's loop."""
        if all(getattr(given, field) is not None for field in needed(augmentation)):
            return Drawn()
        stepped = jax.vmap(partial(jax.random.fold_in, key))(step + jnp.arange(count))
        drawn = jax.vmap(lambda key: draw(key, augmentation, images))(stepped)
        return Drawn(*(b if a is None else None for a, b in zip(given, drawn, strict=True)))

    @partial(jax.jit, donate_argnums=0, compiler_options=options)
    def last_step(states, images, labels, batches, drawn, keys):
        def one(state, batch, given, key):
            count = jax.ShapeDtypeStruct((len(batch), *images.shape[1:]), images.dtype)
            own = jax.tree.map(lambda rows: rows[0], draws(given, key, state.step, 1, count))
            return step_on(state, images, labels, batch, _both(given, own))

        return each(one)(states, batches, drawn, keys)

    @jax.jit
    def may_be_lazy(states: TrainState, images: jax.Array) -> jax.Array:
        def one(state: TrainState) -> jax.Array:
            return regions.zero_outside(state.opt_state, visited(state, images).opt_state)

        return each(one)(states).all()

    @partial(jax.jit, donate_argnums=0, static_argnames=known, compiler_options=options)
    def run(states, images, labels, batches, drawn, keys, start, length, lazy):
        def one(given, batches, drawn, key):
            boxes = visited(given, images) if lazy else None
            read = all_read if boxes is None else partial(regions.embed, regions=boxes.params)
            rest = draws(drawn, key, given.step, CHUNK, batch_of(images))

            def body(index, carry):
                state, losses, right = carry
                batch, own = jax.tree.map(lambda a: a[start + index], (batches, drawn))
                own = _both(own, jax.tree.map(lambda a: a[index], rest))
                state, loss, count = step_on(state, images, labels, batch, own, read)
                return state, losses.at[index].set(loss), right + count

            found = jnp.zeros(CHUNK, compute_dtype(given.params)), jnp.int32(0)
            if boxes is None:
                return lax.fori_loop(0, length, body, (given, *found))
            state, *found = lax.fori_loop(0, length, body, (regions.cut(given, boxes), *found))
            return regions.put(given, state, boxes), *found

        return each(one)(states, batches, drawn, keys)

    def train_epoch(state, images, labels, order, drawn=None, start=0, seconds=math.inf):
        order = _checked(order, len(images), many)
        drawn = Drawn(*(None if rows is None else np.asarray(rows) for rows in drawn or Drawn()))
        # A step can draw the others.
        required = ("flipped",) if augmentation.alternate else ()
        shape = (*order.shape, *images.shape[1:])
        check_drawn(drawn, shape, augmentation, required)
        steps, rest = divmod(order.shape[-1], batch_size)
        if not 0 <= start <= steps + bool(rest):
            raise InputError(f"the epoch starts at step {start}: it has {steps + bool(rest)}")
        if start < steps:
            whole = partial(_in_batches, shape=(steps, batch_size))
            batches, rows = put(jax.tree.map(whole, (order, drawn)))
            lazy = mesh is None and isinstance(optimizer, optim.Lazy)
            lazy = lazy and bool(may_be_lazy(state, images))
            # Only where a call of any length is the same program.
            bounded = seconds < math.inf and "length" not in known
            most = 1 if bounded else CHUNK
            while start < steps:
                began, some = time.perf_counter(), min(most, steps - start)
                state, losses, right = run(
                    state, images, labels, batches, rows, keys, start, length=some, lazy=lazy
                )
                start, found = start + some, np.asarray(losses)[..., :some]
                if bounded:
                    pace = (time.perf_counter() - began) / some
                    most = of_first(max(1, min(CHUNK, 4 * some, int(seconds / pace))))
                yield state, Steps(found, some * batch_size, _counts(right))
        if rest and start == steps:
            batch, own = put(jax.tree.map(lambda a: a[..., -rest:], (order, drawn)))
            state, loss, right = last_step(state, images, labels, batch, own, keys)
            yield state, Steps(np.asarray(loss)[..., None], rest, _counts(right))

    return train_epoch


def _as_it_is(value: Any) -> Any:
    return value


def _counts(right: jax.Array) -> Any:
    """An int, or int [K]."""
    return np.asarray(right) if right.ndim else int(right)


def _both(given: Drawn, rest: Drawn) -> Drawn:
    """Of two that have no field in common."""
    return Drawn(*(b if a is None else a for a, b in zip(given, rest, strict=True)))


def _checked(order: Any, images: int, trainings: int | None) -> np.ndarray:
    """int32 [m] or [trainings, m], indices of images that are there."""
    order = np.asarray(order, np.int32)
    if not order.size:
        raise InputError("an epoch needs at least one image")
    if trainings is not None and order.shape[:-1] != (trainings,):
        raise InputError(
            f"the orders are {list(order.shape)}: give one to each of {trainings} trainings"
        )
    if order.min() < 0 or order.max() >= images:
        found = f"{order.min()} to {order.max()}"
        raise InputError(f"the order visits images {found}: give 0 to {images - 1}")
    return order


def _in_batches(array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The first of an epoch's values by step, as 32 bits or bool."""
    array = array[..., : math.prod(shape)].reshape(*array.shape[:-1], *shape)
    return array if array.dtype == bool else array.astype(np.int32)


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
