"""A conv net with biases before its normalisation, in Linen under PyTorch's names."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from torch import nn

import parity
from planted.nets.data import normal
from planted.nets.flax_layers import BatchNorm, apply_linen, to_linen

STYLE = "linen, own names"
PADDING: Any = ((1, 1), (1, 1))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.act1 = nn.LeakyReLU(0.1)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(12)
        self.act2 = nn.LeakyReLU(0.1)
        self.fc = nn.Linear(12 * 7 * 7, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.pool(self.bn1(self.conv1(x))))
        x = self.act2(self.bn2(self.conv2(x)))
        return self.fc(x.flatten(1))


class Net(linen.Module):
    train: bool
    norm1: Callable[..., Any] = BatchNorm
    norm2: Callable[..., Any] = BatchNorm
    slope: float = 0.1
    transposed: bool = True

    @linen.compact
    def __call__(self, x):
        x = self.norm1(self.train, name="bn1")(linen.Conv(8, (3, 3), name="conv1")(x))
        x = linen.max_pool(x, (3, 3), (2, 2), PADDING)
        x = linen.leaky_relu(x, self.slope)
        x = self.norm2(self.train, name="bn2")(linen.Conv(12, (3, 3), name="conv2")(x))
        x = linen.leaky_relu(x, self.slope)
        if self.transposed:  # PyTorch flattens channels first
            x = x.transpose(0, 3, 1, 2)
        return linen.Dense(10, name="fc")(x.reshape(len(x), -1))


def linen_own(train: bool, **options: Any) -> linen.BatchNorm:
    """Linen's, whose running variance is biased."""
    options = {"momentum": 0.9, "use_fast_variance": False, **options}
    return linen.BatchNorm(use_running_average=not train, **options)


def apply(variables, x, train: bool = False, *, switches: Any = None):
    return apply_linen(Net(train, **(switches or {})), variables, x, train=train)


def make(options: Any = None, **switches: Any) -> parity.Pair:
    """`options` of the pair, `switches` of the JAX net."""
    return parity.Pair(
        "conv_bn",
        TorchNet,
        partial(apply, switches=switches),
        to_linen,
        example_inputs=normal(6, 3, 14, 14),
        channels_last=True,
        **(options or {}),
    )


def nchw_to_nhwc(x: Any) -> jax.Array:
    return jnp.asarray(x).transpose(0, 2, 3, 1)
