"""Inverted residuals with ReLU6 (Sandler et al. 2018), in Linen under automatic names."""

from functools import partial
from typing import Any

import flax.linen as linen
import torch
from torch import nn

import parity
from planted.nets.data import normal
from planted.nets.flax_layers import BatchNorm, apply_linen, to_linen

STYLE = "linen, automatic names"


class TorchBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 2):
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU6()
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.bn1(self.expand(x)))
        y = self.act(self.bn2(self.depthwise(y)))
        y = self.bn3(self.project(y))
        return x + y if self.residual else y


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.act = nn.ReLU6()
        self.block1 = TorchBlock(8, 12, 2)
        self.block2 = TorchBlock(12, 12, 1)
        self.classifier = nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.bn(self.stem(x)))
        x = self.block2(self.block1(x))
        return self.classifier(x.mean((2, 3)))


NAMES = {
    "stem": "Conv_0",
    "bn": "BatchNorm_0",
    "classifier": "Dense_0",
    "block1": "InvertedResidual_0",
    "block2": "InvertedResidual_1",
    "expand": "Conv_0",
    "bn1": "BatchNorm_0",
    "depthwise": "Conv_1",
    "bn2": "BatchNorm_1",
    "project": "Conv_2",
    "bn3": "BatchNorm_2",
}


class InvertedResidual(linen.Module):
    features: int
    stride: int
    train: bool
    eps: float = 1e-5
    act: Any = linen.relu6
    padding: Any = ((1, 1), (1, 1))

    @linen.compact
    def __call__(self, x):
        hidden = 2 * x.shape[-1]
        norm = partial(BatchNorm, self.train, eps=self.eps)
        y = self.act(norm()(linen.Conv(hidden, (1, 1), use_bias=False)(x)))
        y = linen.Conv(
            hidden,
            (3, 3),
            self.stride,
            self.padding,
            feature_group_count=hidden,
            use_bias=False,
        )(y)
        y = self.act(norm()(y))
        y = norm()(linen.Conv(self.features, (1, 1), use_bias=False)(y))
        same = self.stride == 1 and x.shape[-1] == self.features
        return x + y if same else y


class Net(linen.Module):
    train: bool
    switches: Any = None

    @linen.compact
    def __call__(self, x):
        given = dict(self.switches or {})
        eps, act = given.get("eps", 1e-5), given.get("act", linen.relu6)
        x = linen.Conv(8, (3, 3), 2, ((1, 1), (1, 1)), use_bias=False)(x)
        x = act(BatchNorm(self.train, eps=eps)(x))
        x = InvertedResidual(12, 2, self.train, **given)(x)
        x = InvertedResidual(12, 1, self.train, **given)(x)
        return linen.Dense(10)(x.mean((1, 2)))


def apply(variables, x, train: bool = False, *, switches: Any = None):
    net = Net(train, tuple((switches or {}).items()))
    return apply_linen(net, variables, x, train=train)


def to_flax(state):
    return to_linen(state, lambda module: ".".join(NAMES[part] for part in module.split(".")))


def make(**switches: Any) -> parity.Pair:
    return parity.Pair(
        "mobilenet_v2",
        TorchNet,
        partial(apply, switches=switches),
        to_flax,
        example_inputs=normal(6, 3, 16, 16, scale=4.0),
        channels_last=True,
    )
