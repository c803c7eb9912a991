"""Dense connections and transitions (Huang et al. 2017), in NNX."""

from functools import partial
from typing import Any

import flax.linen as linen
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

import parity
from planted.nets.data import normal
from planted.nets.flax_layers import NNXBatchNorm, moved, nnx_pair, normalised

STYLE = "nnx"
GROWTH = 4
PADDING: Any = ((1, 1), (1, 1))


class TorchLayer(nn.Module):
    def __init__(self, inputs: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(inputs, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], 1)


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.layer1 = TorchLayer(8)
        self.layer2 = TorchLayer(12)
        self.transition = nn.Conv2d(16, 8, 1, bias=False)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.layer3 = TorchLayer(8)
        self.norm = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        x = self.layer3(self.pool(self.transition(x)))
        return self.fc(torch.relu(self.norm(x)).mean((2, 3)))


class HalvedBatchNorm(NNXBatchNorm):
    """Statistics of each half of the batch, as on two devices; the first half's are kept."""

    def __call__(self, x, train):
        if not train:
            return super().__call__(x, train)
        found = []
        for half in jnp.split(x, 2):
            by = half.mean((0, 1, 2)), half.var((0, 1, 2))
            found.append(normalised(half, *by, self.scale[...], self.bias[...], self.eps))
        kept = moved(self.mean[...], self.var[...], jnp.split(x, 2)[0], 0.9)
        self.mean[...], self.var[...] = kept
        return jnp.concatenate(found)


class Layer(nnx.Module):
    def __init__(self, inputs, rngs, norm):
        self.norm = norm(inputs)
        self.conv = nnx.Conv(inputs, GROWTH, (3, 3), padding=1, use_bias=False, rngs=rngs)

    def __call__(self, x, train):
        y = self.conv(nnx.relu(self.norm(x, train)))
        return jnp.concatenate([x, y], -1)


class Net(nnx.Module):
    def __init__(self, norm: Any = NNXBatchNorm, count_padding=True):
        rngs = nnx.Rngs(0)
        conv = partial(nnx.Conv, use_bias=False, rngs=rngs)
        self.stem = conv(3, 8, (3, 3), padding=1)
        self.layer1 = Layer(8, rngs, norm)
        self.layer2 = Layer(12, rngs, norm)
        self.transition = conv(16, 8, (1, 1))
        self.layer3 = Layer(8, rngs, norm)
        self.norm = norm(12)
        self.fc = nnx.Linear(12, 10, rngs=rngs)
        self.count_padding = count_padding

    def __call__(self, x, train):
        x = self.layer2(self.layer1(self.stem(x), train), train)
        x = linen.avg_pool(
            self.transition(x),
            (3, 3),
            (2, 2),
            PADDING,
            count_include_pad=self.count_padding,
        )
        x = nnx.relu(self.norm(self.layer3(x, train), train))
        return self.fc(x.mean((1, 2)))


def make(**switches: Any) -> parity.Pair:
    apply, to_flax = nnx_pair(partial(Net, **switches))
    return parity.Pair(
        "densenet",
        TorchNet,
        apply,
        to_flax,
        example_inputs=normal(6, 3, 10, 10),
        channels_last=True,
    )
