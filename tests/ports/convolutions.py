"""Padding 'SAME' with strides, and transposed convolutions."""

from typing import Any

import flax.linen as linen
import jax.numpy as jnp
import torch
from correct import common
from correct.common import by_names, integers, normal
from torch import nn
from torch.nn import functional as F

import parity


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.maxpool = nn.Conv2d(3, 6, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(self.maxpool(self.conv1(x)).mean((2, 3)))


class FlaxStem(linen.Module):
    conv: Any
    pool: Any
    named: bool

    @linen.compact
    def __call__(self, x):
        names = ("conv1", "fc") if self.named else (None, None)
        x = linen.Conv(6, (7, 7), 2, padding=self.conv, use_bias=False, name=names[0])(x)
        x = linen.max_pool(x, (3, 3), (2, 2), padding=self.pool)
        x = parity.tap("maxpool", x) if self.named else x
        return linen.Dense(5, name=names[1])(x.mean((1, 2)))


def stem(conv: Any = 3, pool: Any = ((1, 1), (1, 1)), named=True):
    """A ResNet's stem; 'SAME' in the place of PyTorch's symmetric padding is a bug."""
    automatic = {"conv1": "Conv_0", "fc": "Dense_0"}
    return parity.Pair(
        "stem",
        Stem,
        FlaxStem(conv, pool, named).apply,
        lambda state: by_names(state, None if named else automatic),
        example_inputs=normal(0, 4, 3, 24, 24),
        channels_last=True,
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up, self.pool, self.out = (
            nn.ConvTranspose2d(8, 6, 2, 2),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 4, 1),
        )

    def forward(self, x):
        a = self.c1(x).relu()
        return self.out(torch.cat([a, self.up(self.c2(self.pool(a)).relu())], 1))


class FlaxUNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        a = linen.relu(linen.Conv(6, (3, 3), name="c1")(x))
        x = parity.tap("pool", linen.max_pool(a, (2, 2), (2, 2)))
        x = linen.relu(linen.Conv(8, (3, 3), name="c2")(x))
        x = linen.ConvTranspose(6, (2, 2), (2, 2), "VALID", name="up")(x)
        return linen.Conv(4, (1, 1), name="out")(jnp.concatenate([a, x], -1))


def unet(flipped):
    """Linen's ConvTranspose without `transpose_kernel` needs the kernel flipped."""

    def to_flax(state):
        variables = by_names(state)
        kernel = jnp.asarray(state["up.weight"]).transpose(2, 3, 0, 1)
        variables["params"]["up"]["kernel"] = kernel[::-1, ::-1] if flipped else kernel
        return variables

    return parity.Pair(
        "U-Net",
        UNet,
        FlaxUNet().apply,
        to_flax,
        example_inputs=normal(0, 4, 3, 12, 12),
        labels=integers(0, 4, 4, 12, 12),
        loss=parity.Loss(F.cross_entropy, common.token_loss().jax),
        channels_last=True,
    )
