"""MLP-Mixer (Tolstikhin et al. 2021) in NNX, its GELU PyTorch's by tanh."""

from functools import partial
from typing import Any

import torch
from flax import nnx
from torch import nn

import parity
from planted.nets.data import initialiser, normal, torch_default
from planted.nets.flax_layers import nnx_pair

STYLE = "nnx"
DIM, TOKENS = 16, 16


class TorchMLP(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.fc1 = nn.Linear(features, features)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM)
        self.tokens = TorchMLP(TOKENS)
        self.norm2 = nn.LayerNorm(DIM)
        self.channels = TorchMLP(DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, DIM, 4, 4)
        self.block1 = TorchBlock()
        self.block2 = TorchBlock()
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.block2(self.block1(x))).mean(1))


class MLP(nnx.Module):
    def __init__(self, features, rngs, act):
        self.fc1 = nnx.Linear(features, features, rngs=rngs)
        self.fc2 = nnx.Linear(features, features, rngs=rngs)
        self.act = act

    def __call__(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nnx.Module):
    def __init__(self, rngs, act):
        self.norm1 = LAYER_NORM(DIM, rngs=rngs)
        self.tokens = MLP(TOKENS, rngs, act)
        self.norm2 = LAYER_NORM(DIM, rngs=rngs)
        self.channels = MLP(DIM, rngs, act)

    def __call__(self, x):
        x = x + self.tokens(self.norm1(x).swapaxes(1, 2)).swapaxes(1, 2)
        return x + self.channels(self.norm2(x))


LAYER_NORM = partial(nnx.LayerNorm, epsilon=1e-5, use_fast_variance=False)


class Net(nnx.Module):
    def __init__(self, act: Any = nnx.gelu, dtype: Any = None):
        rngs = nnx.Rngs(0)
        self.patch = nnx.Conv(3, DIM, (4, 4), 4, padding="VALID", rngs=rngs, dtype=dtype)
        self.block1 = Block(rngs, act)
        self.block2 = Block(rngs, act)
        self.norm = LAYER_NORM(DIM, rngs=rngs)
        self.head = nnx.Linear(DIM, 10, rngs=rngs)

    def __call__(self, x, train):
        x = self.patch(x).reshape(len(x), TOKENS, DIM)
        return self.head(self.norm(self.block2(self.block1(x))).mean(1))


def exact_gelu(x):
    return nnx.gelu(x, approximate=False)


def make(options: Any = None, **switches: Any) -> parity.Pair:
    apply, to_flax = nnx_pair(partial(Net, **switches))
    return parity.Pair(
        "mixer",
        TorchNet,
        apply,
        to_flax,
        example_inputs=normal(5, 3, 16, 16),
        channels_last=True,
        init=initialiser(TorchNet, torch_default, to_flax),
        **(options or {}),
    )
