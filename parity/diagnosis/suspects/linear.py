"""Convolutions, linear layers and padding: what porting one tends to get wrong."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Thunk


def pair(value: Any) -> tuple[int, int]:
    """The value for height and for width, from one number for both or from two."""
    return (value, value) if isinstance(value, int) else tuple(value)


def _same_padding(x: torch.Tensor, kernel: Any, stride: Any, dilation: Any) -> list[int]:
    """'SAME' of XLA and TensorFlow, as F.pad takes it: the odd pixel after."""
    border = []
    sides = zip(x.shape[-2:], pair(kernel), pair(stride), pair(dilation), strict=True)
    for size, taps, step, spread in sides:
        total = max((math.ceil(size / step) - 1) * step + spread * (taps - 1) + 1 - size, 0)
        border.append((total // 2, total - total // 2))
    return [*border[1], *border[0]]


def conv_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """Another bias, padding, kernel, stride, dilation or grouping; none where padding is a word."""
    a = call.given
    x, w, stride, padding = a["input"], a["weight"], pair(a["stride"]), a["padding"]
    if isinstance(padding, str):
        return
    padding, taps = pair(padding), tuple(w.shape[2:])
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    same = _same_padding(x, taps, stride, a["dilation"])
    if same != [padding[1], padding[1], padding[0], padding[0]]:
        yield (
            "the padding is 'SAME', with the odd pixel after, and not symmetric",
            call.with_(input=F.pad(x, same), padding=0),
        )
    if max(padding):
        yield "the padding is missing", call.with_(padding=0)
        border = [padding[1], padding[1], padding[0], padding[0]]
        if max(padding) < min(x.shape[-2:]):
            for mode in ("reflect", "replicate", "circular"):
                yield (
                    f"the padding is {mode} and not zeros",
                    lambda mode=mode: call.with_(input=F.pad(x, border, mode=mode), padding=0)(),
                )
    if max(taps) > 1:
        yield (
            "the kernel is flipped: a convolution and not PyTorch's cross-correlation",
            call.with_(weight=w.flip(2, 3)),
        )
        if taps[0] == taps[1]:
            yield "the kernel's height and width are swapped", call.with_(weight=w.transpose(2, 3))
    if w.shape[0] == w.shape[1]:
        yield (
            "the kernel's input and output channels are swapped",
            call.with_(weight=w.transpose(0, 1)),
        )
    for other in ((1, 1), (2, 2)):
        if other != stride:
            yield (
                f"the stride is {other[0]} and not {stride[0]}: it may be on the wrong convolution",
                call.with_(stride=other),
            )
    if max(pair(a["dilation"])) > 1:
        yield "the dilation is ignored", call.with_(dilation=1, padding=[t // 2 for t in taps])
        yield "the dilation is ignored", call.with_(dilation=1)
    groups = a["groups"]
    if groups > 1:
        mixed = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
        yield "the channels of the groups are interleaved", call.with_(input=mixed)
        order = torch.arange(groups).flip(0)
        swapped = w.unflatten(0, (groups, -1))[order].flatten(0, 1)
        yield "the groups are in another order", call.with_(weight=swapped)


def linear_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The bias is missing, or a square weight transposed."""
    a = call.given
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    if a["weight"].shape[0] == a["weight"].shape[1]:
        yield "the weight is transposed", call.with_(weight=a["weight"].T)


def pad_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The padding is on the other side, or all of it after or before."""
    x, border = call.args[:2]
    flipped = [border[i ^ 1] for i in range(len(border))]
    if flipped != list(border):
        yield "the padding is on the other side", lambda: F.pad(x, flipped)
    sums = [border[i] + border[i + 1] for i in range(0, len(border), 2)]
    after = [value for total in sums for value in (0, total)]
    before = [value for total in sums for value in (total, 0)]
    yield "all of the padding comes after", lambda: F.pad(x, after)
    yield "all of the padding comes before", lambda: F.pad(x, before)
