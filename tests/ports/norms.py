"""Norms: biases before them, Flax's own statistics, upcasts, and variances in one pass."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from correct.common import as_they_are, batch_norm, by_names, linear, normal, with_statistics
from correct.plain_convnets import ConvBiasNorm, conv
from jax import lax
from torch import nn

import parity


def biases_before_norms(size):
    """The gradients by the convolutions' biases are zero, but for rounding."""

    def apply(p, x, train):
        new = dict(p)
        for i in "12":
            x, statistics = batch_norm(p, f"b{i}", conv(p, f"c{i}", x, padding=1), train)
            x = jax.nn.relu(x)
            new |= statistics
        return linear(p, "fc", x.mean((2, 3))), new

    x = normal(0, 4, 3, size, size)
    return parity.Pair("conv, bias, BatchNorm", ConvBiasNorm, apply, as_they_are, example_inputs=x)


class Normed(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(6, 8, bias), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.bn(self.fc1(x)).relu())


class FlaxNormed(linen.Module):
    momentum: float
    bias: bool

    @linen.compact
    def __call__(self, x, train):
        x = linen.Dense(8, use_bias=self.bias, name="fc1")(x)
        x = linen.BatchNorm(not train, momentum=self.momentum, name="bn")(x)
        return linen.Dense(3, name="fc2")(linen.relu(x))


def linen_norm(momentum=0.9, bias=True, **fields):
    """Linen's BatchNorm, which stores the variance of n; its default momentum is 0.99."""
    return parity.Pair(
        "linen.BatchNorm",
        lambda: Normed(bias),
        with_statistics(FlaxNormed(momentum, bias)),
        by_names,
        example_inputs=normal(0, 16, 6),
        **fields,
    )


class Llama(nn.Module):
    """An RMSNorm in float32."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


class Upcast(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm, self.fc = norm(), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.norm(x))


def upcast(norm):
    """JAX computes the norm in float32."""

    def apply(p, x):
        y = x.astype(jnp.float32)
        y = y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-6)
        return linear(p, "fc", parity.tap("norm", p["norm.weight"] * y.astype(x.dtype)))

    x = normal(0, 6, 6)
    return parity.Pair("RMSNorm", lambda: Upcast(norm), apply, as_they_are, example_inputs=x)


def upcast_on_both_sides():
    return upcast(Llama)


def upcast_in_jax():
    return upcast(lambda: nn.RMSNorm(6, eps=1e-6))


class Shifted(nn.Module):
    """A norm of the inputs themselves: maps [n, 8, h, w], or vectors for LayerNorm."""

    def __init__(self, kind):
        super().__init__()
        makers = {
            "layer": lambda: nn.LayerNorm(32),
            "batch": lambda: nn.BatchNorm2d(8),
            "group": lambda: nn.GroupNorm(2, 8),
        }
        self.norm, self.fc = makers[kind](), nn.Linear(32 if kind == "layer" else 8, 5)

    def forward(self, x):
        y = self.norm(x)
        return self.fc(y.mean((2, 3)) if y.ndim == 4 else y)


class FlaxShifted(linen.Module):
    kind: str
    fast: bool

    @linen.compact
    def __call__(self, x, train):
        options = {"epsilon": 1e-5, "use_fast_variance": self.fast, "name": "norm"}
        if self.kind == "layer":
            x = linen.LayerNorm(**options)(x)
        elif self.kind == "group":
            x = linen.GroupNorm(2, **options)(x)
        else:
            x = linen.BatchNorm(not train, momentum=0.9, **options)(x)
        return linen.Dense(5, name="fc")(x.mean((1, 2)) if x.ndim == 4 else x)


def shifted(kind, mean, fast=True):
    """Inputs of a large mean; in one pass the variance is the mean of squares less a square."""
    shape = (8, 32) if kind == "layer" else (8, 8, 6, 6)
    return parity.Pair(
        f"{kind} norm at {mean}",
        lambda: Shifted(kind),
        with_statistics(FlaxShifted(kind, fast)),
        by_names,
        example_inputs=normal(0, *shape) + mean,
        channels_last=True,
        accept=("biased running variance",),
    )
