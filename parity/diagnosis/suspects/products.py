"""Linear layers and products of matrices: what porting one tends to get wrong."""

import itertools
from typing import Any

import torch

from parity.diagnosis.suspects.call import Call, Suspects


def linear_suspects(call: Call) -> Suspects:
    """The bias is missing; the weight is transposed, or reshaped where it must be transposed."""
    a = call.given
    w = a["weight"]
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    if w.ndim != 2:
        return
    if w.shape[0] == w.shape[1] > 1:
        yield "the weight is transposed", call.with_(weight=lambda: w.T)
    if min(w.shape) > 1:
        yield (
            "the weight's layout is changed by a reshape and not by a transposition",
            call.with_(weight=lambda: w.reshape(w.shape[::-1]).T),
        )
    yield (
        "the output is scaled by the root of the inputs' number",
        call.then(lambda out: out / w.shape[1] ** 0.5),
    )


def bilinear_suspects(call: Call) -> Suspects:
    """The bias is missing, or the two inputs are exchanged."""
    a = call.given
    w = a["weight"]
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    if w.ndim == 3 and w.shape[1] == w.shape[2]:
        yield "the two inputs are exchanged", call.with_(weight=lambda: w.transpose(1, 2))
    if w.ndim == 3:
        yield (
            "the weight's layout is changed by a reshape and not by a transposition",
            call.with_(weight=lambda: w.reshape(*w.shape[1:], -1).movedim(-1, 0)),
        )


def matmul_suspects(call: Call) -> Suspects:
    """A square operand is transposed, the operands exchanged, or the product scaled."""
    if len(call.args) < 2 or not all(isinstance(t, torch.Tensor) for t in call.args[:2]):
        return
    first = 1 if call.name in ("addmm", "baddbmm") else 0
    if len(call.args) < first + 2:
        return
    operands = call.args[first : first + 2]
    for i, (name, operand) in enumerate(zip(("first", "second"), operands, strict=True)):
        if operand.ndim >= 2 and operand.shape[-1] == operand.shape[-2] > 1:
            yield (
                f"the {name} operand of the product is transposed",
                call.with_arg(first + i, lambda t=operand: t.transpose(-1, -2)),
            )
        if operand.ndim >= 2 and min(operand.shape[-2:]) > 1:
            if operand.shape[-1] != operand.shape[-2]:
                yield (
                    f"the {name} operand's layout is changed by a reshape and not a transposition",
                    call.with_arg(first + i, lambda t=operand: _reshaped(t)),
                )
    one, other = operands
    if one.shape == other.shape and one.ndim >= 2 and one.shape[-1] == one.shape[-2]:
        exchanged = call._replace(args=(*call.args[:first], other, one, *call.args[first + 2 :]))
        yield "the operands of the product are exchanged", exchanged.with_arg(first, other)
    if first:
        yield "the bias is missing", call.with_(beta=0)
        return
    width = one.shape[-1] if one.ndim else 1
    yield (
        "the product is divided by the root of the length of its sums",
        call.then(lambda out: out / width**0.5),
    )


def _reshaped(t: torch.Tensor) -> torch.Tensor:
    return t.reshape(*t.shape[:-2], t.shape[-1], t.shape[-2]).transpose(-1, -2)


def einsum_suspects(call: Call) -> Suspects:
    """Two axes of one length are exchanged, in an operand or in the result."""
    equation, operands = call.args[0], _operands(call)
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        return
    equation = equation.replace(" ", "")
    inputs, output = equation.split("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        return
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes.update(zip(term, operand.shape, strict=False))
    for i, term in enumerate([*terms, output]):
        place = "the result" if i == len(terms) else f"operand {i + 1}"
        for one, other in itertools.combinations(dict.fromkeys(term), 2):
            if sizes.get(one) != sizes.get(other) or sizes.get(one) == 1:
                continue
            changed = term.translate(str.maketrans(one + other, other + one))
            parts = [changed if j == i else t for j, t in enumerate([*terms, output])]
            other_equation = f"{','.join(parts[:-1])}->{parts[-1]}"
            yield (
                f"the axes {one} and {other} of {place} are exchanged: {other_equation}",
                call.with_arg(0, other_equation),
            )


def _operands(call: Call) -> list[Any]:
    rest = call.args[1:]
    if len(rest) == 1 and isinstance(rest[0], list | tuple):
        rest = rest[0]
    return [t for t in rest if isinstance(t, torch.Tensor)]


def distance_suspects(call: Call) -> Suspects:
    """Cosine similarity, and distances of pairs and of all: not the root, another norm or eps."""
    a = call.given
    x, y = a["x1"], a["x2"]
    if call.name == "cosine_similarity":
        yield "the vectors are not normalised", lambda: (x * y).sum(a["dim"])
        yield "the cosine's distance, 1 less it, in its place", call.then(lambda out: 1 - out)
        for axis in range(max(x.ndim, y.ndim)):
            if axis != a["dim"] % max(x.ndim, y.ndim, 1):
                yield f"the cosine is over axis {axis}", call.with_(dim=axis)
        for eps in (1e-12, 1e-6, 1e-5, 1e-4):
            if eps != a["eps"]:
                yield f"eps is {eps:g} and not {a['eps']:g}", call.with_(eps=eps)
        return
    yield "the distance is squared", call.then(lambda out: out**2)
    for p in (1.0, 2.0):
        if p != a["p"]:
            yield f"the norm is L{p:g} and not L{a['p']:g}", call.with_(p=p)
    if call.name == "pairwise_distance":
        for eps in (0.0, 1e-8, 1e-12):
            if eps != a["eps"]:
                yield f"eps is {eps:g} and not {a['eps']:g}", call.with_(eps=eps)
    yield (
        "the distance is divided by the root of the length",
        call.then(lambda out: out / x.shape[-1] ** 0.5),
    )
