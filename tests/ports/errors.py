"""A user's first mistakes, each of which stops the run."""

from typing import Any

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
from torch import nn

import parity

INPUTS = np.ones((4, 6), np.float32)


class FlaxLayer(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, name="fc")(x)


def converted(to_flax):
    return parity.Pair(
        "mistake", nn.Sequential(nn.Linear(6, 3)), FlaxLayer().apply, to_flax, example_inputs=INPUTS
    )


def no_such_entry():
    return converted(lambda s: {"params": {"fc": {"kernel": jnp.asarray(s["fc.weight"]).T}}})


def not_transposed():
    def to_flax(s):
        return {"params": {"fc": {"kernel": jnp.asarray(s["0.weight"]), "bias": s["0.bias"]}}}

    return converted(to_flax)


def not_converted():
    return converted(lambda s: {"params": {"fc": {"kernel": jnp.asarray(s["0.weight"]).T}}})


def applied(apply):
    def to_flax(s):
        return {"w": jnp.asarray(s["weight"].T), "b": jnp.asarray(s["bias"])}

    return parity.Pair("mistake", lambda: nn.Linear(6, 3), apply, to_flax, example_inputs=INPUTS)


def no_such_variable():
    return applied(lambda p, x: x @ p["W"] + p["b"])


def shapes_do_not_fit():
    return applied(lambda p, x: x @ p["w"].T + p["b"])


def no_such_attribute():
    nothing: Any = None
    return applied(nothing.apply)
