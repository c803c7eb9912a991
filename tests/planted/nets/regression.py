"""An MLP with dropout that learns numbers by squared error, in Linen under automatic names."""

from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from torch import nn
from torch.nn import functional as F

import parity
from planted.nets.data import initialiser, normal, torch_default
from planted.nets.flax_layers import to_linen

STYLE = "linen, automatic names"
WIDTH = 16
NAMES = {"norm": "LayerNorm_0", "fc1": "Dense_0", "fc2": "Dense_1", "fc3": "Dense_2"}


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, WIDTH)
        self.act = nn.Softplus(beta=2)
        self.drop = nn.Dropout(0.1)
        self.fc2 = nn.Linear(WIDTH, WIDTH)
        self.fc3 = nn.Linear(WIDTH, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.act(self.fc1(self.norm(x))))
        x = self.drop(self.act(self.fc2(x)))
        return self.fc3(x)


def softplus(x):
    return jax.nn.softplus(2 * x) / 2


def dropped(x, train: bool, key, rate: float = 0.1, scaled: bool = True):
    if not train:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate) if scaled else x, 0)


class Net(linen.Module):
    train: bool
    drop: Any = dropped
    one_pass: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.LayerNorm(epsilon=1e-5, use_fast_variance=self.one_pass)(x)
        for _ in range(2):
            x = softplus(linen.Dense(WIDTH)(x))
            x = self.drop(x, self.train, self.make_rng("dropout"))
        return linen.Dense(2)(x)


def apply(variables, x, train: bool = False, *, switches: Any = None):
    keys = {"dropout": jax.random.key(0)}
    return Net(train, **(switches or {})).apply(variables, x, rngs=keys)


def to_flax(state):
    return to_linen(state, NAMES.__getitem__)


def loss(outputs: jax.Array, targets: jax.Array, factor: float = 1.0) -> jax.Array:
    return factor * jnp.square(outputs - targets).mean()


def make(
    jax_loss: Any = loss,
    rule: Any = torch_default,
    options: Any = None,
    mean: float = 0.0,
    **switches: Any,
) -> parity.Pair:
    return parity.Pair(
        "regression",
        TorchNet,
        partial(apply, switches=switches),
        to_flax,
        example_inputs=normal(8, WIDTH, mean=mean),
        labels=normal(8, 2, seed=1),
        loss=parity.Loss(F.mse_loss, jax_loss),
        init=initialiser(TorchNet, rule, to_flax),
        **(options or {}),
    )
