"""Planted bugs of linear."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import dataclasses

from jax_impl.models import layers
from mutants import pairs
from mutants.catalogue.common import always, mutant, when


@mutant("linear", pairs.cnn, "forward", "fc1", "flattened h, w, c")
def flattened_h_w_c(patch, make):
    """The weights are converted as if nothing had been flattened."""
    create = layers.Linear.__init__

    def plain(self, *args, flattened=None, rng):
        del flattened
        create(self, *args, flattened=None, rng=rng)

    patch.setattr(layers.Linear, "__init__", plain)
    return make()


@mutant("linear", pairs.cnn, "forward", "fc1", "the bias is missing")
def linear_without_its_bias(patch, make):
    when(
        always,
        lambda self, call, x: x @ self.kernel[...],
        layers.Linear,
        patch,
    )
    return make()


@mutant("linear", pairs.mlp, "forward", "fc1", "the bias is missing")
def bias_added_to_nothing(patch, make):
    pair = make()

    def apply(variables, x):
        return pair.jax_apply({**variables, "fc1.bias": 0 * variables["fc1.bias"]}, x)

    return dataclasses.replace(pair, jax_apply=apply)


@mutant("linear", pairs.mlp, "forward", "fc1", "the weight is transposed")
def square_weight_left_as_it_is(patch, make):
    pair = make()

    def to_flax(state):
        return pair.to_flax({**state, "fc1.weight": state["fc1.weight"].T})

    return dataclasses.replace(pair, to_flax=to_flax)
