"""ConvNeXt blocks (Liu et al. 2022) in Linen under PyTorch's names."""

from functools import partial
from typing import Any

import flax.linen as linen
import torch
from torch import nn

import parity
from planted.nets.data import normal
from planted.nets.flax_layers import to_linen

STYLE = "linen, own names"
DIM = 8


class TorchBlock(nn.Module):
    def __init__(self, trained: bool = True):
        super().__init__()
        self.dwconv = nn.Conv2d(DIM, DIM, 5, padding=2, groups=DIM)
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.pwconv1 = nn.Linear(DIM, 4 * DIM)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * DIM, DIM)
        self.gamma = nn.Parameter(torch.full((DIM,), 0.1), requires_grad=trained)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class TorchNet(nn.Module):
    def __init__(self, trained: bool = True):
        super().__init__()
        self.stem = nn.Conv2d(3, DIM, 4, 4)
        self.block1 = TorchBlock()
        self.block2 = TorchBlock(trained)
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.head = nn.Linear(DIM, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(self.stem(x)))
        return self.head(self.norm(x.mean((2, 3))))


LAYER_NORM = partial(linen.LayerNorm, epsilon=1e-6, use_fast_variance=False)


class Block(linen.Module):
    @linen.compact
    def __call__(self, x):
        y = linen.Conv(DIM, (5, 5), feature_group_count=DIM, name="dwconv")(x)
        y = linen.Dense(4 * DIM, name="pwconv1")(LAYER_NORM(name="norm")(y))
        y = linen.gelu(y, approximate=False)
        y = linen.Dense(DIM, name="pwconv2")(y)
        gamma = self.param("gamma", linen.initializers.constant(0.1), (DIM,))
        return x + gamma * y


class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(DIM, (4, 4), 4, "VALID", name="stem")(x)
        x = Block(name="block2")(Block(name="block1")(x))
        return linen.Dense(10, name="head")(LAYER_NORM(name="norm")(x.mean((1, 2))))


def apply(variables, x):
    return Net().apply(variables, x)


def to_flax(state):
    return to_linen(state, as_is=("block1.gamma", "block2.gamma"))


def make(torch_net: Any = TorchNet) -> parity.Pair:
    inner = ("norm", "pwconv1", "act", "pwconv2")
    return parity.Pair(
        "convnext",
        torch_net,
        apply,
        to_flax,
        example_inputs=normal(6, 3, 16, 16),
        channels_last=True,
        channels_last_in_torch=tuple(f"{b}.{n}" for b in ("block1", "block2") for n in inner),
    )
