"""Pooling and means: what porting one tends to get wrong."""

import math
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Thunk
from parity.diagnosis.suspects.linear import _same_padding, pair


def max_pool_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """Another kind of pooling, rounding of sizes, padding, stride, window or rule for ties."""
    a = call.given
    x, window = a["input"], pair(a["kernel_size"])
    stride, padding = pair(a["stride"] or window), pair(a["padding"])
    border = [padding[1], padding[1], padding[0], padding[0]]
    yield (
        "average pooling in the place of maximum pooling",
        lambda: F.avg_pool2d(x, window, stride, padding),
    )
    yield (
        "average pooling, without the padding counted, in the place of maximum pooling",
        lambda: F.avg_pool2d(x, window, stride, padding, count_include_pad=False),
    )
    yield (
        f"ceil mode is {'off' if a['ceil_mode'] else 'on'}",
        call.with_(ceil_mode=not a["ceil_mode"]),
    )
    if max(padding):
        yield "the padding is missing", call.with_(padding=0)
        zeros = F.pad(x, border)
        yield "the padding is zeros and not minus infinity", call.with_(input=zeros, padding=0)
    same = _same_padding(x, window, stride, 1)
    if same != border:
        padded = F.pad(x, same, value=-math.inf)
        yield "the padding is 'SAME' and not symmetric", call.with_(input=padded, padding=0)
    for other in {1, 2, window[0]} - {stride[0]}:
        yield f"the stride is {other} and not {stride[0]}", call.with_(stride=other)
    for other in {2, 3} - {window[0]}:
        for border in {0, min(padding[0], other // 2)}:
            changed = call.with_(kernel_size=other, padding=border)
            yield f"the window is {other} and not {window[0]}", changed
    yield "the pooling is missing", lambda: x * 1
    if not a["ceil_mode"] and not max(padding) and window == stride:
        yield "equal maxima share the gradient", lambda: tied_pool(x, window, "share")
        yield "each of equal maxima gets the whole gradient", lambda: tied_pool(x, window, "all")
        yield "the last of equal maxima gets the gradient", lambda: tied_pool(x, window, "last")


def tied_pool(x: torch.Tensor, window: tuple[int, int], ties: str) -> torch.Tensor:
    """Maximum pooling by windows that do not overlap, with another rule for ties."""
    h, w = (side // taps * taps for side, taps in zip(x.shape[2:], window, strict=True))
    patches = x[:, :, :h, :w].unfold(2, window[0], window[0]).unfold(3, window[1], window[1])
    patches = patches.flatten(4)
    if ties == "share":
        return patches.amax(-1)
    if ties == "last":
        return patches.flip(-1).max(-1).values
    best = patches.detach().amax(-1, keepdim=True)
    hits = (patches == best) * (patches - patches.detach())
    return best.squeeze(-1) + hits.sum(-1)


def mean_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The maximum or the sum in the place of the average, or no average."""
    x = call.args[0]
    if not isinstance(x, torch.Tensor) or x.ndim < 3:
        return
    out = call.plain()
    axes = tuple(range(2, x.ndim))
    if call.name == "mean":
        axes = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
        if axes is None:
            return
    size = x.numel() // max(out.numel(), 1)
    shape = out.shape
    yield "the maximum in the place of the average", lambda: x.amax(axes).reshape(shape)
    yield "the sum in the place of the average", lambda: out * size
    yield "the average is missing", lambda: x.flatten(2)[..., 0].reshape(shape)
