"""All that training changes, as one frozen pytree."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_impl.models.model import Variables


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
        """The parameters and the statistics, as a model takes them."""
        return Variables(self.params, self.batch_stats)


def create_state(variables: Variables, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; a copy, since steps consume the state they are given."""
    params, batch_stats = jax.tree.map(jnp.array, tuple(variables))
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))


def stacked(states: Sequence[TrainState]) -> TrainState:
    """Of K trainings at once: every array with a leading axis K."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


@jax.jit
def unstacked(states: TrainState, training: int | jax.Array) -> TrainState:
    """The state of one of `stacked` trainings; a copy."""
    return jax.tree.map(lambda array: array[training], states)
