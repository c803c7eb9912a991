"""Hard-swish, squeeze and excitation (Howard et al. 2019), in NNX; images are uint8."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

import parity
from planted.nets.data import integers
from planted.nets.flax_layers import NNXBatchNorm, nnx_pair

STYLE = "nnx"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchSE(nn.Module):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.fc2(self.relu(self.fc1(scale))))


class TorchBlock(nn.Module):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.se = TorchSE(hidden, 4)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.bn1(self.expand(x)))
        y = self.se(self.act(self.bn2(self.depthwise(y))))
        return x + self.bn3(self.project(y))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.act = nn.Hardswish()
        self.block1 = TorchBlock(8, 16)
        self.block2 = TorchBlock(8, 16)
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(self.act(self.bn(self.stem(x)))))
        return self.fc2(self.act(self.fc1(x.mean((2, 3)))))


def hard_sigmoid_of_keras(x: jax.Array) -> jax.Array:
    return jnp.clip(0.2 * x + 0.5, 0, 1)


def hard_sigmoid(x: jax.Array) -> jax.Array:
    return jnp.clip(x + 3, 0, 6) / 6


def hard_swish(x: jax.Array) -> jax.Array:
    return x * hard_sigmoid(x)


class SE(nnx.Module):
    def __init__(self, channels, hidden, rngs, gate=hard_sigmoid, detached=False):
        self.fc1 = nnx.Conv(channels, hidden, (1, 1), rngs=rngs)
        self.fc2 = nnx.Conv(hidden, channels, (1, 1), rngs=rngs)
        self.gate, self.detached = gate, detached

    def __call__(self, x):
        scale = x.mean((1, 2), keepdims=True)
        if self.detached:
            scale = jax.lax.stop_gradient(scale)
        return x * self.gate(self.fc2(nnx.relu(self.fc1(scale))))


class Block(nnx.Module):
    def __init__(self, channels, hidden, rngs, act=hard_swish, eps=1e-5, **se):
        conv = partial(nnx.Conv, use_bias=False, rngs=rngs)
        self.expand = conv(channels, hidden, (1, 1))
        self.bn1 = NNXBatchNorm(hidden, eps)
        self.depthwise = conv(hidden, hidden, (5, 5), padding=2, feature_group_count=hidden)
        self.bn2 = NNXBatchNorm(hidden, eps)
        self.se = SE(hidden, 4, rngs, **se)
        self.project = conv(hidden, channels, (1, 1))
        self.bn3 = NNXBatchNorm(channels, eps)
        self.act = act

    def __call__(self, x, train):
        y = self.act(self.bn1(self.expand(x), train))
        y = self.se(self.act(self.bn2(self.depthwise(y), train)))
        return x + self.bn3(self.project(y), train)


class Net(nnx.Module):
    def __init__(self, act=hard_swish, eps=1e-5, **se):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 8, (3, 3), 2, padding=1, use_bias=False, rngs=rngs)
        self.bn = NNXBatchNorm(8, eps)
        self.block1 = Block(8, 16, rngs, act, eps, **se)
        self.block2 = Block(8, 16, rngs, act, eps, **se)
        self.fc1 = nnx.Linear(8, 16, rngs=rngs)
        self.fc2 = nnx.Linear(16, 10, rngs=rngs)
        self.act = act

    def __call__(self, x, train):
        x = self.act(self.bn(self.stem(x), train))
        x = self.block2(self.block1(x, train), train)
        return self.fc2(self.act(self.fc1(x.mean((1, 2)))))


def torch_inputs(images: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(np.array(images)).double() / 255
    x = (x - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    return x.permute(0, 3, 1, 2)


def jax_inputs(images, dtype, mean=MEAN, std=STD, bgr: bool = False) -> jax.Array:
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    x = (jnp.asarray(images).astype(dtype) / 255 - mean) / std
    return x[..., ::-1] if bgr else x


def make(inputs: Any = None, **switches: Any) -> parity.Pair:
    """`inputs`: of the JAX side's normalisation."""
    apply, to_flax = nnx_pair(partial(Net, **switches))
    return parity.Pair(
        "mobilenet_v3",
        TorchNet,
        apply,
        to_flax,
        example_inputs=integers(256, 6, 16, 16, 3).astype(np.uint8),
        channels_last=True,
        jax_inputs=partial(jax_inputs, **(inputs or {})),
        torch_inputs=torch_inputs,
    )
