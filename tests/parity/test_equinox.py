"""Equinox modules as the variables of a pair, whole or in part, with and without a fault."""

import jax
import jax.numpy as jnp
import pytest
from ports import equinox_nets as nets

from parity.checking import climb_all
from parity.pairs.fixed_leaves import Fixed, hidden, shown

FIRST = "forward", "loss", "gradients", "batch_stats"


def failing(pair):
    return [r for r in climb_all(pair, FIRST) if r.passed is False]


RIGHT = {
    "whole": nets.mlp,
    "filter_jit": lambda: nets.mlp(jit=True),
    "dropout": lambda: nets.mlp(rate=0.3),
    "partitioned": nets.partitioned_mlp,
    "state": nets.conv_net,
    "attention": nets.attention,
    "cell": nets.gru,
}


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_a_right_port_passes(make):
    assert not failing(make())


FAULTY = {
    "act": (lambda: nets.mlp(act=jax.nn.gelu), "gelu by tanh"),
    "norm": (lambda: nets.partitioned_mlp(eps=1e-6), "eps is 1e-06"),
    "drop": (lambda: nets.mlp(rate=0.3, torch_rate=0.5), "rate is 0.3 and not 0.5"),
    "bn1": (lambda: nets.conv_net(momentum=0.99), "momentum would be 0.01"),
    "conv1": (lambda: nets.conv_net(strides=(1, 2)), "stride is 1 and not 2"),
    "cell": (lambda: nets.gru(order=(1, 0, 2)), "order z, r, n"),
}


@pytest.mark.parametrize("module", FAULTY)
def test_a_fault_is_named(module):
    make, words = FAULTY[module]
    found = [f for r in failing(make()) if r.diagnosis for f in r.diagnosis.faults]
    assert any(module in (f.module, *f.places) and words in (f.cause or "") for f in found), found
    assert all(f.cause for f in found), found


def test_what_is_no_array_is_structure():
    tree = {"f": jax.nn.relu, "flag": True, "name": "net", "rate": 0.5, "w": jnp.ones(2)}
    held = hidden(tree)
    assert len(jax.tree.leaves(held)) == 2  # the rate may be a weight
    assert jax.tree.structure(held) == jax.tree.structure(hidden(dict(tree)))
    assert shown(held)["f"] is jax.nn.relu and Fixed(1) != Fixed(True)
