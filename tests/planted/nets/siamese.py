"""Are two images alike? One net called on each, naming nothing."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch import nn
from torch.nn import functional as F

import parity
from planted.nets.data import integers, normal
from planted.nets.functional import as_arrays, batch_norm, conv, linear, max_pool

STYLE = "function without taps"


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.adaptive = nn.AdaptiveAvgPool2d(3)
        self.embed = nn.Linear(72, 8)
        self.out = nn.Linear(8, 1)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn(self.conv(x)))
        return self.embed(self.adaptive(self.pool(x)).flatten(1))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.out((self.branch(a) - self.branch(b)).abs())[:, 0]


def adaptive(x):
    """PyTorch's bins, from floor(i h / 3) to ceil((i + 1) h / 3)."""
    h, w = x.shape[2:]
    rows = []
    for i in range(3):
        columns = []
        for j in range(3):
            part = x[:, :, i * h // 3 : -(-(i + 1) * h // 3), j * w // 3 : -(-(j + 1) * w // 3)]
            columns.append(part.mean((2, 3)))
        rows.append(jnp.stack(columns, -1))
    return jnp.stack(rows, -2)


def adaptive_of_equal_windows(x):
    """Windows of h - 2 (h // 3), at a stride of h // 3."""
    h, w = x.shape[2:]
    sh, sw = h // 3, w // 3
    window = (1, 1, h - 2 * sh, w - 2 * sw)
    total = lax.reduce_window(x, 0.0, lax.add, window, (1, 1, sh, sw), "VALID")
    return total / (window[2] * window[3])


def apply(
    v,
    a,
    b,
    train: bool = False,
    *,
    adaptive: Any = adaptive,
    ceil_mode: bool = True,
):
    updated: dict[str, jax.Array] = {}

    def branch(x):
        x = jax.nn.relu(batch_norm(v, "bn", conv(v, "conv", x, padding=1), train, updated))
        x = adaptive(max_pool(x, 2, 2, ceil_mode=ceil_mode))
        return linear(v, "embed", x.reshape(len(x), -1))

    return linear(v, "out", jnp.abs(branch(a) - branch(b)))[:, 0], {**v, **updated}


def torch_loss(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=torch.tensor(3.0).double())


def loss(logits, labels):
    positive = 3 * jax.nn.log_sigmoid(logits) * labels
    return -(positive + jax.nn.log_sigmoid(-logits) * (1 - labels)).mean()


def loss_of_probabilities(logits, labels):
    """Kept from infinity by 1e-7."""
    p = jax.nn.sigmoid(logits)
    return -(3 * labels * jnp.log(p + 1e-7) + (1 - labels) * jnp.log(1 - p + 1e-7)).mean()


def make(jax_loss: Any = loss, **switches: Any) -> parity.Pair:
    inputs: Any = normal(6, 1, 15, 15), normal(6, 1, 15, 15, seed=1)
    return parity.Pair(
        "siamese",
        TorchNet,
        partial(apply, **switches),
        as_arrays,
        example_inputs=inputs,
        labels=integers(2, 6, seed=3).astype("float32"),
        loss=parity.Loss(torch_loss, jax_loss),
    )
