"""Convolutions of one, two and three axes: what porting one tends to get wrong."""

import itertools

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects
from parity.diagnosis.suspects.sizes import each, interleaved, padded, same_padding


def conv_suspects(call: Call) -> Suspects:
    """Another bias, padding, kernel, stride, dilation or grouping."""
    a = call.given
    x, w = a["input"], a["weight"]
    n = w.ndim - 2
    if x.ndim not in (n + 1, n + 2) or n < 1:
        return
    taps, stride, dilation = tuple(w.shape[2:]), each(a["stride"], n), each(a["dilation"], n)
    if isinstance(a["padding"], str):
        border = [0] * 2 * n
        if a["padding"] == "same":
            border = same_padding(x.shape[-n:], taps, stride, dilation)
    else:
        padding = each(a["padding"], n)
        border = padded(padding, padding)
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    yield from _borders(call, border)
    yield from kernel_suspects(call)
    for other in ((1,) * n, (2,) * n):
        if other != stride:
            yield (
                f"the stride is {other[0]} and not {stride[0]}: it may be on the wrong convolution",
                call.with_(stride=other),
            )
    yield from _dilated(call, border)
    yield from _grouped(call, x.ndim - n - 1)
    if x.ndim == n + 2 and x.shape[1] == 3:
        yield (
            "the input's channels are in the order blue, green, red",
            call.with_input(lambda: x.flip(1)),
        )


def _dilated(call: Call, border: list[int]) -> Suspects:
    """Another dilation, with the padding as it is, or so that the output has the same size."""
    a = call.given
    x, taps, n = a["input"], tuple(a["weight"].shape[2:]), a["weight"].ndim - 2
    given = max(each(a["dilation"], n))
    if max(taps) == 1 or {*each(a["dilation"], n)} != {given}:
        return
    for other in dict.fromkeys((1, given // 2, 2 * given, given - 1, given + 1)):
        if other < 1 or other == given:
            continue
        cause = f"the dilation is {other} and not {given}"
        if other == 1:
            cause = "the dilation is ignored"
        more = [(size - 1) * (other - given) for size in taps]
        halves, none = [m // 2 for m in more], [0] * n
        yield cause, call.with_(dilation=other)
        # The padding may have been made by an earlier call, on both sides or before alone.
        sides = padded(halves, [m - m // 2 for m in more]), padded(more, none)
        kept = [[one + two for one, two in zip(border, side, strict=True)] for side in sides]
        kept += [same_padding(x.shape[-n:], taps, a["stride"], other)]
        for number, around in enumerate(kept):
            if around not in kept[:number]:
                yield (
                    cause,
                    call.with_(input=lambda b=around: F.pad(x, b), dilation=other, padding=0),
                )


def _borders(call: Call, border: list[int]) -> Suspects:
    """Another padding than `border`, as F.pad takes it."""
    a = call.given
    x, taps, n = a["input"], a["weight"].shape[2:], a["weight"].ndim - 2
    sizes = x.shape[-n:]
    tried = [border]
    for lower, odd in ((False, "after"), (True, "before")):
        same = same_padding(sizes, taps, a["stride"], a["dilation"], lower)
        if same not in tried:
            tried.append(same)
            yield (
                f"the padding is 'SAME', with the odd pixel {odd}, and not symmetric",
                call.with_(input=lambda same=same: F.pad(x, same), padding=0),
            )
    if not max(border):
        return
    yield "the padding is missing", call.with_(padding=0)
    for mode in ("reflect", "replicate", "circular"):
        yield (
            f"the padding is {mode} and not zeros",
            call.with_(input=lambda mode=mode: bordered(x, border, mode), padding=0),
        )


def bordered(x: torch.Tensor, border: list[int], mode: str) -> torch.Tensor:
    """F.pad of spatial axes, with or without a batch."""
    if x.ndim == len(border) // 2 + 1:
        return F.pad(x[None], border, mode=mode)[0]
    return F.pad(x, border, mode=mode)


def kernel_suspects(call: Call) -> Suspects:
    """The kernel is flipped, transposed, or reshaped where it must be transposed."""
    w = call.given["weight"]
    taps, axes = tuple(w.shape[2:]), list(range(2, w.ndim))
    if max(taps) > 1:
        yield (
            "the kernel is flipped: a convolution and not PyTorch's cross-correlation",
            call.with_(weight=lambda: w.flip(axes)),
        )
        names = ("depth", "height", "width")[-len(axes) :]
        for (i, one), (j, other) in itertools.combinations(zip(axes, names, strict=True), 2):
            if w.shape[i] == w.shape[j] > 1:
                yield (
                    f"the kernel's {one} and {other} are swapped",
                    call.with_(weight=lambda i=i, j=j: w.transpose(i, j)),
                )
    if w.shape[0] == w.shape[1] > 1:
        yield (
            "the kernel's input and output channels are swapped",
            call.with_(weight=lambda: w.transpose(0, 1)),
        )
    if sum(size > 1 for size in w.shape) > 1:
        yield (
            "the kernel's layout is changed by a reshape and not by a transposition",
            call.with_(weight=lambda: _reshaped_kernel(w)),
        )


def _reshaped_kernel(w: torch.Tensor) -> torch.Tensor:
    """The kernel [out, in, *taps] whose numbers were read as [*taps, in, out]."""
    read = w.reshape(*w.shape[2:], w.shape[1], w.shape[0])
    return read.permute(-1, -2, *range(w.ndim - 2))


def _grouped(call: Call, channels: int) -> Suspects:
    """Channels of groups in another order, on the axis `channels` of input and output."""
    a = call.given
    x, w, groups = a["input"], a["weight"], a["groups"]
    if groups < 2:
        return
    for cause, parts in (
        ("the channels of the groups are interleaved", groups),
        ("each group takes every n-th channel", x.shape[channels] // groups),
    ):
        if 1 < parts < x.shape[channels] and (parts == groups) == ("interleaved" in cause):
            yield (
                cause,
                call.with_input(lambda parts=parts: interleaved(x, channels, parts)),
            )
    for cause, parts in (
        ("the output channels of the groups are interleaved", groups),
        ("each group gives every n-th output channel", w.shape[0] // groups),
    ):
        if 1 < parts < w.shape[0] and (parts == groups) == ("interleaved" in cause):
            yield cause, call.then(lambda out, p=parts: interleaved(out, channels, p))
    yield (
        "the groups are in another order",
        call.with_(weight=lambda: w.unflatten(0, (groups, -1)).flip(0).flatten(0, 1)),
    )
