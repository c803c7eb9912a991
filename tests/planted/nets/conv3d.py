"""A net of 3d convolutions for short videos, in Linen under automatic names."""

from functools import partial
from typing import Any

import flax.linen as linen
import jax.numpy as jnp
import torch
from torch import nn

import parity
from planted.nets.data import normal
from planted.nets.flax_layers import BatchNorm, apply_linen, to_linen

STYLE = "linen, automatic names"
NAMES = {"conv1": "Conv_0", "bn": "BatchNorm_0", "conv2": "Conv_1", "fc": "Dense_0"}


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv3d(2, 6, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm3d(6)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv3d(6, 8, 3, padding=1)
        self.pool = nn.AvgPool3d(2, 2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc(x.mean((2, 3, 4)))


class Net(linen.Module):
    train: bool
    padding: Any = ((1, 1),) * 3

    @linen.compact
    def __call__(self, x):
        x = jnp.moveaxis(x, 1, -1)
        x = linen.Conv(6, (3, 3, 3), (2, 2, 2), self.padding, use_bias=False)(x)
        x = linen.relu(BatchNorm(self.train)(x))
        x = linen.relu(linen.Conv(8, (3, 3, 3))(x))
        x = linen.avg_pool(x, (2, 2, 2), (2, 2, 2))
        return linen.Dense(5)(x.mean((1, 2, 3)))


def apply(variables, x, training: bool = False, *, switches: Any = None):
    return apply_linen(Net(training, **(switches or {})), variables, x, train=training)


def to_flax(state):
    return to_linen(state, NAMES.__getitem__)


def to_flax_width_first(state):
    """Kernels' axes in PyTorch's reversed order: [w, h, d, i, o]."""
    return to_flax({k: v.swapaxes(2, 4) if v.ndim == 5 else v for k, v in state.items()})


def make(convert: Any = to_flax, **switches: Any) -> parity.Pair:
    return parity.Pair(
        "conv3d",
        TorchNet,
        partial(apply, switches=switches),
        convert,
        example_inputs=normal(4, 2, 8, 8, 8),
    )
