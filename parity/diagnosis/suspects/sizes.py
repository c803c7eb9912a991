"""Sizes of windows: kernels, strides, borders."""

import math
from collections.abc import Sequence
from typing import Any

import torch


def each(value: Any, n: int) -> tuple[int, ...]:
    """The value of every one of n axes, from one number for all, or from a sequence."""
    if isinstance(value, int):
        return (value,) * n
    value = tuple(value)
    return value * n if len(value) == 1 else value


def padded(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Borders of each axis as F.pad takes them: the last axis first."""
    return [side for pair in reversed(list(zip(before, after, strict=True))) for side in pair]


def same_padding(
    sizes: Sequence[int], kernel: Any, stride: Any, dilation: Any, lower: bool = False
) -> list[int]:
    """'SAME' of XLA and TensorFlow, as F.pad takes it: the odd pixel after; before if `lower`."""
    n = len(sizes)
    totals = [
        max((math.ceil(size / step) - 1) * step + spread * (taps - 1) + 1 - size, 0)
        for size, taps, step, spread in zip(
            sizes, each(kernel, n), each(stride, n), each(dilation, n), strict=True
        )
    ]
    halves, rests = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return padded(rests, halves) if lower else padded(halves, rests)


def interleaved(x: torch.Tensor, axis: int, groups: int) -> torch.Tensor:
    """An axis in `groups` equal parts, of which one element of each follows one of each."""
    return x.unflatten(axis, (groups, -1)).transpose(axis, axis + 1).flatten(axis, axis + 1)


def of_channels(values: torch.Tensor | None, ndim: int) -> torch.Tensor | None:
    """Values [c] as they are broadcast with [n, c, ...] of `ndim` axes."""
    return None if values is None else values.view(1, -1, *[1] * (ndim - 2))
