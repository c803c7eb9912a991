"""Sums, products, powers and roots: what porting one tends to get wrong."""

from typing import Any

import torch

from parity.diagnosis.suspects.call import Call, Suspects
from parity.diagnosis.suspects.norms import EPSILONS


def _operands(call: Call) -> tuple[Any, Any] | None:
    """Both operands, where one at least is a tensor of floats and nothing is written elsewhere."""
    named = [call.kwargs[name] for name in ("other", "exponent") if name in call.kwargs]
    a, b = (*[*call.args, *named], None, None)[:2]
    if b is None or "out" in call.kwargs:
        return None
    if not any(isinstance(t, torch.Tensor) and t.is_floating_point() for t in (a, b)):
        return None
    numbers = all(isinstance(t, torch.Tensor | int | float) for t in (a, b))
    return (a, b) if numbers else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def add_suspects(call: Call) -> Suspects:
    """Of a sum: a summand is missing, scaled, activated or displaced; or another eps is added."""
    operands = _operands(call)
    if operands is None:
        return
    a, b = operands
    constant = _number(b)
    if constant is not None:
        yield from _constant_suspects(call, constant)
        return
    if not isinstance(a, torch.Tensor):
        yield from _constant_suspects(call._replace(args=(b, a)), float(a))
        return
    alpha = call.kwargs.get("alpha", 1)
    if alpha != 1:
        yield "alpha is ignored", lambda b=b: a + b
        b = alpha * b
    if not (a.is_floating_point() and b.is_floating_point()):
        return
    if a.shape != b.shape:
        yield "the second summand is missing", lambda: a + 0 * b
        yield "the first summand is missing", lambda: 0 * a + b
        yield "the second summand is subtracted", lambda: a - b
        yield "the second summand is added twice", lambda: a + 2 * b
        yield from _positions(a, b)
        return
    yield "the shortcut is missing: the first summand alone", lambda: a * 1
    yield "the second summand alone", lambda: b * 1
    yield "the second summand is subtracted", lambda: a - b
    yield "the ReLU comes before the addition", lambda: torch.relu(a) + b
    yield "the shortcut is activated before the addition", lambda: a + torch.relu(b)
    yield "both summands are activated before the addition", lambda: torch.relu(a) + torch.relu(b)
    yield "the sum is activated", lambda: torch.relu(a + b)
    yield "the sum is averaged", lambda: (a + b) / 2
    yield "the sum is divided by the root of two", lambda: (a + b) / 2**0.5
    yield "the second summand is added twice", lambda: a + 2 * b
    yield "the first summand is added twice", lambda: 2 * a + b
    yield "the summands are multiplied", lambda: a * b
    if a.ndim == 4:
        c = b.shape[1]
        yield "the channels of the shortcut are reversed", lambda: a + b.flip(1)
        for shift in dict.fromkeys((c // 4, -(c // 4))):
            if shift:
                yield "the shortcut's channels are shifted", lambda s=shift: a + b.roll(s, 1)
    for scale in (0.1, 0.2, 0.3, 0.5):
        yield f"the second summand is scaled by {scale:g}", lambda s=scale: a + s * b
        yield f"the first summand is scaled by {scale:g}", lambda s=scale: s * a + b


def _positions(a: torch.Tensor, b: torch.Tensor) -> Suspects:
    """Embeddings of positions, [1, l, d] or [l, d], that are added one place too late, or so."""
    if b.ndim < 2 or b.shape[-2] < 3 or b.ndim > a.ndim:
        return
    for shift, way in ((1, "later"), (-1, "earlier")):
        yield (
            f"the second summand is shifted by one position, {way}",
            lambda s=shift: a + b.roll(s, -2),
        )
    for way, number in (("first", 0), ("last", -1)):
        index = torch.tensor([number % b.shape[-2]], device=b.device)
        yield (
            f"the {way} position of the second summand is not added",
            lambda i=index: a + b.index_fill(-2, i, 0.0),
        )
    yield "the positions of the second summand are in the other order", lambda: a + b.flip(-2)


def _constant_suspects(call: Call, constant: float) -> Suspects:
    """Of x + c: c is missing, or another; of a small c, an eps, it belongs outside the root."""
    x = call.x
    if not constant:
        return
    if 0 < constant <= 1e-2:
        for eps in EPSILONS:
            if eps != constant:
                yield f"eps is {eps:g} and not {constant:g}", lambda eps=eps: x + eps
        yield (
            "eps is added outside the root and not under it",
            lambda: (x.clamp(min=0).sqrt() + constant).square(),
        )
        yield (
            "eps is added under the root and not outside it",
            lambda: (x.square() + constant).sqrt(),
        )
        yield "eps is the smallest value and is not added", lambda: x.clamp(min=constant)
        return
    scale = ": the scale is the weight alone" if isinstance(x, torch.nn.Parameter) else ""
    yield f"the constant {constant:g} is not added{scale}", lambda: x * 1
    yield f"the constant {constant:g} is subtracted", lambda: x - constant


def sub_suspects(call: Call) -> Suspects:
    """Of a difference: it is missing, a sum, or the other way round."""
    operands = _operands(call)
    if operands is None:
        return
    a, b = operands
    if call.name in ("rsub", "__rsub__"):
        a, b = b, a
    if isinstance(a, torch.Tensor):
        yield "the subtraction is missing", lambda: a + 0 * b
    yield "the two are exchanged in the subtraction", lambda: b - a
    yield "it is added and not subtracted", lambda: a + b
    if isinstance(b, torch.Tensor):
        yield "the second alone, without the subtraction", lambda: 0 * a + b
        yield "the second alone, negated", lambda: 0 * a - b


def mul_suspects(call: Call) -> Suspects:
    """The multiplication is missing, or its factor another: its square, root or inverse."""
    operands = _operands(call)
    if operands is None:
        return
    a, b = operands
    if not isinstance(a, torch.Tensor):
        a, b = b, a
    factor = _number(b)
    if factor is not None:
        yield f"the multiplication is missing: the factor {factor:g}", lambda: a * 1.0
        yield "the multiplication is done twice", lambda: a * factor * factor
        if factor > 0:
            yield "the factor's root in its place", lambda: a * factor**0.5
        if factor:
            yield "it is divided and not multiplied", lambda: a / factor
        return
    yield "the multiplication is missing", lambda: a * torch.ones_like(b)
    yield "the multiplication is missing: the second factor alone", lambda: torch.ones_like(a) * b
    yield "the factor is 1 + the second", lambda: a * (1 + b)
    yield "the factor is 1 + the first", lambda: (1 + a) * b
    yield "the two are added and not multiplied", lambda: a + b
    if b.is_floating_point():
        yield "the second factor is activated by a sigmoid", lambda: a * torch.sigmoid(b)
        yield "it is divided and not multiplied", lambda: a / b


def div_suspects(call: Call) -> Suspects:
    """The division is missing, upside down, or by another divisor: the root or the square."""
    operands = _operands(call)
    if operands is None or call.kwargs.get("rounding_mode") is not None:
        return
    a, b = operands
    if call.name == "__rdiv__":
        a, b = b, a
    number = _number(b)
    missing = "" if number is None else f": the divisor {number:g}"
    if isinstance(a, torch.Tensor):
        one = torch.ones_like(b) if isinstance(b, torch.Tensor) else 1.0
        yield f"the division is missing{missing}", lambda: a * one
    yield "it is multiplied and not divided", lambda: a * b
    yield "it is divided by the root of the divisor", lambda: a / b**0.5
    yield "it is divided by the square of the divisor", lambda: a / (b * b)
    if number != 0:
        yield "the two are exchanged in the division", lambda: b / a


def pow_suspects(call: Call) -> Suspects:
    """The power is another or missing."""
    operands = _operands(call)
    if operands is None:
        return
    x, exponent = operands[0], _number(operands[1])
    if exponent is None or not isinstance(x, torch.Tensor):
        return
    yield "the power is missing", lambda: x * 1
    yield "the magnitude in the place of the power", lambda: x.abs()
    for other in (2.0, 3.0, 0.5, -0.5, -1.0):
        if other != exponent:
            yield f"the power is {other:g} and not {exponent:g}", lambda p=other: x**p


def unary_suspects(call: Call) -> Suspects:
    """Of a root, square, inverse, logarithm or exponential: it is missing or another."""
    if not call.floats:
        return
    x = call.x
    name = call.name.removesuffix("_")
    yield f"the {NAMES[name]} is missing", lambda: x * 1
    for text, function in UNARY.get(name, {}).items():
        yield f"{text} in the place of the {NAMES[name]}", lambda f=function: f(x)


NAMES = {
    "sqrt": "root", "rsqrt": "inverse root", "square": "square", "abs": "magnitude",
    "reciprocal": "inverse", "exp": "exponential", "log": "logarithm", "neg": "change of sign",
    "sin": "sine", "cos": "cosine", "log1p": "logarithm of 1 + x", "expm1": "exponential less 1",
}  # fmt: skip

UNARY = {
    "sqrt": {"the square": torch.square, "the inverse root": torch.rsqrt},
    "rsqrt": {"the root": torch.sqrt, "the inverse": torch.reciprocal},
    "square": {"the magnitude": torch.abs, "the fourth power": lambda x: x**4},
    "abs": {"the square": torch.square, "the ReLU": torch.relu},
    "reciprocal": {"the inverse root": torch.rsqrt, "the change of sign": torch.neg},
    "exp": {"the exponential of a half": lambda x: (x / 2).exp(),
            "the exponential of the double": lambda x: (2 * x).exp(),
            "the softplus": torch.nn.functional.softplus,
            "the exponential less 1": torch.expm1},
    "log": {"the logarithm of 1 + x": torch.log1p, "the logarithm to base 2": torch.log2,
            "the logarithm to base 10": torch.log10},
    "log1p": {"the logarithm": torch.log},
    "expm1": {"the exponential": torch.exp},
    "sin": {"the cosine": torch.cos},
    "cos": {"the sine": torch.sin},
}  # fmt: skip


def lerp_suspects(call: Call) -> Suspects:
    """The weight is that of the other end."""
    a = call.given
    if not call.floats or a["end"] is None:
        return
    weight = a["weight"]
    yield "the weight is the first's and not the second's", call.with_(weight=1 - weight)
    yield "the interpolation is missing: the first alone", lambda: a["input"] * 1
    yield "the interpolation is missing: the second alone", lambda: a["end"] * 1
