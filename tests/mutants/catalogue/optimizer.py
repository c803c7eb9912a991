"""Planted bugs of optimizer."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_impl.training import optim
from mutants import pairs
from mutants.catalogue.common import mutant
from parity.pairs.pair import Optimizer, Pair, named_optimizer


def with_optimizer(make: Callable[[], Pair], name: str, transform: Any, **options: Any) -> Pair:
    """`transform` in the place of the exact Optax transformation of PyTorch's optimizer."""
    pair = make()
    exact = named_optimizer(name, 0.01, **options)
    return dataclasses.replace(pair, optimizer=Optimizer(exact.torch, transform))


def chain(*parts: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(*parts, optax.scale(-0.01))


def optimizer_mutant(cause: str):
    return mutant("optimizer", pairs.cnn, "optimizer", "the optimizer", cause)


@optimizer_mutant("inside the root")
def adam_eps_inside_the_root(patch, make):
    return with_optimizer(make, "adam", chain(optax.scale_by_adam(eps=0.0, eps_root=1e-8)))


@optimizer_mutant("bias correction")
def adam_without_bias_correction(patch, make):
    def update(grads, state, params=None):
        del params
        mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], grads)
        nu = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], grads)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + 1e-8), mu, nu), (mu, nu)

    raw = optax.GradientTransformation(
        lambda p: (jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)), update
    )
    return with_optimizer(make, "adam", chain(raw))


@optimizer_mutant("beta")
def adam_with_other_betas(patch, make):
    return with_optimizer(make, "adam", optim.adam(0.01, betas=(0.9, 0.99)))


@optimizer_mutant("eps")
def adam_with_another_eps(patch, make):
    return with_optimizer(make, "adam", optim.adam(0.01, eps=1e-6))


@optimizer_mutant("coupled")
def adamw_with_coupled_decay(patch, make):
    transform = optim.adam(0.01, weight_decay=0.1)
    return with_optimizer(make, "adamw", transform, weight_decay=0.1)


@optimizer_mutant("decoupled")
def adam_with_decoupled_decay(patch, make):
    transform = optim.adamw(0.01, weight_decay=0.1)
    return with_optimizer(make, "adam", transform, weight_decay=0.1)


@optimizer_mutant("Nesterov")
def nesterov_forgotten(patch, make):
    return with_optimizer(make, "sgd", optim.sgd(0.01, momentum=0.9), momentum=0.9, nesterov=True)


@optimizer_mutant("average")
def momentum_as_an_average(patch, make):
    transform = chain(optax.ema(0.9, debias=False))
    return with_optimizer(make, "sgd", transform, momentum=0.9)


@optimizer_mutant("weight decay")
def weight_decay_forgotten(patch, make):
    return with_optimizer(
        make, "sgd", optim.sgd(0.01, momentum=0.9), momentum=0.9, weight_decay=0.1
    )


@optimizer_mutant("learning rate")
def learning_rate_10_times(patch, make):
    return with_optimizer(make, "adam", optim.adam(0.1))


@optimizer_mutant("inside the root")
def rmsprop_eps_inside_the_root(patch, make):
    transform = chain(optax.scale_by_rms(decay=0.99, eps=1e-8, eps_in_sqrt=True))
    return with_optimizer(make, "rmsprop", transform)
