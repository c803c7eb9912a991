"""Weights that a converter exchanges are named, in nets that name their modules and in others."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import parity
from parity.checking import climb_all
from parity.diagnosis.sites import Change, Exchange, applied, watching

RUNGS = "forward", "loss", "gradients"


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm, self.down = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.down(self.norm(torch.sigmoid(self.gate(x)) * self.up(x)))


def gated(exchanged, tap):
    """A pair whose converter exchanges the entries of these beginnings."""

    def apply(v, x):
        def linear(name, x):
            return tap(name, x @ v[f"{name}.weight"].T + v[f"{name}.bias"])

        x = linear("up", x) / (1 + jnp.exp(-linear("gate", x)))
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / jnp.sqrt(var + 1e-5) * v["norm.weight"] + v["norm.bias"]
        return linear("down", tap("norm", x))

    def convert(state):
        one, two = exchanged
        names = {n: n.replace(one, two) for n in state if n.startswith(one)}
        names |= {new: old for old, new in names.items()}
        return {name: jnp.asarray(state[names.get(name, name)]) for name in state}

    inputs = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    return parity.Pair("gated", Gated, apply, convert, example_inputs=inputs)


@pytest.mark.parametrize("tap", [parity.tap, lambda name, value: value], ids=["taps", "no taps"])
@pytest.mark.parametrize(
    "names, cause",
    [
        (("gate", "up"), "the weights of gate and up are exchanged"),
        (("norm.weight", "norm.bias"), "weight and bias are exchanged"),
    ],
)
def test_exchanged_weights_are_named(names, cause, tap):
    failing = [r for r in climb_all(gated(names, tap), RUNGS, jit=False) if r.passed is False]
    assert {"forward", "gradients"} <= {r.rung for r in failing}
    faults = [f for r in failing if r.diagnosis for f in r.diagnosis.faults]
    assert {f.cause for f in faults} == {cause}, faults


def test_weights_are_exchanged_while_the_model_runs_alone():
    model, x = Gated(), torch.ones(1, 6)
    pair = Exchange("gate.weight", "up.weight"), Exchange("gate.bias", "up.bias")
    before = dict(model.named_parameters())
    with torch.no_grad(), applied([Change("", "", frozenset(), exchanged=pair)]), watching(model):
        turned = model(x)
    assert all(value is before[name] for name, value in model.named_parameters())
    with torch.no_grad():
        by_hand = model.down(model.norm(torch.sigmoid(model.up(x)) * model.gate(x)))
    assert torch.equal(turned, by_hand) and not torch.equal(turned, model(x))
