"""Planted bugs of activations and pooling."""

# pyright: reportArgumentType=false, reportIndexIssue=false

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_impl.models import resnet, simple_cnn
from jax_impl.ops import pooling
from mutants import pairs
from mutants.catalogue.common import basic, mutant
from parity.pairs.pair import Batch, Pair


def activation(patch: Any, function: Callable) -> None:
    patch.setattr(simple_cnn.jax.nn, "relu", function)


@mutant("activation", pairs.cnn, "forward", "conv2", "relu is missing")
def no_relu(patch, make):
    activation(patch, lambda x: x)
    return make()


@mutant("activation", pairs.cnn, "forward", "conv2", "leaky")
def leaky_relu(patch, make):
    activation(patch, jax.nn.leaky_relu)
    return make()


@mutant("activation", pairs.cnn, "forward", "conv2", "silu")
def silu(patch, make):
    activation(patch, jax.nn.silu)
    return make()


@mutant("activation", pairs.mlp, "forward", "act", "gelu by tanh")
def gelu_by_tanh(patch, make):
    return pairs.mlp(approximate=True)


@mutant("activation", pairs.mlp, "forward", "drop", "dropout is left on")
def dropout_in_eval_mode(patch, make):
    return pairs.mlp(drop=True)


@mutant("pooling", pairs.cnn, "forward", "conv2", "average pooling")
def average_pooling(patch, make):
    def pool(images, window, stride, padding=0):
        del padding
        total = lax.reduce_window(
            images, jnp.zeros((), images.dtype), lax.add,
            (1, window, window, 1), (1, stride, stride, 1), "VALID",
        )  # fmt: skip
        return total / window**2

    patch.setattr(pooling, "max_pool2d", pool)
    return make()


def blocky_13(pair: Pair) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [
        Batch(rng.integers(0, 256, (8, 13, 13, 3), np.uint8), rng.integers(0, 10, 8))
        for _ in range(3)
    ]


@mutant("pooling", partial(pairs.cnn, 13), "forward", "conv2", "ceil mode is on", batches=blocky_13)
def ceil_mode(patch, make):
    pool = pooling.max_pool2d

    def ceiled(images, window, stride, padding=0):
        if images.shape[1] % 2 and images.shape[1] > 7:
            images = jnp.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-jnp.inf)
        return pool(images, window, stride, padding)

    patch.setattr(pooling, "max_pool2d", ceiled)
    return make()


@mutant("pooling", basic, "forward", "layer1.0.conv1", "the window is 2")
def smaller_window(patch, make):
    pool = pooling.max_pool2d

    def smaller(images, window, stride, padding=0):
        del window, padding
        return pool(images, 2, stride, 0)

    patch.setattr(pooling, "max_pool2d", smaller)
    return make()


@mutant("pooling", basic, "forward", "layer1.0.conv1", "'SAME'")
def same_pooling(patch, make):
    pool = pooling.max_pool2d

    def after(images, window, stride, padding=0):
        del padding
        padded = jnp.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-jnp.inf)
        return pool(padded, window, stride, 0)

    patch.setattr(pooling, "max_pool2d", after)
    return make()


def global_pool(patch: Any, change: Callable) -> None:
    """Changes the average before the last layer."""

    def call(self, x, train):
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        x = pooling.max_pool2d(x, 3, 2, 1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, stage)(x, train)
        return self.fc(change(x))

    patch.setattr(resnet.ResNet, "__call__", call)


def larger(pair: Pair) -> list[Batch]:
    """Images whose last map has more than one pixel."""
    rng = np.random.default_rng(1)
    return [
        Batch(rng.integers(0, 256, (4, 64, 64, 3), np.uint8), rng.integers(0, 10, 4))
        for _ in range(3)
    ]


@mutant("pooling", basic, "forward", "fc", "maximum in the place of", batches=larger)
def global_maximum(patch, make):
    global_pool(patch, lambda x: x.max((1, 2)))
    return make()


@mutant("pooling", basic, "forward", "fc", "the sum in the place of", batches=larger)
def global_sum(patch, make):
    global_pool(patch, lambda x: x.sum((1, 2)))
    return make()
