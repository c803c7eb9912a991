"""A moving average of the parameters, and steps of several batches, as Optax transformations."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jax_impl.errors import InputError
from jax_impl.models.model import Variables
from jax_impl.training.state import TrainState


class AverageState(NamedTuple):
    """The optimizer's own state, the steps taken, and the parameters' moving average."""

    inner: Any
    steps: jax.Array
    average: Any


def with_average(
    optimizer: optax.GradientTransformation, decay: float
) -> optax.GradientTransformation:
    """The same steps, with e <- e + (1 - decay) (p - e) of the parameters p after each of them.

    As `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)`: after the first
    step e is p.

    Raises:
        InputError: a decay that is not from 0 to 1.
    """
    if not 0 <= decay <= 1:
        raise InputError(f"the average's decay is {decay}: give 0 to 1")

    def init(params: Any) -> AverageState:
        steps, average = jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params)
        return AverageState(optimizer.init(params), steps, average)

    def update(updates: Any, state: AverageState, params: Any = None) -> tuple[Any, AverageState]:
        updates, inner = optimizer.update(updates, state.inner, params)
        moved: Any = optax.apply_updates(params, updates)

        def follow(e: jax.Array, p: jax.Array) -> jax.Array:
            return jnp.where(state.steps == 0, p, e + jnp.asarray(1 - decay, e.dtype) * (p - e))

        average = jax.tree.map(follow, state.average, moved)
        steps = jnp.asarray(optax.safe_increment(state.steps))
        return updates, AverageState(inner, steps, average)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def averaged(state: TrainState) -> Variables:
    """The variables to evaluate: the average's where the optimizer keeps one, or the state's."""
    found = optax.tree.get_all_with_path(state.opt_state, "average")
    return Variables(found[0][1], state.batch_stats) if found else state.variables


class AccumulatedState(NamedTuple):
    """The optimizer's own state, batches since its last step, and the sum of their gradients."""

    inner: Any
    batches: jax.Array
    total: Any


def accumulated(
    optimizer: optax.GradientTransformation, batches: int
) -> optax.GradientTransformation:
    """A step of the optimizer by the mean of so many batches' gradients, and none in between.

    As PyTorch's loops that call `(loss / batches).backward()`, in the gradients' own dtype;
    `optax.MultiSteps` accumulates in float32.

    Raises:
        InputError: fewer than one batch.
    """
    if batches < 1:
        raise InputError(f"gradients of {batches} batches are accumulated: give 1 or more")
    if batches == 1:
        return optimizer

    def init(params: Any) -> AccumulatedState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AccumulatedState(optimizer.init(params), jnp.zeros((), jnp.int32), zeros)

    def update(
        updates: Any, state: AccumulatedState, params: Any = None
    ) -> tuple[Any, AccumulatedState]:
        total = jax.tree.map(lambda sum_, g: sum_ + g / batches, state.total, updates)
        zeros = jax.tree.map(jnp.zeros_like, total)

        def step() -> tuple[Any, AccumulatedState]:
            made, inner = optimizer.update(total, state.inner, params)
            return made, AccumulatedState(inner, jnp.zeros((), jnp.int32), zeros)

        def wait() -> tuple[Any, AccumulatedState]:
            return zeros, AccumulatedState(state.inner, state.batches + 1, total)

        return jax.lax.cond(state.batches == batches - 1, step, wait)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
