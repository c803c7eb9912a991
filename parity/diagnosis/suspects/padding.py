"""Padding by itself: what porting it tends to get wrong."""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects

MODES = "constant", "reflect", "replicate", "circular", "symmetric"


def pad_suspects(call: Call) -> Suspects:
    """Another mode or value; the padding on the other side, of other axes, or missing."""
    a = call.given
    x, border, mode = a["input"], list(a["pad"]), a["mode"]
    if not border or len(border) % 2 or not all(isinstance(side, int) for side in border):
        return
    value = a["value"] or 0
    flipped = [border[i ^ 1] for i in range(len(border))]
    sums = [border[i] + border[i + 1] for i in range(0, len(border), 2)]
    pairs = [border[i : i + 2] for i in range(0, len(border), 2)]
    exchanged = [side for pair in reversed(pairs) for side in pair]
    for cause, other in (
        ("the padding is on the other side", flipped),
        ("the padding's axes are in the other order", exchanged),
        ("the padding is the same on both sides", [s for t in sums for s in (t // 2, t - t // 2)]),
        ("all of the padding comes after", [s for total in sums for s in (0, total)]),
        ("all of the padding comes before", [s for total in sums for s in (total, 0)]),
    ):
        if other != border:
            yield cause, call.with_(pad=other)
    for other in MODES:
        if other == mode:
            continue
        cause = f"the padding is {_named(other, 0)} and not {_named(mode, value)}"
        if other == "symmetric":
            yield cause, lambda: symmetric(x, border)
        elif other == "constant":
            yield cause, lambda: F.pad(x, border)
        else:
            yield cause, call.with_(mode=other, value=None)
    if mode == "constant":
        for other in (0.0, -math.inf, 1.0):
            if other != value:
                yield f"the padding is {other:g} and not {value:g}", call.with_(value=other)
    yield "the padding is missing", lambda: x * 1


def _named(mode: str, value: float) -> str:
    if mode != "constant":
        return mode
    return f"{value:g}" if value else "zeros"


def symmetric(x: torch.Tensor, border: Sequence[int]) -> torch.Tensor:
    """Padding by reflection that repeats the edge (NumPy's 'symmetric')."""
    for i in range(0, len(border), 2):
        axis = x.ndim - 1 - i // 2
        size = x.shape[axis]
        index = torch.arange(-border[i], size + border[i + 1], device=x.device) % (2 * size)
        x = x.index_select(axis, torch.where(index < size, index, 2 * size - 1 - index))
    return x
