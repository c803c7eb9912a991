"""Convolutional nets whose JAX side is NNX."""

import jax
from flax import nnx
from torch import nn

import parity
from correct import common
from correct.common import NnxBatchNorm, integers, nnx_state, normal


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.layer1(self.bn1(self.conv1(x)).relu()).mean((2, 3)))


def conv(inputs, outputs, size, stride, rngs):
    padding = size // 2
    return nnx.Conv(
        inputs, outputs, (size, size), stride, padding=padding, use_bias=False, rngs=rngs
    )


class NnxBlock(nnx.Module):
    def __init__(self, inputs, outputs, stride, rngs):
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride, rngs), NnxBatchNorm(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3, 1, rngs), NnxBatchNorm(outputs)
        down = [conv(inputs, outputs, 1, stride, rngs), NnxBatchNorm(outputs)] if stride > 1 else []
        self.downsample = nnx.List(down)

    def __call__(self, x, train):
        y = nnx.relu(self.bn1(self.conv1(x), train))
        y = self.bn2(self.conv2(y), train)
        if len(self.downsample):
            x = self.downsample[1](self.downsample[0](x), train)
        return nnx.relu(x + y)


class NnxResNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1, self.bn1 = conv(3, 8, 3, 1, rngs), NnxBatchNorm(8)
        self.layer1 = nnx.List([NnxBlock(8, 8, 1, rngs), NnxBlock(8, 16, 2, rngs)])
        self.fc = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x, train):
        x = nnx.relu(self.bn1(self.conv1(x), train))
        for block in self.layer1:
            x = block(x, train)
        return self.fc(x.mean((1, 2)))


def resnet(seed: int) -> parity.Pair:
    """Basic blocks, one with a downsample; SGD with momentum."""
    graph, like = nnx.split(NnxResNet(nnx.Rngs(0)))

    def apply(state, x, train):
        net = nnx.merge(graph, state)
        return net(x, train), nnx.state(net)

    return parity.Pair(
        "ResNet",
        ResNet,
        apply,
        lambda state: nnx_state(like, state),
        example_inputs=normal(seed, 4, 3, 32, 32),
        labels=integers(seed, 10, 4),
        channels_last=True,
        optimizer=common.sgd_momentum(),
    )


class Groups(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, 2, 1), nn.GroupNorm(4, 8)
        self.act, self.fc = nn.SiLU(), nn.Linear(8, 10)

    def forward(self, x):
        x = self.act(self.norm1(self.conv1(x)))
        return self.fc(self.act(self.norm2(self.conv2(x))).mean((2, 3)))


class NnxGroups(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 8, (3, 3), padding=1, rngs=rngs)
        self.norm1 = nnx.GroupNorm(8, 2, epsilon=1e-5, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), 2, padding=1, rngs=rngs)
        self.norm2 = nnx.GroupNorm(8, 4, epsilon=1e-5, rngs=rngs)
        self.fc = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.silu(self.norm1(self.conv1(x)))
        return self.fc(jax.nn.silu(self.norm2(self.conv2(x))).mean((1, 2)))


def group_norm(seed: int) -> parity.Pair:
    """GroupNorm as NNX has it, with its one-pass variance; SiLU; AdamW."""
    graph, like = nnx.split(NnxGroups(nnx.Rngs(0)))
    return parity.Pair(
        "GroupNorm",
        Groups,
        lambda state, x: nnx.merge(graph, state)(x),
        lambda state: nnx_state(like, state),
        example_inputs=normal(seed, 4, 3, 40, 40),
        labels=integers(seed, 10, 4),
        channels_last=True,
        optimizer=common.adamw(),
    )
