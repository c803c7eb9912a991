"""Convolutional nets whose JAX side is plain functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from torch import nn
from torch.nn import functional as F

import parity
from correct import common
from correct.common import batch_norm, integers, linear, normal
from parity import tap


def conv(p, name, x, stride=1, padding=0, groups=1, layout="NCHW"):
    """A convolution; its kernel is OIHW for maps NCHW and HWIO for NHWC, and alike in 3-d."""
    weight = p[f"{name}.weight"]
    spatial = layout.replace("N", "").replace("C", "")
    kernel = "OI" + spatial if layout[1] == "C" else spatial + "IO"
    rank = len(spatial)
    y = lax.conv_general_dilated(
        x,
        weight,
        (stride,) * rank,
        [(padding, padding)] * rank,
        dimension_numbers=(layout, kernel, layout),
        feature_group_count=groups,
    )
    if f"{name}.bias" not in p:
        return y
    bias = p[f"{name}.bias"]
    return y + (bias.reshape(-1, *[1] * rank) if layout[1] == "C" else bias)


def max_pool(x, size, stride, padding=0, axes=(2, 3)):
    window, strides, pads = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
    for axis in axes:
        window[axis], strides[axis], pads[axis] = size, stride, (padding, padding)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8 * 8 * 8, 10)

    def forward(self, x):
        x = self.pool(self.conv1(x).relu())
        return self.fc(self.pool(self.conv2(x).relu()).flatten(1))


def plain_cnn(seed: int) -> parity.Pair:
    """NHWC with inner names; the linear layer reads maps flattened h, w, c; both sides' Adam."""

    def apply(p, x):
        for name in ("conv1", "conv2"):
            x = jax.nn.relu(tap(name, conv(p, name, x, padding=1, layout="NHWC")))
            x = max_pool(x, 2, 2, axes=(1, 2))
        return tap("fc", x.reshape(len(x), -1) @ p["fc.weight"] + p["fc.bias"])

    def to_flax(state):
        weight = state["fc.weight"].reshape(10, 8, 8, 8).transpose(0, 2, 3, 1).reshape(10, -1)
        return common.with_kernels({**state, "fc.weight": weight})

    def init(number):
        keys = iter(jax.random.split(jax.random.key(number), 6))
        shapes = {k: tuple(v.shape) for k, v in Plain().named_parameters()}
        found = {}
        for name, shape in shapes.items():
            fan_in = np.prod(shapes[name.replace("bias", "weight")][1:])
            bound = 1 / np.sqrt(fan_in)
            found[name] = jax.random.uniform(next(keys), shape, minval=-bound, maxval=bound)
        return to_flax(found)

    return parity.Pair(
        "plain cnn",
        Plain,
        apply,
        to_flax,
        example_inputs=normal(seed, 8, 3, 32, 32),
        labels=integers(seed, 10, 8),
        channels_last=True,
        optimizer=common.adam(),
        init=init,
    )


class ConvBiasNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.b1(self.c1(x)).relu()
        return self.fc(self.b2(self.c2(x)).relu().mean((2, 3)))


def biases_before_batch_norm(seed: int) -> parity.Pair:
    """Twice a convolution's bias that BatchNorm takes away: its gradient is zero; 64x64 maps."""

    def apply(p, x, train):
        new = dict(p)
        for i in "12":
            x, statistics = batch_norm(p, f"b{i}", conv(p, f"c{i}", x, padding=1), train)
            x = jax.nn.relu(x)
            new |= statistics
        return linear(p, "fc", x.mean((2, 3))), new

    return parity.Pair(
        "biases before BatchNorm",
        ConvBiasNorm,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 8, 3, 64, 64),
        labels=integers(seed, 5, 8),
    )


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm, self.conv = (
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, growth, 3, padding=1, bias=False),
        )

    def forward(self, x):
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.dense1 = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4))
        self.reduce = nn.Conv2d(16, 8, 1, bias=False)
        self.dense2 = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4))
        self.norm, self.fc = nn.BatchNorm2d(16), nn.Linear(16, 10)

    def forward(self, x):
        x = F.avg_pool2d(self.reduce(self.dense1(self.stem(x))), 2)
        return self.fc(F.relu(self.norm(self.dense2(x))).mean((2, 3)))


def densenet(seed: int) -> parity.Pair:
    """Every layer's outputs joined to its inputs; no inner names."""

    def apply(p, x, training=False):
        new = dict(p)

        def norm_relu(name, x):
            y, statistics = batch_norm(p, name, x, training)
            new.update(statistics)
            return jax.nn.relu(y)

        def block(name, x):
            for layer in (f"{name}.0", f"{name}.1"):
                y = conv(p, f"{layer}.conv", norm_relu(f"{layer}.norm", x), padding=1)
                x = jnp.concatenate([x, y], 1)
            return x

        x = conv(p, "reduce", block("dense1", conv(p, "stem", x, padding=1)))
        n, c, h, w = x.shape
        x = block("dense2", x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5)))
        return linear(p, "fc", norm_relu("norm", x).mean((2, 3))), new

    return parity.Pair(
        "DenseNet",
        DenseNet,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 4, 3, 32, 32),
        labels=integers(seed, 10, 4),
        optimizer=common.sgd_momentum(),
    )


class Volumes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv3d(1, 6, 3, 2, 1), nn.Conv3d(6, 8, 3, padding=1)
        self.norm, self.fc = nn.BatchNorm3d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.norm(self.conv2(self.conv1(x).relu())).relu().mean((2, 3, 4)))


def conv3d(seed: int) -> parity.Pair:
    """Volumes [n, c, d, h, w] in both frameworks, with inner names."""
    volumes = functools.partial(conv, padding=1, layout="NCDHW")

    def apply(p, x, is_training):
        x = jax.nn.relu(tap("conv1", volumes(p, "conv1", x, stride=2)))
        x, new = batch_norm(p, "norm", tap("conv2", volumes(p, "conv2", x)), is_training)
        return tap("fc", linear(p, "fc", jax.nn.relu(tap("norm", x)).mean((2, 3, 4)))), {**p, **new}

    return parity.Pair(
        "3-d convolutions",
        Volumes,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 4, 1, 12, 16, 16),
        labels=integers(seed, 4, 4),
    )


class HardSwish(nn.Module):
    """A block of MobileNetV3: depthwise, squeeze and excitation, hard activations."""

    def __init__(self):
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish()
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.squeeze, self.excite, self.gate = nn.Linear(8, 4), nn.Linear(4, 8), nn.Hardsigmoid()
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = self.act(self.depthwise(self.act(self.stem(x))))
        gate = self.gate(self.excite(self.squeeze(x.mean((2, 3))).relu()))
        return self.fc(self.act(x * gate[:, :, None, None]).mean((2, 3)))


def hard_swish(seed: int) -> parity.Pair:
    """Hard-swish and hard-sigmoid, whose constant is a float32 in PyTorch."""
    swish, sigmoid = jax.nn.hard_swish, jax.nn.hard_sigmoid

    def apply(p, x):
        x = tap("act", swish(conv(p, "stem", x, stride=2, padding=1)))
        x = tap("act", swish(conv(p, "depthwise", x, padding=2, groups=8)))
        gate = jax.nn.relu(linear(p, "squeeze", x.mean((2, 3))))
        gate = tap("gate", sigmoid(linear(p, "excite", gate)))
        return linear(p, "fc", tap("act", swish(x * gate[:, :, None, None])).mean((2, 3)))

    return parity.Pair(
        "hard-swish",
        HardSwish,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 4, 3, 32, 32),
        labels=integers(seed, 10, 4),
    )
