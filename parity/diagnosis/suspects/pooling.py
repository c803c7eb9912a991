"""Pooling by windows: what porting it tends to get wrong."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects, Thunk
from parity.diagnosis.suspects.sizes import each, padded, same_padding

MAXIMUM: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE: dict[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def axes_of(call: Call) -> int:
    """How many axes a function named after them (`max_pool2d`) is over."""
    return int(call.name.partition("pool")[2][0])


class _Windows:
    """The windows of a call of pooling: sizes of each axis."""

    def __init__(self, call: Call):
        a = call.given
        self.n = axes_of(call)
        self.window = each(a["kernel_size"], self.n)
        self.stride = each(a["stride"] or self.window, self.n)
        self.padding = each(a.get("padding", 0), self.n)
        self.border = padded(self.padding, self.padding)
        self.sizes = a["input"].shape[-self.n :]

    def uneven(self, dilation: Any = 1) -> bool:
        """Whether it matters how the number of windows is rounded."""
        spread = each(dilation, self.n)
        return any(
            (size + 2 * pad - d * (taps - 1) - 1) % step
            for size, pad, d, taps, step in zip(
                self.sizes, self.padding, spread, self.window, self.stride, strict=True
            )
        )

    def same(self) -> list[int]:
        """The border of 'SAME'."""
        return same_padding(self.sizes, self.window, self.stride, 1)


def _other_windows(call: Call, w: _Windows) -> Suspects:
    """Another stride or window."""
    for other in sorted({1, 2, w.window[0]} - {w.stride[0]}):
        yield f"the stride is {other} and not {w.stride[0]}", call.with_(stride=other)
    for other in sorted({2, 3} - {w.window[0]}):
        for border in sorted({0, min(w.padding[0], other // 2)}):
            changes = {"padding": border} if "padding" in call.given else {}
            yield (
                f"the window is {other} and not {w.window[0]}",
                call.with_(kernel_size=other, stride=w.stride, **changes),
            )
    if len(set(w.window)) > 1:
        yield "the window's axes are reversed", call.with_(kernel_size=w.window[::-1])


def max_pool_suspects(call: Call) -> Suspects:
    """Another kind of pooling, rounding of sizes, padding, stride, window or rule for ties."""
    a = call.given
    w = _Windows(call)
    if a["input"].ndim not in (w.n + 1, w.n + 2):
        return
    x, window, stride, padding = a["input"], w.window, w.stride, w.padding
    pairs = call.name.endswith("_with_indices") or a["return_indices"]
    if not pairs:
        average = AVERAGE[w.n]
        yield (
            "average pooling in the place of maximum pooling",
            lambda: average(x, window, stride, padding, a["ceil_mode"]),
        )
        if max(padding):
            yield (
                "average pooling, without the padding counted, in the place of maximum pooling",
                lambda: average(x, window, stride, padding, a["ceil_mode"], False),
            )
    if w.uneven(a["dilation"]):
        yield (
            f"ceil mode is {'off' if a['ceil_mode'] else 'on'}",
            call.with_(ceil_mode=not a["ceil_mode"]),
        )
    if max(padding):
        yield "the padding is missing", call.with_(padding=0)
        yield (
            "the padding is zeros and not minus infinity",
            call.with_(input=lambda: F.pad(x, w.border), padding=0),
        )
    same = same_padding(w.sizes, window, stride, a["dilation"])
    if same != w.border:
        yield (
            "the padding is 'SAME' and not symmetric",
            call.with_(input=lambda: F.pad(x, same, value=-math.inf), padding=0, ceil_mode=False),
        )
        yield (
            "the padding is 'SAME', of zeros, and not symmetric",
            call.with_(input=lambda: F.pad(x, same), padding=0, ceil_mode=False),
        )
    yield from _other_windows(call, w)
    if pairs:
        return
    if max(each(a["dilation"], w.n)) > 1:
        yield "the dilation is ignored", call.with_(dilation=1)
    yield "the pooling is missing", lambda: x * 1


def tie_suspects(call: Call) -> Suspects:
    """Another rule for the gradient of equal maxima, where windows do not overlap."""
    a, w = call.given, _Windows(call)
    x, window = a["input"], w.window
    if a["return_indices"] or a["ceil_mode"] or max(w.padding) or window != w.stride:
        return
    if max(each(a["dilation"], w.n)) > 1 or x.ndim not in (w.n + 1, w.n + 2):
        return
    yield "equal maxima share the gradient", lambda: tied_pool(x, window, "share")
    yield "each of equal maxima gets the whole gradient", lambda: tied_pool(x, window, "all")
    yield "the last of equal maxima gets the gradient", lambda: tied_pool(x, window, "last")


def tied_pool(x: torch.Tensor, window: Sequence[int], ties: str) -> torch.Tensor:
    """Maximum pooling by windows that do not overlap, with another rule for ties."""
    n = len(window)
    patches = x
    for axis, taps in zip(range(x.ndim - n, x.ndim), window, strict=True):
        patches = patches.unfold(axis, taps, taps)
    patches = patches.flatten(x.ndim)
    if ties == "share":
        return patches.amax(-1)
    if ties == "last":
        return patches.flip(-1).max(-1).values
    best = patches.detach().amax(-1, keepdim=True)
    hits = (patches == best) * (patches - patches.detach())
    return best.squeeze(-1) + hits.sum(-1)


def avg_pool_suspects(call: Call) -> Suspects:
    """The maximum or the sum, another padding, divisor, rounding of sizes, stride or window."""
    a = call.given
    w = _Windows(call)
    if a["input"].ndim not in (w.n + 1, w.n + 2):
        return
    x, window, stride, padding, ceil = a["input"], w.window, w.stride, w.padding, a["ceil_mode"]
    counted, number = a["count_include_pad"], math.prod(window)
    yield (
        "the maximum in the place of the average",
        lambda: MAXIMUM[w.n](x, window, stride, padding, ceil_mode=ceil),
    )
    yield "the sum in the place of the average", _with_divisor(call, 1)
    if max(padding):
        yield (
            f"the padding is {'not ' if counted else ''}counted in the average",
            call.with_(count_include_pad=not counted),
        )
        yield "the padding is missing", call.with_(padding=0)
    if w.uneven():
        yield f"ceil mode is {'off' if ceil else 'on'}", call.with_(ceil_mode=not ceil)
    same = w.same()
    if same != w.border:
        yield (
            "the padding is 'SAME' and not symmetric",
            call.with_(input=lambda: F.pad(x, same), padding=0, ceil_mode=False),
        )
        yield (
            "the padding is 'SAME', not counted in the average, and not symmetric",
            lambda: _uncounted(AVERAGE[w.n], x, same, window, stride),
        )
    if (ceil and w.uneven()) or a.get("divisor_override"):
        yield "the divisor is the whole window, whatever lies in it", _with_divisor(call, number)
    yield from _other_windows(call, w)
    yield "the average is missing", lambda: x * 1
    yield (
        "the average is missing: the first of each window",
        lambda: x[(..., *(slice(None, None, s) for s in stride))],
    )


def _with_divisor(call: Call, divisor: int) -> Thunk:
    """Sums of windows, padded by zeros, divided by a constant."""
    w, a = _Windows(call), call.given
    if w.n > 1:
        return call.with_(divisor_override=divisor)

    def summed() -> torch.Tensor:
        x = a["input"][..., None, :]
        options = (w.stride, w.padding, a["ceil_mode"], a["count_include_pad"])
        window, stride, padding = (1, *w.window), (1, *options[0]), (0, *options[1])
        return F.avg_pool2d(x, window, stride, padding, *options[2:], divisor).squeeze(-2)

    return summed


def _uncounted(
    average: Callable[..., torch.Tensor],
    x: torch.Tensor,
    border: list[int],
    window: Sequence[int],
    stride: Sequence[int],
) -> torch.Tensor:
    """Averages over what lies inside the image."""
    inside = F.pad(torch.ones_like(x), border)
    return average(F.pad(x, border), window, stride) / average(inside, window, stride)


def lp_pool_suspects(call: Call) -> Suspects:
    """Another norm; averaged and not summed; without the root."""
    a = call.given
    if a["input"].ndim not in (axes_of(call) + 1, axes_of(call) + 2) or not a["norm_type"]:
        return
    p, w = float(a["norm_type"]), _Windows(call)
    number = math.prod(w.window)
    yield (
        "the average and not the sum is under the root",
        call.then(lambda out: out / number ** (1 / p)),
    )
    yield "the root is missing", call.then(lambda out: out**p)
    yield "the average of the powers, without the root", call.then(lambda out: out**p / number)
    for other in (1.0, 2.0, 3.0):
        if other != p:
            yield f"the norm is L{other:g} and not L{p:g}", call.with_(norm_type=other)
    ceil = a["ceil_mode"]
    if w.uneven():
        yield f"ceil mode is {'off' if ceil else 'on'}", call.with_(ceil_mode=not ceil)
    yield from _other_windows(call, w)
    yield (
        "maximum pooling in the place of it",
        lambda: MAXIMUM[w.n](a["input"], w.window, w.stride, ceil_mode=ceil),
    )
