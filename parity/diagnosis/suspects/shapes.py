"""Reshaping and transposing: what porting it tends to get wrong."""

import itertools
import math
from collections.abc import Sequence

import torch

from parity.diagnosis.suspects.call import Call, Suspects

MOST = 24
"""Of permutations that are tried."""


def transpose_suspects(call: Call) -> Suspects:
    """The axes are in another order, left as they are, or changed by a reshape."""
    x = call.x
    if not isinstance(x, torch.Tensor) or x.ndim < 2:
        return
    out = call.result()
    if not isinstance(out, torch.Tensor):
        return
    yield "the transposition is missing", lambda: x * 1
    if out.shape != x.shape:
        yield (
            "the layout is changed by a reshape and not by a transposition",
            lambda: x.reshape(out.shape),
        )
    split = ", as if what was split (into heads) were interleaved" if out.ndim > 3 else ""
    pairs = itertools.combinations(range(out.ndim), 2)
    for i, j in itertools.islice(pairs, MOST):
        turned = out.transpose(i, j)
        back = turned.shape == x.shape and turned.stride() == x.stride()
        if out.shape[i] == out.shape[j] > 1 and not back:
            yield (
                f"axes {i} and {j} of what is transposed are exchanged{split}",
                lambda i=i, j=j: out.transpose(i, j),
            )
    if x.ndim > 2:
        others = itertools.permutations(range(x.ndim))
        for order in itertools.islice(others, MOST):
            if order != tuple(range(x.ndim)) and x.permute(order).shape != out.shape:
                yield (
                    f"the axes are in the order {', '.join(map(str, order))}",
                    lambda order=order: x.permute(order),
                )


def reshape_suspects(call: Call) -> Suspects:
    """Axes are merged or split in another order than PyTorch's, the last the fastest."""
    x = call.x
    if not isinstance(x, torch.Tensor) or x.dtype == torch.bool or call.args[1:2] == (x.dtype,):
        return
    out = call.result()
    if not isinstance(out, torch.Tensor) or out.dtype != x.dtype or out.numel() != x.numel():
        return
    if x.ndim == 4 and out.ndim == 2 and out.shape[0] == x.shape[0]:
        yield (
            "the feature map is flattened h, w, c and not c, h, w",
            lambda: x.permute(0, 2, 3, 1).reshape(out.shape),
        )
        yield (
            "the feature map is flattened c, w, h and not c, h, w",
            lambda: x.transpose(2, 3).reshape(out.shape),
        )
    groups = _groups(x.shape, out.shape)
    splits = []
    for before, after in groups:
        if len(before) > 1 and len(after) == 1:
            yield from _merged(x, out, before)
        elif len(before) == 1 and len(after) > 1:
            splits.append((before[0], after))
            yield from _split(x, out, before[0], after)
        elif len(before) > 1 and sorted(x.shape[i] for i in before) == sorted(
            out.shape[i] for i in after
        ):
            yield (
                "the layout is changed by a transposition and not by a reshape",
                lambda before=before, after=after: _permuted_to(x, out.shape, before, after),
            )
    if len(splits) > 1:
        yield "every axis is split in the other order", lambda: _all_split(x, out, splits)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Axes, those of size 1 left out, that become axes of an equal number of elements."""
    i, j, found = 0, 0, []
    while i < len(before) or j < len(after):
        left, right = [], []
        a = b = 1
        while True:
            if i < len(before) and (a <= b or j >= len(after)) and (not left or a != b):
                a *= before[i]
                left.append(i)
                i += 1
            elif j < len(after) and (not right or a != b):
                b *= after[j]
                right.append(j)
                j += 1
            else:
                break
        trimmed = (
            [axis for axis in left if before[axis] != 1],
            [axis for axis in right if after[axis] != 1],
        )
        found.append(trimmed)
        if a == 0 or b == 0:
            return []
    return found


def _merged(x: torch.Tensor, out: torch.Tensor, axes: list[int]) -> Suspects:
    """Several axes become one: in another order."""
    if x.ndim == 4 and out.ndim == 2 and axes == [1, 2, 3]:
        likely = [(2, 3, 1), (1, 3, 2)]  # told by their own names
    else:
        likely = []
    last = (*axes[1:], axes[0])
    orders = [last, tuple(reversed(axes)), *itertools.permutations(axes)]
    for order in itertools.islice(dict.fromkeys(orders), MOST):
        if order != tuple(axes) and order not in likely:
            whole = list(range(x.ndim))
            whole[axes[0] : axes[-1] + 1] = [
                *order,
                *(a for a in range(axes[0], axes[-1] + 1) if a not in axes),
            ]
            yield (
                f"axes {', '.join(map(str, axes))} are merged in the order "
                f"{', '.join(map(str, order))}",
                lambda whole=whole: x.permute(whole).reshape(out.shape),
            )


def _split(x: torch.Tensor, out: torch.Tensor, axis: int, axes: list[int]) -> Suspects:
    """One axis becomes several: in another order of its parts."""
    sizes = [out.shape[i] for i in axes]
    for order in itertools.islice(itertools.permutations(range(len(axes))), MOST):
        if order != tuple(range(len(axes))):
            yield (
                f"axis {axis} is split {', '.join(str(sizes[i]) for i in order)} "
                f"and not {', '.join(map(str, sizes))}: the parts (as heads) are interleaved"
                if len({*sizes}) == len(sizes)
                else f"axis {axis} is split with its parts (as heads) interleaved: "
                f"{', '.join(map(str, order))}",
                lambda order=order: _resplit(x, axis, sizes, order).reshape(out.shape),
            )


def _resplit(
    x: torch.Tensor, axis: int, sizes: Sequence[int], order: Sequence[int]
) -> torch.Tensor:
    """An axis split in the order given, its parts then put where PyTorch has them."""
    parts = x.unflatten(axis, [sizes[i] for i in order])
    back = [axis + list(order).index(i) for i in range(len(sizes))]
    return parts.permute(*range(axis), *back, *range(axis + len(sizes), parts.ndim))


def _all_split(
    x: torch.Tensor, out: torch.Tensor, splits: list[tuple[int, list[int]]]
) -> torch.Tensor:
    for axis, axes in reversed(splits):
        sizes = [out.shape[i] for i in axes]
        x = _resplit(x, axis, sizes, range(len(sizes) - 1, -1, -1))
    return x.reshape(out.shape)


def _permuted_to(
    x: torch.Tensor, shape: Sequence[int], before: list[int], after: list[int]
) -> torch.Tensor:
    """The axes put in the order that gives the shape."""
    for order in itertools.permutations(before):
        if [x.shape[i] for i in order] == [shape[i] for i in after] and list(order) != before:
            whole = list(range(x.ndim))
            for place, axis in zip(before, order, strict=True):
                whole[place] = axis
            return x.permute(whole).reshape(tuple(shape))
    return x.reshape(tuple(shape))


def pixel_shuffle_suspects(call: Call) -> Suspects:
    """The channels in the order r, r, c of TensorFlow, or the block's rows and columns swapped."""
    a = call.given
    x, r = a["input"], a["factor"]
    if not isinstance(x, torch.Tensor) or x.ndim < 3 or r < 1:
        return
    c, h, w = x.shape[-3:]
    lead = x.shape[:-3]
    n = len(lead)

    def to_blocks(orders: str) -> torch.Tensor:
        """Out [.., c, h r, w r], of channels that are split in this order of c, i and j."""
        sizes = {"c": c // r**2, "i": r, "j": r}
        split = x.reshape(*lead, *(sizes[name] for name in orders), h, w)
        place = {name: n + k for k, name in enumerate(orders)}
        axes = [place["c"], n + 3, place["i"], n + 4, place["j"]]
        return split.permute(*range(n), *axes).reshape(*lead, c // r**2, h * r, w * r)

    def from_blocks(orders: str) -> torch.Tensor:
        """Out [.., c r r, h / r, w / r], whose channels are merged in this order of c, i and j."""
        split = x.reshape(*lead, c, h // r, r, w // r, r)
        place = {"c": n, "i": n + 2, "j": n + 4}
        axes = [*(place[name] for name in orders), n + 1, n + 3]
        return split.permute(*range(n), *axes).reshape(*lead, c * r * r, h // r, w // r)

    by = to_blocks if call.name == "pixel_shuffle" else from_blocks
    for cause, orders in (
        ("the channels are in the order r, r, c (TensorFlow's) and not c, r, r", "ijc"),
        ("the block's rows and columns are exchanged", "cji"),
        ("the channels are in the order r, r, c, rows and columns exchanged", "jic"),
        ("the channels are in the order r, c, r", "icj"),
    ):
        yield cause, lambda orders=orders: by(orders)


def channel_shuffle_suspects(call: Call) -> Suspects:
    """The shuffle is missing or the inverse."""
    a = call.given
    x, groups = a["input"], a["factor"]
    if not isinstance(x, torch.Tensor) or x.ndim < 3:
        return
    yield "the shuffle is missing", lambda: x * 1
    c = x.shape[1]
    if groups and c % groups == 0 and groups * groups != c:
        yield (
            "the channels are shuffled the other way",
            call.with_(factor=c // groups),
        )


def unfold_suspects(call: Call) -> Suspects:
    """`F.unfold` and `F.fold`: the patches in the order h, w, c; places in the other order."""
    x = call.x
    if getattr(call.function, "__module__", "") != "torch.nn.functional" or not call.floats:
        return
    fold = call.name == "fold"
    position = 2 if fold else 1
    kernel = call.kwargs.get("kernel_size", (*call.args, None, None)[position])
    if kernel is None:
        return
    taps = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
    number = math.prod(taps)

    def ordered(patches: torch.Tensor, order: str) -> torch.Tensor:
        """Patches [.., c h w, places] in another order of their elements."""
        named = patches.unflatten(-2, (-1, *taps))  # [.., c, h, w, places]
        place = {"c": -4, "h": -3, "w": -2}
        moved = named.permute(*range(named.ndim - 4), *(place[name] for name in order), -1)
        return moved.reshape(patches.shape)

    def disordered(patches: torch.Tensor, order: str) -> torch.Tensor:
        """Patches that are in this order, as PyTorch has them."""
        rows = torch.arange(patches.shape[-2], device=patches.device)[:, None]
        index = ordered(rows, order)[:, 0].argsort()
        return patches[..., index, :]

    for order in ("hwc", "cwh", "whc"):
        cause = f"the patches are in the order {', '.join(order)} and not c, h, w"
        if fold and x.shape[-2] % number == 0:
            yield cause, call.with_input(lambda o=order: disordered(x, o))
        elif not fold:
            yield cause, call.then(lambda out, o=order: ordered(out, o))


def repeat_suspects(call: Call) -> Suspects:
    """Tiled where it should be repeated, or the other way round."""
    x = call.x
    if not call.floats:
        return
    if call.name == "repeat_interleave":
        repeats = call.kwargs.get("repeats", (*call.args, None)[1])
        dim = call.kwargs.get("dim", (*call.args, None, None)[2])
        if isinstance(repeats, int) and isinstance(dim, int):
            counts = [1] * x.ndim
            counts[dim] = repeats
            yield "it is tiled and not repeated", lambda: x.repeat(counts)
        return
    counts = call.args[1:]
    counts = counts[0] if len(counts) == 1 and isinstance(counts[0], list | tuple) else counts
    if len(counts) != x.ndim or not all(isinstance(count, int) for count in counts):
        return

    def repeated() -> torch.Tensor:
        out = x
        for axis, count in enumerate(counts):
            out = out.repeat_interleave(count, axis)
        return out

    if max(counts, default=1) > 1:
        yield "it is repeated and not tiled", repeated
