"""A port whose modules are not called as PyTorch's, or as another one of PyTorch's."""

from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
from correct import common
from correct.common import normal
from torch import nn

import parity

RENAMED = {
    "conv": "Conv_0",
    "bn": "BatchNorm_0",
    "layer1.conv": "layer0.Conv_0",
    "layer1.bn": "layer0.BatchNorm_0",
    "layer2.conv": "layer1.Conv_0",
    "layer2.bn": "layer1.BatchNorm_0",
    "fc": "Dense_0",
}
"""PyTorch's names, and JAX's: its `layer1` is PyTorch's `layer2`."""


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2 = Block(4, 4, 1), Block(4, 6, 2)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.layer1(self.pool(self.bn(self.conv(x)).relu()))
        return self.fc(self.layer2(x).mean((2, 3)))


class FlaxBlock(linen.Module):
    features: int
    stride: int
    padding: Any

    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(self.features, (3, 3), self.stride, padding=self.padding, use_bias=False)(x)
        return linen.relu(linen.BatchNorm(not train, momentum=0.9, axis_name="batch")(x))


class FlaxNet(linen.Module):
    padding: Any
    pool: Any

    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(4, (3, 3), padding=1, use_bias=False)(x)
        x = linen.relu(linen.BatchNorm(not train, momentum=0.9, axis_name="batch")(x))
        x = linen.max_pool(x, (3, 3), strides=(2, 2), padding=self.pool)
        x = FlaxBlock(4, 1, 1, name="layer0")(x, train)
        x = FlaxBlock(6, 2, self.padding, name="layer1")(x, train)
        return linen.Dense(5)(x.mean((1, 2)))


def of_its_own(padding: Any = 1, pool=((1, 1), (1, 1))):
    """A convnet under names of Linen's own, trained on an axis of devices, which are one."""
    net = FlaxNet(padding, pool)

    def apply(variables, x, train):
        if not train:
            return net.apply(variables, x, False)

        def on_a_device(x):
            return net.apply(variables, x, True, mutable=["batch_stats"])

        y, new = jax.vmap(on_a_device, axis_name="batch")(x[None])
        return jnp.squeeze(y, 0), {**variables, **jax.tree.map(lambda leaf: leaf[0], new)}

    return parity.Pair(
        "names of its own",
        Net,
        apply,
        lambda state: common.by_names(state, RENAMED),
        example_inputs=normal(0, 4, 3, 16, 16),
        channels_last=True,
    )
