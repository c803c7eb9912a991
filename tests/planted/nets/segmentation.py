"""Segmentation of an image and its half, resized to the input's size; a function with taps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import parity
from parity import tap
from planted.nets.data import integers, normal
from planted.nets.functional import as_arrays, conv
from planted.nets.resizing import bilinear

STYLE = "function with taps"
IGNORED = 255
WEIGHTS = np.array([0.5, 1.0, 3.0, 2.0])


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.shrink = nn.Upsample(scale_factor=0.5, mode="bilinear", align_corners=False)
        self.fine = nn.Conv2d(3, 8, 3, 2, 1)
        self.coarse = nn.Conv2d(3, 8, 3, 1, 1)
        self.classes = nn.Conv2d(8, 4, 1)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fine(x) + self.coarse(self.shrink(x)))
        return self.resize(self.classes(x))


def apply(v, x, *, resize: Any = bilinear):
    size = x.shape[2], x.shape[3]
    small = tap("shrink", bilinear(x, (size[0] // 2, size[1] // 2)))
    y = tap("fine", conv(v, "fine", x, stride=2, padding=1))
    y = jax.nn.relu(y + tap("coarse", conv(v, "coarse", small, padding=1)))
    return tap("resize", resize(tap("classes", conv(v, "classes", y)), size))


def torch_loss(logits, labels):
    weight = torch.from_numpy(WEIGHTS).to(logits)
    return F.cross_entropy(logits, labels, weight, ignore_index=IGNORED)


def loss(
    logits,
    labels,
    *,
    ignoring: bool = True,
    over: str = "weights",
    weighted: bool = True,
    narrow: Any = None,
):
    """Weighted cross entropy of the labels that are not ignored.

    `over` is what the sum is divided by: "weights" of the counted pixels as PyTorch does, the
    "counted" pixels, or "all".
    """
    if narrow is not None:
        logits = logits.astype(narrow)
    kept = (labels != IGNORED) if ignoring else jnp.ones_like(labels, bool)
    index = jnp.where(labels != IGNORED, labels, 0)
    logs = jax.nn.log_softmax(jnp.moveaxis(logits, 1, -1))
    rows = -jnp.take_along_axis(logs, index[..., None], -1)[..., 0]
    weights = jnp.asarray(WEIGHTS, logits.dtype)[index] if weighted else 1.0
    weights = weights * kept
    total = {"weights": weights.sum(), "counted": kept.sum(), "all": labels.size}[over]
    return (rows * weights).sum() / total


def make(jax_loss: Any = loss, **switches: Any) -> parity.Pair:
    labels = integers(4, 4, 12, 12)
    labels[:, 3:6, 2:9] = IGNORED
    return parity.Pair(
        "segmentation",
        TorchNet,
        partial(apply, **switches),
        as_arrays,
        example_inputs=normal(4, 3, 12, 12),
        labels=labels,
        loss=parity.Loss(torch_loss, jax_loss),
    )
