"""Large maps: sums over many terms, values at which ReLU and max-pool have ties."""

import flax.linen as linen
import jax
import torch
from torch import nn

import parity
from correct import common
from correct.common import blocky, integers, linear, normal
from correct.plain_convnets import conv, max_pool
from parity import tap


class Sums(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(torch.tanh(self.conv2(torch.tanh(self.conv1(x)))).mean((2, 3)))


def large_sums(seed: int) -> parity.Pair:
    """Gradients by biases that are sums over 8 maps of 64x64, 16 channels."""

    def apply(p, x):
        x = jax.numpy.tanh(tap("conv1", conv(p, "conv1", x, padding=1, layout="NHWC")))
        x = jax.numpy.tanh(tap("conv2", conv(p, "conv2", x, layout="NHWC")))
        return x.mean((1, 2)) @ p["fc.weight"] + p["fc.bias"]

    return parity.Pair(
        "large sums",
        Sums,
        apply,
        common.with_kernels,
        example_inputs=normal(seed, 8, 3, 64, 64),
        labels=integers(seed, 10, 8),
        channels_last=True,
        optimizer=common.adam(),
    )


class Kinks(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, 2, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(self.conv2(self.conv1(x).relu()).relu().mean((2, 3)))


def relu_ties(seed: int) -> parity.Pair:
    """Blocks of zeros and no bias: ReLU is met at exactly zero over large areas."""

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(8, (3, 3), use_bias=False, name="conv1")(x))
            x = linen.relu(linen.Conv(8, (3, 3), 2, padding=1, name="conv2")(x))
            return linen.Dense(10, name="fc")(x.mean((1, 2)))

    net = Net()
    return parity.Pair(
        "ReLU at zero",
        Kinks,
        lambda variables, x: net.apply(variables, x),
        common.by_names,
        example_inputs=blocky(seed, 8, 1, 64, 64),
        labels=integers(seed, 10, 8),
        channels_last=True,
    )


class Pools(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.pool, self.fc = nn.MaxPool2d(3, 2, 1), nn.Linear(6, 10)

    def forward(self, x):
        x = self.pool(self.conv1(x))
        return self.fc(self.pool(self.conv2(x).relu()).mean((2, 3)))


def pool_ties(seed: int) -> parity.Pair:
    """Overlapping padded windows over equal values: the first of them has the gradient."""

    def apply(p, x):
        x = tap("pool", max_pool(conv(p, "conv1", x, padding=1), 3, 2, 1))
        x = tap("pool", max_pool(jax.nn.relu(conv(p, "conv2", x, padding=1)), 3, 2, 1))
        return linear(p, "fc", x.mean((2, 3)))

    return parity.Pair(
        "ties in max-pool",
        Pools,
        apply,
        common.as_they_are,
        example_inputs=blocky(seed, 8, 3, 48, 48),
        labels=integers(seed, 10, 8),
    )
