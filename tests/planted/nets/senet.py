"""Grouped convolutions with squeeze and excitation (Hu et al. 2018), naming nothing."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import nn

import parity
from planted.nets.data import normal
from planted.nets.functional import as_arrays, batch_norm, conv, linear

STYLE = "function without taps"


class TorchSE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 4)
        self.fc2 = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, 2, 1, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.se = TorchSE()
        self.fc = nn.Linear(8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.stem(x)))
        x = x + torch.relu(self.se(x))
        x = torch.relu(self.bn2(self.grouped(x)))
        return self.fc(x.mean((2, 3)))


def grouped(v, x):
    return conv(v, "grouped", x, stride=2, padding=1, groups=2)


def grouped_strided(v, x):
    """Channel i belongs to group i mod 2."""
    n, c, h, w = x.shape
    x = x.reshape(n, c // 2, 2, h, w).swapaxes(1, 2).reshape(x.shape)
    return grouped(v, x)


def apply(
    v,
    x,
    is_training: bool = False,
    *,
    grouped: Any = grouped,
):
    updated: dict[str, jax.Array] = {}
    x = jax.nn.relu(batch_norm(v, "bn1", conv(v, "stem", x, padding=1), is_training, updated))
    scale = jax.nn.sigmoid(linear(v, "se.fc2", jax.nn.relu(linear(v, "se.fc1", x.mean((2, 3))))))
    x = x + jax.nn.relu(x * scale[:, :, None, None])
    x = jax.nn.relu(batch_norm(v, "bn2", grouped(v, x), is_training, updated))
    return linear(v, "fc", jnp.mean(x, (2, 3))), {**v, **updated}


def make(**switches: Any) -> parity.Pair:
    return parity.Pair(
        "senet",
        TorchNet,
        partial(apply, **switches),
        as_arrays,
        example_inputs=normal(6, 3, 8, 8),
    )
