"""Planted bugs of initial weights."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jax_impl.models.model import Variables
from mutants import pairs
from mutants.catalogue.common import basic, mutant
from parity.pairs.pair import Pair


def with_init(make: Callable[[], Pair], change: Callable) -> Pair:
    """Changes each parameter (path, value, rng) that `init` draws."""
    pair = make()
    assert pair.init is not None
    init = pair.init

    def changed(seed: int) -> Variables:
        rng, variables = np.random.default_rng(seed), init(seed)
        params = jax.tree_util.tree_map_with_path(
            lambda keys, v: jnp.asarray(change("/".join(k.key for k in keys), v, rng), jnp.float32),
            variables.params,
        )
        return Variables(params, variables.batch_stats)

    return dataclasses.replace(pair, init=changed)


@mutant("init", pairs.cnn, "init", "conv1", "LeCun's truncated normal")
def flax_default_init(patch, make):
    def change(path, v, rng):
        if v.ndim < 2:
            return v
        fan_in = int(np.prod(v.shape[:-1]))
        draw = rng.normal(size=4 * v.size)
        draw = draw[np.abs(draw) < 2][: v.size].reshape(v.shape)
        return draw / np.sqrt(fan_in) / 0.87962566103423978

    return with_init(make, change)


@mutant("init", pairs.cnn, "init", "conv1", "0 everywhere")
def zero_biases(patch, make):
    return with_init(make, lambda path, v, rng: 0 * v if path.endswith("bias") else v)


@mutant("init", basic, "init", "conv1", "He's normal of fan_in")
def he_normal_of_fan_in(patch, make):
    def change(path, v, rng):
        return rng.normal(size=v.shape) * np.sqrt(2 / np.prod(v.shape[:3])) if v.ndim == 4 else v

    return with_init(make, change)


@mutant("init", pairs.cnn, "init", "conv1", "Glorot's uniform")
def glorot_uniform(patch, make):
    def change(path, v, rng):
        if v.ndim < 2:
            return v
        taps = np.prod(v.shape[:-2]) if v.ndim == 4 else 1
        bound = np.sqrt(6 / (taps * (v.shape[-1] + v.shape[-2])))
        return rng.uniform(-bound, bound, v.shape)

    return with_init(make, change)


@mutant("init", basic, "init", "layer1.0.bn2", "0 everywhere")
def zero_init_residual_by_default(patch, make):
    return with_init(make, lambda path, v, rng: 0 * v if path.endswith("bn2/scale") else v)
