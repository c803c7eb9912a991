"""Faults at several places: GELU by tanh and another eps of LayerNorm, with and without names."""

import jax
import jax.numpy as jnp
import torch
from correct.common import as_they_are, batch_norm, linear, normal
from correct.plain_convnets import conv
from torch import nn

import parity

WIDTH = 8


class Block(nn.Module):
    """A convolution with BatchNorm, then attention and an MLP over its pixels, as in MaxViT."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, 2, 1)
        self.bn, self.act1 = nn.BatchNorm2d(WIDTH, eps=1e-3, momentum=0.01), nn.GELU()
        self.norm1, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.merge, self.norm2 = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.fc1, self.act2, self.fc2 = nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x):
        x = self.act1(self.bn(self.stem(x))).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.merge(torch.softmax(q @ k.transpose(1, 2) / WIDTH**0.5, -1) @ v)
        x = x + self.fc2(self.act2(self.fc1(self.norm2(x))))
        return self.head(x.mean(1))


def block(approximate=False, eps=1e-5, named=True):
    """`approximate` and `eps` of both GELUs and LayerNorms in JAX."""
    tap = parity.tap if named else lambda _, value: value

    def dense(p, name, x):
        return tap(name, linear(p, name, x))

    def norm(p, name, x):
        centred = x - x.mean(-1, keepdims=True)
        y = centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)
        return tap(name, y * p[f"{name}.weight"] + p[f"{name}.bias"])

    def apply(p, x, train):
        x = tap("stem", conv(p, "stem", x, stride=2, padding=1))
        x, new = batch_norm(p, "bn", x, train, momentum=0.01, eps=1e-3)
        x = tap("act1", jax.nn.gelu(tap("bn", x), approximate=approximate))
        x = x.reshape(*x.shape[:2], -1).swapaxes(1, 2)
        q, k, v = jnp.split(dense(p, "qkv", norm(p, "norm1", x)), 3, -1)
        attended = jax.nn.softmax(q @ k.swapaxes(1, 2) / WIDTH**0.5) @ v
        x = x + dense(p, "merge", attended)
        y = jax.nn.gelu(dense(p, "fc1", norm(p, "norm2", x)), approximate=approximate)
        x = x + dense(p, "fc2", tap("act2", y))
        return dense(p, "head", x.mean(1)), {**p, **new}

    x = normal(0, 4, 3, 12, 12)
    return parity.Pair("block", Block, apply, as_they_are, example_inputs=x)


class Activations(nn.Module):
    def __init__(self, count):
        super().__init__()
        layers = (layer for _ in range(count) for layer in (nn.Linear(6, 6), nn.GELU()))
        self.net = nn.Sequential(*layers, nn.Linear(6, 3))

    def forward(self, x):
        return self.net(x)


def gelus(count):
    """GELU by tanh after each of so many layers, and no inner names."""

    def apply(p, x):
        for i in range(count):
            x = jax.nn.gelu(linear(p, f"net.{2 * i}", x))
        return linear(p, f"net.{2 * count}", x)

    x = normal(0, 6, 6)
    return parity.Pair("GELUs", lambda: Activations(count), apply, as_they_are, example_inputs=x)
