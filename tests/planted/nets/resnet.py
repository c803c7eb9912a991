"""ResNet of two BasicBlocks (He et al. 2015), in NNX, trained with smoothed labels."""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn
from torch.nn import functional as F

import parity
from planted.nets.data import initialiser, normal
from planted.nets.flax_layers import NNXBatchNorm, nnx_pair

STYLE = "nnx"


class TorchBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut = self.shortcut_bn = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None and self.shortcut_bn is not None:
            x = self.shortcut_bn(self.shortcut(x))
        return self.relu(x + y)


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.block1 = TorchBlock(8, 8, 1)
        self.block2 = TorchBlock(8, 16, 2)
        self.fc = nn.Linear(16, 10)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
            elif name.endswith("bn2.weight"):
                nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(self.relu(self.bn(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


class Block(nnx.Module):
    def __init__(self, inputs, outputs, stride, rngs, stride_second=False):
        conv = partial(nnx.Conv, use_bias=False, rngs=rngs)
        strides = (1, stride) if stride_second else (stride, 1)
        self.conv1 = conv(inputs, outputs, (3, 3), strides[0], padding=1)
        self.bn1 = NNXBatchNorm(outputs)
        self.conv2 = conv(outputs, outputs, (3, 3), strides[1], padding=1)
        self.bn2 = NNXBatchNorm(outputs)
        self.projected = stride != 1 or inputs != outputs
        if self.projected:
            self.shortcut = conv(inputs, outputs, (1, 1), stride)
            self.shortcut_bn = NNXBatchNorm(outputs)

    def __call__(self, x, train):
        y = nnx.relu(self.bn1(self.conv1(x), train))
        y = self.bn2(self.conv2(y), train)
        if self.projected:
            x = self.shortcut_bn(self.shortcut(x), train)
        return nnx.relu(x + y)


class Net(nnx.Module):
    def __init__(self, **switches):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 8, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.bn = NNXBatchNorm(8)
        self.block1 = Block(8, 8, 1, rngs, **switches)
        self.block2 = Block(8, 16, 2, rngs, **switches)
        self.fc = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x, train):
        x = nnx.relu(self.bn(self.stem(x), train))
        x = self.block2(self.block1(x, train), train)
        return self.fc(x.mean((1, 2)))


def smoothed(logits, labels, smoothing: float = 0.1):
    targets = optax.smooth_labels(jnp.eye(10, dtype=logits.dtype)[labels], smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()


def draw(rng, name, shape, shapes, fan: str = "out") -> np.ndarray:
    """torchvision's: He's normal of fan_out, the blocks' last scale 0."""
    if len(shape) == 4:
        count = shape[0] if fan == "out" else shape[1]
        return rng.normal(0, math.sqrt(2 / (count * math.prod(shape[2:]))), shape)
    if name.startswith("fc"):
        bound = 1 / math.sqrt(shapes["fc.weight"][1])
        return rng.uniform(-bound, bound, shape)
    if name.endswith("bn2.weight"):
        return np.zeros(shape)
    return np.full(shape, float(name.endswith("weight")))


def make(rule: Any = draw, smoothing: float = 0.1, **switches: Any):
    """`rule` of the initial weights, `switches` of the JAX net."""
    apply, to_flax = nnx_pair(partial(Net, **switches))
    return parity.Pair(
        "resnet",
        TorchNet,
        apply,
        to_flax,
        example_inputs=normal(6, 3, 12, 12),
        channels_last=True,
        init=initialiser(TorchNet, rule, to_flax),
        loss=parity.Loss(
            partial(F.cross_entropy, label_smoothing=0.1), partial(smoothed, smoothing=smoothing)
        ),
    )
