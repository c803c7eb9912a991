"""Super-resolution by pixel shuffle (Shi et al. 2016), a plain function that names nothing."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import nn
from torch.nn import functional as F

import parity
from planted.nets.data import normal
from planted.nets.functional import as_arrays, conv, per_channel

STYLE = "function without taps"


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 8, 5, padding=2, padding_mode="reflect")
        self.act1 = nn.PReLU(8)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.act2 = nn.PReLU(8)
        self.tail = nn.Conv2d(8, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.head(x))
        x = self.act2(self.body(x))
        return self.shuffle(self.tail(x))


def prelu(v, name, x):
    return jnp.where(x >= 0, x, x * per_channel(v[f"{name}.weight"], x))


def prelu_of_one(v, name, x):
    return jnp.where(x >= 0, x, x * v[f"{name}.weight"][0])


def shuffle(x):
    """[n, c r r, h, w] -> [n, c, h r, w r], r = 2."""
    n, c, h, w = x.shape
    x = x.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // 4, 2 * h, 2 * w)


def shuffle_of_depth_to_space(x):
    """TensorFlow's order, the colour last."""
    n, c, h, w = x.shape
    x = x.reshape(n, 2, 2, c // 4, h, w).transpose(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // 4, 2 * h, 2 * w)


def apply(v, x, *, pad: Any = "reflect", act: Any = prelu, shuffle: Any = shuffle):
    x = jnp.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode=pad)
    x = act(v, "act1", conv(v, "head", x))
    x = act(v, "act2", conv(v, "body", x, padding=1))
    return shuffle(conv(v, "tail", x, padding=1))


def loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.abs(outputs - targets).mean()


def make(**switches: Any) -> parity.Pair:
    return parity.Pair(
        "super_resolution",
        TorchNet,
        partial(apply, **switches),
        as_arrays,
        example_inputs=normal(5, 3, 8, 8),
        labels=normal(5, 3, 16, 16, seed=1),
        loss=parity.Loss(F.l1_loss, loss),
    )
