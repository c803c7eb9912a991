"""Pooling to a given size: what porting it tends to get wrong."""

import math
from collections.abc import Callable

import torch

from parity.diagnosis.suspects.call import Call, Suspects, Thunk
from parity.diagnosis.suspects.pooling import axes_of
from parity.diagnosis.suspects.resampling import half_pixel, resize
from parity.diagnosis.suspects.sizes import each

Bins = Callable[[int, int], list[tuple[int, int]]]
"""The (first, beyond the last) pixels of each bin, from the size and the number of bins."""


def adaptive_pool_suspects(call: Call) -> Suspects:
    """The other reduction, or bins at other places, where pixels do not divide evenly."""
    a, n = call.given, axes_of(call)
    x = a["input"]
    if x.ndim not in (n + 1, n + 2) or a.get("return_indices"):
        return
    average = "avg" in call.name
    sizes, wanted = x.shape[-n:], a["output_size"]
    out = tuple(o or s for o, s in zip(_each(wanted, n), sizes, strict=True))
    reduce = torch.mean if average else torch.amax

    def pooled(bins: Bins, by: Callable[..., torch.Tensor] = reduce) -> Thunk:
        return lambda: by_bins(x, out, bins, by)

    if average:
        yield "the maximum in the place of the average", pooled(pytorchs, torch.amax)
        yield "the sum in the place of the average", pooled(pytorchs, torch.sum)
    else:
        yield "the average in the place of the maximum", pooled(pytorchs, torch.mean)
    if any(s % o for s, o in zip(sizes, out, strict=True)):
        if all(s >= o for s, o in zip(sizes, out, strict=True)):
            yield "all windows have one size, and the stride is the sizes' ratio", pooled(even)
            yield "the pixels left over by the sizes' ratio are cut off", pooled(cut)
            yield "the bins do not overlap: each begins where another ends", pooled(disjoint)
            yield "the windows are as long as the sizes' ratio rounded up", pooled(long)
        yield (
            "it is interpolated to the size and not pooled",
            lambda: _resized(x, out, antialias=False),
        )
        yield (
            "it is interpolated to the size, with smoothing, and not pooled",
            lambda: _resized(x, out, antialias=True),
        )
    name = "average" if average else "maximum"
    if max(out) > 1 and n > 1 and len(set(out)) > 1:
        yield "the axes of the size are reversed", call.with_(output_size=out[::-1])
    if max(out) > 1:
        yield f"the {name} is over the whole map", call.with_(output_size=1)
    yield (
        f"the {name} is missing: the first pixel of each bin",
        pooled(lambda size, number: [(i, i + 1) for i, _ in pytorchs(size, number)]),
    )
    yield f"the {name} is missing", lambda: x * 1


def _each(value: object, n: int) -> tuple[int | None, ...]:
    return (None,) * n if value is None else each(value, n)


def _resized(x: torch.Tensor, out: tuple[int, ...], antialias: bool) -> torch.Tensor:
    if x.ndim == len(out) + 1:
        return resize(x[None], out, half_pixel, "linear", antialias)[0]
    return resize(x, out, half_pixel, "linear", antialias)


def by_bins(
    x: torch.Tensor, out: tuple[int, ...], bins: Bins, reduce: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """The last axes reduced by bins, one axis after another."""
    for axis, number in zip(range(x.ndim - len(out), x.ndim), out, strict=True):
        edges = bins(x.shape[axis], number)
        parts = [reduce(x.narrow(axis, i, j - i), dim=axis, keepdim=True) for i, j in edges]
        x = torch.cat(parts, axis)
    return x


def pytorchs(size: int, number: int) -> list[tuple[int, int]]:
    """PyTorch's bins: from floor(i n / o) to ceil((i + 1) n / o)."""
    return [(i * size // number, math.ceil((i + 1) * size / number)) for i in range(number)]


def even(size: int, number: int) -> list[tuple[int, int]]:
    """Windows of n - (o - 1) s pixels at strides s of floor(n / o)."""
    stride = size // number
    window = size - (number - 1) * stride
    return [(i * stride, i * stride + window) for i in range(number)]


def cut(size: int, number: int) -> list[tuple[int, int]]:
    """Windows and strides of floor(n / o) pixels."""
    return [(i * (size // number), (i + 1) * (size // number)) for i in range(number)]


def disjoint(size: int, number: int) -> list[tuple[int, int]]:
    """From floor(i n / o) to floor((i + 1) n / o)."""
    return [(i * size // number, (i + 1) * size // number) for i in range(number)]


def long(size: int, number: int) -> list[tuple[int, int]]:
    """Windows of ceil(n / o) pixels, that begin at floor(i n / o)."""
    window = math.ceil(size / number)
    return [(begin, min(begin + window, size)) for begin, _ in disjoint(size, number)]
