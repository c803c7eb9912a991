"""A temporal conv net (Bai et al. 2018) with GroupNorm, as a plain function with taps."""

from functools import partial
from typing import Any

import jax
import torch
from torch import nn
from torch.nn import functional as F

import parity
from parity import tap
from planted.nets.data import normal
from planted.nets.functional import as_arrays, conv, group_norm, linear

STYLE = "function with taps"
DILATIONS = 1, 2, 4


class TorchBlock(nn.Module):
    def __init__(self, dilation: int, inplace: bool = False):
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)
        self.relu = nn.ReLU(inplace)
        self.conv = nn.Conv1d(8, 8, 3, dilation=dilation)
        self.mix = nn.Conv1d(8, 8, 1)
        self.padding = 2 * dilation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(F.pad(self.relu(x), (self.padding, 0)))
        return x + self.mix(self.norm(y))


class TorchNet(nn.Module):
    def __init__(self, inplace: bool = False):
        super().__init__()
        self.stem = nn.Conv1d(4, 8, 1)
        self.block1, self.block2, self.block3 = (TorchBlock(d, inplace) for d in DILATIONS)
        self.head = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block3(self.block2(self.block1(self.stem(x))))
        return self.head(x[:, :, -1])


def block(v, name, x, dilation, *, pad, strided):
    size = 2 * dilation
    pads = {"left": (size, 0), "right": (0, size), "both": (dilation, dilation)}[pad]
    y = tap(f"{name}.relu", jax.nn.relu(x))
    y = tap(f"{name}.conv", conv(v, f"{name}.conv", y, padding=[pads], dilation=dilation))
    y = tap(f"{name}.norm", group_norm(v, f"{name}.norm", y, 2, strided=strided))
    y = tap(f"{name}.mix", conv(v, f"{name}.mix", y))
    return tap(name, x + y)


def apply(
    v,
    x,
    *,
    dilations: Any = DILATIONS,
    pad: str = "left",
    strided: bool = False,
):
    x = tap("stem", conv(v, "stem", x))
    for number, dilation in enumerate(dilations, 1):
        x = block(v, f"block{number}", x, dilation, pad=pad, strided=strided)
    return tap("head", linear(v, "head", x[:, :, -1]))


def make(inplace: bool = False, options: Any = None, **switches: Any) -> parity.Pair:
    return parity.Pair(
        "tcn",
        partial(TorchNet, inplace),
        partial(apply, **switches),
        as_arrays,
        example_inputs=normal(6, 4, 20),
        **(options or {}),
    )
