"""A training loop of one's own, for a pair's `jax_step`, with places for what goes wrong in one.

The state holds the weights, the statistics, the optimizer's state, and the steps taken.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

Tree = Any


class State(NamedTuple):
    params: Tree
    rest: Tree
    opt_state: Any
    taken: int = 0
    average: Tree = None


def split(variables: Tree) -> tuple[Tree, Tree]:
    """(what is trained, the other collections)."""
    if "params" not in variables:
        return variables, {}
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


def join(params: Tree, rest: Tree) -> Tree:
    return {**rest, "params": params} if rest else params


def as_given(count: int, inputs: Any, labels: Any) -> tuple[Any, Any]:
    """`count` is of the steps taken before."""
    return inputs, labels


def gradient(loss_of: Callable[..., Any], params: Tree, rest: Tree, x: Any, y: Any) -> Any:
    """((loss, other collections), gradients) of a batch."""
    return jax.value_and_grad(loss_of, has_aux=True)(params, rest, x, y)


def updated(optimizer: Any, grads: Tree, state: State) -> tuple[Tree, Any]:
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return optax.apply_updates(state.params, updates), opt_state


def variables_of(state: State) -> Tree:
    return join(state.params, state.rest)


def loop(
    apply: Callable[..., Any],
    loss: Callable[..., Any],
    *,
    prepare: Callable[[Any], Any] = np.asarray,
    given: Callable[..., Any] = as_given,
    gradient: Callable[..., Any] = gradient,
    update: Callable[..., Any] = updated,
    carried: bool = True,
    average: float = 0.0,
    read: Callable[[State], Tree] = variables_of,
) -> Callable[..., Any]:
    """A pair's `jax_step`.

    Args:
        apply: (variables, x, train) -> (outputs, variables).
        loss: of (outputs, labels).
        prepare: a batch's inputs as the model takes them.
        given: the batch that a step is given in the place of its own; None for no step.
        gradient: of the loss of (params, other collections, x, labels).
        update: (optimizer, gradients, state) -> (params, optimizer's state).
        carried: the statistics of a step are the next one's.
        average: the part of the old weights in their moving average.
        read: the variables of a state.
    """

    def loss_of(params, rest, x, y):
        outputs, variables = apply(join(params, rest), x, True)
        return loss(outputs, y), split(variables)[1]

    def jax_step(optimizer):
        def start(variables):
            params, rest = split(variables)
            return State(params, rest, optimizer.init(params), 0, params)

        @jax.jit
        def compiled(state, x, y):
            (value, rest), grads = gradient(loss_of, state.params, state.rest, x, y)
            params, opt_state = update(optimizer, grads, state)
            slow = jax.tree.map(
                lambda old, new: average * old + (1 - average) * new, state.average, params
            )
            rest = rest if carried else state.rest
            return State(params, rest, opt_state, state.taken, slow), value

        def step(state, inputs, labels):
            chosen = given(state.taken, prepare(inputs), np.asarray(labels))
            if chosen is None:
                return state._replace(taken=state.taken + 1), 0.0
            after, value = compiled(state._replace(taken=0), *chosen)
            return after._replace(taken=state.taken + 1), value

        return start, step, read

    return jax_step
