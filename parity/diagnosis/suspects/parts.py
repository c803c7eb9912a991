"""Cutting, joining and turning: what porting it tends to get wrong."""

import itertools
from typing import Any

import torch

from parity.diagnosis.suspects.call import Call, Suspects
from parity.diagnosis.suspects.sizes import interleaved


def cat_suspects(call: Call) -> Suspects:
    """The parts are joined in another order, interleaved, or along another axis."""
    a = call.given
    tensors, axis = a["tensors"], a["dim"]
    if not isinstance(tensors, list | tuple) or not tensors:
        return
    if not all(isinstance(t, torch.Tensor) for t in tensors) or not isinstance(axis, int):
        return
    tensors, n = list(tensors), len(tensors)
    if n < 2:
        return
    yield "the parts are joined in the other order", call.with_(tensors=tensors[::-1])
    for i in range(n - 1) if n > 2 else ():
        order = [*tensors[:i], tensors[i + 1], tensors[i], *tensors[i + 2 :]]
        yield f"parts {i + 1} and {i + 2} are exchanged", call.with_(tensors=order)
    if n > 2:
        yield "the last part comes first", call.with_(tensors=[tensors[-1], *tensors[:-1]])
        yield "the first part comes last", call.with_(tensors=[*tensors[1:], tensors[0]])
    ndim = tensors[0].ndim
    if len({t.shape for t in tensors}) == 1 and ndim:
        if call.name != "stack" and tensors[0].shape[axis] > 1:
            yield (
                "the parts are interleaved",
                call.then(lambda out: interleaved(out, axis % ndim, n)),
            )
        axes = ndim + (call.name == "stack")
        for other in range(axes):
            if other != axis % axes:
                follow = call.name == "stack" and other + 1 == axis % axes == ndim
                places = (-2, "-1: they follow each other") if follow else (other, axis)
                yield (
                    f"the parts are joined along axis {places[0]} and not {places[1]}",
                    call.with_(dim=other),
                )
    for i in range(n) if n <= 4 else ():
        if tensors[i].is_floating_point():
            yield (
                f"part {i + 1} is zeros",
                call.with_(
                    tensors=lambda i=i: [t * 0 if j == i else t for j, t in enumerate(tensors)]
                ),
            )


def chunk_suspects(call: Call) -> Suspects:
    """The parts come in another order, or are interleaved."""
    if not call.floats:
        return
    parts = call.result()
    if not isinstance(parts, list | tuple):
        return
    n = len(parts)
    if n < 2 or len({t.shape for t in parts}) != 1:
        return
    orders = itertools.permutations(range(n)) if n <= 4 else [tuple(range(n))[::-1]]
    for order in orders:
        if order != tuple(range(n)):
            yield (
                f"the parts are in the order {', '.join(str(i + 1) for i in order)}",
                lambda order=order: tuple(parts[i] for i in order),
            )
    dim = call.given["dim"]
    x = call.x
    if call.name != "unbind" and isinstance(dim, int) and parts[0].shape[dim] > 1:
        axis = dim % x.ndim
        yield (
            "the parts are interleaved: each takes every n-th",
            lambda: x.unflatten(axis, (-1, n)).unbind(axis + 1),
        )


def roll_suspects(call: Call) -> Suspects:
    """It is rolled the other way, or not at all."""
    if not call.floats:
        return
    shifts = call.kwargs.get("shifts", (*call.args, None)[1])
    dims = call.kwargs.get("dims", call.kwargs.get("dim", (*call.args, None, None)[2]))
    if not isinstance(shifts, int | list | tuple) or not _whole(shifts):
        return
    back = -shifts if isinstance(shifts, int) else tuple(-shift for shift in shifts)
    x = call.x
    turned = () if dims is None else (dims,)
    yield "it is rolled the other way", lambda: torch.roll(x, back, *turned)
    yield "it is not rolled", lambda: x * 1
    if isinstance(dims, list | tuple) and len(dims) == 2 and not isinstance(shifts, int):
        yield "it is rolled along the first axis alone", lambda: x.roll(shifts[0], dims[0])
        yield "it is rolled along the second axis alone", lambda: x.roll(shifts[1], dims[1])


def _whole(shifts: Any) -> bool:
    return isinstance(shifts, int) or all(isinstance(shift, int) for shift in shifts)


def flip_suspects(call: Call) -> Suspects:
    """It is not turned round, or another axis of it is."""
    if not call.floats:
        return
    x = call.x
    yield "it is not turned round", lambda: x * 1
    for axis in range(x.ndim):
        yield f"axis {axis} alone is turned round", lambda axis=axis: x.flip(axis)


def index_suspects(call: Call) -> Suspects:
    """The first in the place of the last, the last in that of the first, or the mean of all."""
    if not call.floats or len(call.args) < 2:
        return
    x, key = call.args[:2]
    keys = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(k, int | slice | type(...)) or k is None for k in keys):
        return
    if any(isinstance(k, bool) for k in keys) or None in keys or ... in keys[1:]:
        return
    skipped = x.ndim - (len(keys) - 1) if keys[:1] == (...,) else 0
    for i, k in enumerate(keys):
        axis = i - 1 + skipped if skipped else i
        if isinstance(k, slice) and x.shape[axis] > 2:
            yield from _of_a_half(call, keys, i, x.shape[axis])
        if not isinstance(k, int):
            continue
        size = x.shape[axis]
        for name, other in (("first", 0), ("last", size - 1)):
            if other != k % size:
                changed = (*keys[:i], other, *keys[i + 1 :])
                yield (
                    f"the {name} along axis {axis} in the place of number {k}",
                    call.with_arg(1, changed),
                )
        if size > 1:
            whole = (*keys[:i], slice(None), *keys[i + 1 :])
            removed = sum(isinstance(k, int) for k in keys[:i])
            yield (
                f"the average along axis {axis} in the place of number {k}",
                lambda w=whole, a=axis - removed: x[w].mean(a),
            )


EVERY_SECOND = "every second element in the place of a half"
A_HALF = "a half in the place of every second element"


def _of_a_half(call: Call, keys: tuple[Any, ...], i: int, size: int) -> Suspects:
    """A half of an axis where it is every second element, and the other way round."""
    half = size // 2
    if size % 2:
        return
    kinds = {
        "half": (range(half), range(half, size)),
        "second": (range(0, size, 2), range(1, size, 2)),
    }
    for one, other, cause in (("half", "second", EVERY_SECOND), ("second", "half", A_HALF)):
        for given, changed in zip(kinds[one], kinds[other], strict=True):
            if range(size)[keys[i]] == given:
                part = slice(changed.start, changed.stop, changed.step)
                yield cause, call.with_arg(1, (*keys[:i], part, *keys[i + 1 :]))


def scan_suspects(call: Call) -> Suspects:
    """Cumulative sums and products: from the other end, without the element itself, or none."""
    a = call.given
    x, dim = a["input"], a["dim"]
    if not call.floats or x.ndim == 0 or not isinstance(dim, int):
        return
    unit = 0 if call.name == "cumsum" else 1

    def exclusive() -> torch.Tensor:
        out = call.plain()
        first = torch.full_like(out.narrow(dim, 0, 1), unit)
        return torch.cat([first, out.narrow(dim, 0, out.shape[dim] - 1)], dim)

    yield "the element itself is left out (exclusive)", exclusive
    yield (
        "it begins at the other end",
        lambda: call.with_(input=x.flip(dim))().flip(dim),
    )
    yield f"the {call.name} is missing", lambda: x * 1
    for axis in range(x.ndim):
        if axis != dim % x.ndim:
            yield f"the {call.name} is over axis {axis} and not {dim}", call.with_(dim=axis)
