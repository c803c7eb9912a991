"""Planted bugs of residual blocks."""

# pyright: reportArgumentType=false, reportIndexIssue=false

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_impl.models import cifar_resnet, layers, resnet
from mutants import pairs
from mutants.catalogue.common import basic, mutant, when


def block(patch: Any, call: Callable) -> None:
    patch.setattr(resnet.BasicBlock, "__call__", call)


@mutant("residual block", basic, "forward", "layer1.0", "shortcut is missing")
def no_shortcut(patch, make):
    def call(self, x, train):
        if self.downsample is not None:
            self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train))

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer1.0", "ReLU comes before the addition")
def relu_before_the_addition(patch, make):
    def call(self, x, train):
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train)) + shortcut

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer1.0", "relu is missing")
def no_relu_after_the_addition(patch, make):
    def call(self, x, train):
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return self.bn2(self.conv2(x), train) + shortcut

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer1.0.conv2", "relu is missing")
def no_relu_within_the_block(patch, make):
    def call(self, x, train):
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = self.bn1(self.conv1(x), train)
        return jax.nn.relu(self.bn2(self.conv2(x), train) + shortcut)

    block(patch, call)
    return make()


@mutant("residual block", basic, "forward", "layer2.0.downsample.1", "normalisation is missing")
def projection_without_norm(patch, make):
    when(
        lambda self: getattr(self, "silent", False),
        lambda self, original, x, train: x,
        layers.BatchNorm2d,
        patch,
    )
    create = layers.Sequential.__init__

    def silenced(self, *modules):
        create(self, *modules)
        if len(modules) == 2 and isinstance(modules[0], layers.Conv2d):
            modules[1].silent = True

    patch.setattr(layers.Sequential, "__init__", silenced)
    return make()


@mutant("residual block", pairs.option_a, "forward", "layer2.0", "comes after")
def option_a_zeros_after(patch, make):
    pad = jnp.pad

    def after(x, border, *args, **kwargs):
        border = [tuple(pair) for pair in border] if not isinstance(border, int) else border
        if len(border) == 4 and border[3] != (0, 0):
            border = [*border[:3], (0, sum(border[3]))]
        return pad(x, border, *args, **kwargs)

    patch.setattr(cifar_resnet.jnp, "pad", after)
    return make()
