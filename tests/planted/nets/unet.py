"""A small U-Net (Ronneberger et al. 2015), as a plain function with taps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch
from torch import nn
from torch.nn import functional as F

import parity
from parity import tap
from planted.nets.data import integers, normal
from planted.nets.functional import as_arrays, conv, conv_transpose, max_pool
from planted.nets.resizing import bilinear

STYLE = "function with taps"


class TorchNet(nn.Module):
    def __init__(self, up: str = "transposed"):
        super().__init__()
        self.enc1 = nn.Conv2d(2, 8, 3, padding=1)
        self.enc2 = nn.Conv2d(8, 8, 3, padding=1)
        if up == "transposed":
            self.up = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=up == "corners")
        self.dec = nn.Conv2d(16, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = F.relu(self.enc1(x))
        x = F.relu(self.enc2(F.max_pool2d(skip, 2)))
        x = torch.cat([skip, self.up(x)], 1)
        return self.out(F.relu(self.dec(x)))


def apply(v, x, *, up: Any):
    skip = jax.nn.relu(tap("enc1", conv(v, "enc1", x, padding=1)))
    x = jax.nn.relu(tap("enc2", conv(v, "enc2", max_pool(skip, 2, 2), padding=1)))
    raised = tap("up", up(v, x))
    x = jnp.concatenate([skip, raised], 1)
    x = jax.nn.relu(tap("dec", conv(v, "dec", x, padding=1)))
    return tap("out", conv(v, "out", x))


def transposed(v, x, *, flip: bool = True, extra_first: bool = False):
    return conv_transpose(
        v,
        "up",
        x,
        stride=2,
        padding=1,
        output_padding=1,
        flip=flip,
        extra_first=extra_first,
    )


def resized(v, x, *, align_corners: bool = False):
    return bilinear(x, (2 * x.shape[2], 2 * x.shape[3]), align_corners=align_corners)


def loss(logits, labels):
    logits = jnp.moveaxis(logits, 1, -1)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def make(torch_up: str = "transposed", up: Any = None) -> parity.Pair:
    if up is None:
        up = transposed
        if torch_up != "transposed":
            up = partial(resized, align_corners=torch_up == "corners")
    return parity.Pair(
        "unet",
        partial(TorchNet, torch_up),
        partial(apply, up=up),
        as_arrays,
        example_inputs=normal(4, 2, 12, 12),
        labels=integers(3, 4, 12, 12),
        loss=parity.Loss(F.cross_entropy, loss),
    )
