"""Planted bugs of training loop."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_impl.models.model import Variables
from jax_impl.training import optim, step
from jax_impl.training.step import cross_entropy
from mutants import pairs
from mutants.catalogue.common import mutant, small_stem
from parity.pairs.pair import Pair, model_step


def with_step(make: Callable[[], Pair], wrap: Callable) -> Pair:
    """`wrap(start, step, variables)` -> the same three functions with a fault."""
    pair = make()
    own = pair.jax_step
    assert own is not None
    return dataclasses.replace(pair, jax_step=lambda optimizer: wrap(optimizer, *own(optimizer)))


def loop_mutant(make: Callable[[], Pair], cause: str):
    return mutant("training loop", make, "trajectory", "the training step", cause)


@loop_mutant(pairs.cnn, "made anew")
def optimizer_state_made_anew(patch, make):
    def wrap(optimizer, start, step, variables):
        def faulty(state, images, labels):
            fresh = optimizer.init(state.params)
            return step(dataclasses.replace(state, opt_state=fresh), images, labels)

        return start, faulty, variables

    return with_step(make, wrap)


@loop_mutant(small_stem, "not carried on")
def statistics_not_carried_on(patch, make):
    def wrap(optimizer, start, step, variables):
        def faulty(state, images, labels):
            before = jax.tree.map(jnp.array, state.batch_stats)
            state, loss = step(state, images, labels)
            return dataclasses.replace(state, batch_stats=before), loss

        return start, faulty, variables

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "taken twice")
def step_taken_twice(patch, make):
    """The same gradients are applied twice."""

    def wrap(optimizer, start, step, variables):
        def twice(grads, state, params=None):
            first, state = optimizer.update(grads, state, params)
            moved = optax.apply_updates(params, first)
            second, state = optimizer.update(grads, state, moved)
            return jax.tree.map(jnp.add, first, second), state

        doubled = optax.GradientTransformation(optimizer.init, twice)
        return model_step(make().model, doubled)

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "last example")
def last_example_left_out(patch, make):
    def wrap(optimizer, start, step, variables):
        return start, lambda state, x, y: step(state, x[:-1], y[:-1]), variables

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "other examples")
def labels_of_other_examples(patch, make):
    def wrap(optimizer, start, step, variables):
        return start, lambda state, x, y: step(state, x, np.roll(y, 1)), variables

    return with_step(make, wrap)


@loop_mutant(small_stem, "eval mode")
def training_in_eval_mode(patch, make):
    def evaluated(params, model, batch_stats, images, labels, **_):
        logits, _ = model.apply(Variables(params, batch_stats), images, train=False)
        return cross_entropy(logits, labels).mean(), (batch_stats, 0)

    patch.setattr(step, "loss_and_stats", evaluated)
    return make()


@loop_mutant(pairs.cnn, "add up")
def gradients_not_zeroed(patch, make):
    def wrap(optimizer, start, step, variables):
        def update(grads, state, params=None):
            total = jax.tree.map(jnp.add, state[0], grads)
            updates, inner = optimizer.update(total, state[1], params)
            return updates, (total, inner)

        summed = optax.GradientTransformation(
            lambda p: (jax.tree.map(jnp.zeros_like, p), optimizer.init(p)), update
        )
        return model_step(make().model, summed)

    return with_step(make, wrap)


@loop_mutant(pairs.cnn, "clipped")
def gradients_clipped(patch, make):
    def wrap(optimizer, start, step, variables):
        return model_step(make().model, optax.chain(optim.clip_by_global_norm(0.5), optimizer))

    return with_step(make, wrap)


@loop_mutant(small_stem, "summed over the batch")
def loss_summed_in_the_step(patch, make):
    def summed(params, model, batch_stats, images, labels, **_):
        logits, stats = model.apply(Variables(params, batch_stats), images, train=True)
        return cross_entropy(logits, labels).sum(), (stats, 0)

    patch.setattr(step, "loss_and_stats", summed)
    return make()


@loop_mutant(pairs.cnn, "multiplied by 0.9")
def learning_rate_decays_each_step(patch, make):
    def wrap(optimizer, start, step, variables):
        return model_step(make().model, optim.adam(lambda count: 1e-3 * 0.9**count))

    return with_step(make, wrap)
