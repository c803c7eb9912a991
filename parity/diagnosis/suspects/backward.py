"""Changes of a call that leave its value and change its gradient."""

import math
from collections.abc import Callable
from typing import Any

import torch

from parity.diagnosis.suspects.batch_norm import normalised_by_constants
from parity.diagnosis.suspects.call import Call, Suspects
from parity.diagnosis.suspects.pooling import tie_suspects


def backward_suspects(call: Call) -> Suspects:
    """Changes of a call that leave its value and change its gradient."""
    call = call.canonical()
    if call.name in DETACHED:
        yield "PyTorch detaches here and JAX does not", lambda: call.x * 1
        return
    yield f"the gradient is stopped at this {call.name}", lambda: detached(call.plain())
    handler = BY_NAME.get(call.name)
    if handler is not None:
        yield from handler(call)
    yield from _operands(call)
    for factor in (-1.0, 0.5, 2.0):
        yield (
            f"the gradient is multiplied by {factor:g} at this {call.name}",
            lambda f=factor: scaled(call.plain(), f),
        )


DETACHED = "detach", "detach_", ".data"


def detached(out: Any) -> Any:
    """Every tensor of a result without its gradient."""
    if isinstance(out, torch.Tensor):
        return out.detach()
    return type(out)(map(detached, out)) if type(out) in (list, tuple) else out


def scaled(out: Any, factor: float) -> Any:
    """The value, whose gradient is multiplied by a factor."""
    if isinstance(out, torch.Tensor) and out.is_floating_point():
        return with_slope(out, out, factor)
    return type(out)(scaled(o, factor) for o in out) if type(out) in (list, tuple) else out


class _WithSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, x: torch.Tensor, slope: Any) -> torch.Tensor:
        ctx.slope = slope
        return value.detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, gradients[0] * ctx.slope, None


def with_slope(value: torch.Tensor, x: torch.Tensor, slope: torch.Tensor | float) -> torch.Tensor:
    """The value, whose derivative by x, element by element, is `slope`."""
    return _WithSlope.apply(value.detach(), x, slope)


def _batch_norm(call: Call) -> Suspects:
    a = call.given
    if a["training"]:
        yield (
            "the gradient does not pass through the batch's statistics",
            lambda: normalised_by_constants(a),
        )
        yield (
            "the gradient does not pass through the batch's mean",
            lambda: normalised_by_constants(a, var=False),
        )
        yield (
            "the gradient does not pass through the batch's variance",
            lambda: normalised_by_constants(a, mean=False),
        )


def _norm(call: Call) -> Suspects:
    """Normalised by constants: the value less its mean by its deviation is linear in x."""
    a = call.given
    x = a["input"]
    if a.get("use_input_stats", True) and call.floats and x.ndim:
        yield "the gradient does not pass through the statistics", lambda: _frozen(call)


def _frozen(call: Call) -> torch.Tensor:
    a = call.given
    x = a["input"]
    if call.name in ("layer_norm", "rms_norm"):
        axes = tuple(range(-len(a["normalized_shape"]), 0))
        shaped = x
    else:
        groups = a["num_groups"] if call.name == "group_norm" else x.shape[1]
        shaped = x.unflatten(1, (groups, -1))
        axes = tuple(range(2, shaped.ndim))
    eps = torch.finfo(x.dtype).eps if a["eps"] is None else a["eps"]
    fixed = shaped.detach()
    if call.name == "rms_norm":
        mean, power = torch.zeros_like(fixed), fixed.square().mean(axes, keepdim=True)
    else:
        power, mean = torch.var_mean(fixed, axes, correction=0, keepdim=True)
    out = ((shaped - mean) / (power + eps).sqrt()).reshape(x.shape)
    weight, bias = a["weight"], a.get("bias")
    if call.name not in ("layer_norm", "rms_norm"):
        shape = (1, -1, *[1] * (x.ndim - 2))
        weight, bias = (None if t is None else t.view(shape) for t in (weight, bias))
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _relu(call: Call) -> Suspects:
    x = call.x
    yield (
        "the gradient passes through the ReLU unchanged",
        lambda: x + (torch.relu(x) - x).detach(),
    )
    yield (
        "the gradient of the ReLU at zero is one and not zero",
        lambda: torch.where(x >= 0, x, torch.zeros_like(x)),
    )
    yield (
        "the gradient of the ReLU at zero is a half and not zero",
        lambda: torch.maximum(x, torch.zeros_like(x)),
    )


def _kinks(call: Call) -> Suspects:
    """Cutting to limits: the gradient at the limits themselves."""
    a, x = call.given, call.x
    if not call.floats:
        return
    low, high = LIMITS.get(call.name, (None, None))
    low, high = a.get("min_val", a.get("min", low)), a.get("max_val", a.get("max", high))
    low, high = -math.inf if low is None else low, math.inf if high is None else high

    def by(at_limits: float) -> Callable[[], torch.Tensor]:
        def thunk() -> torch.Tensor:
            inside = ((x > low) & (x < high)).to(x.dtype)
            edge = ((x == low) | (x == high)).to(x.dtype)
            return with_slope(x.clamp(low, high), x, inside + at_limits * edge)

        return thunk

    for word, value in (("one", 1.0), ("a half", 0.5), ("zero", 0.0)):
        yield f"the gradient of the {call.name} at its limits is {word}", by(value)
    yield (
        f"the gradient passes through the {call.name} unchanged",
        lambda: with_slope(x.clamp(low, high), x, 1.0),
    )


LIMITS = {"relu6": (0.0, 6.0)}


def _at_zero(call: Call) -> Suspects:
    """Functions of one number that have a kink or no derivative at zero."""
    if not call.floats:
        return
    x, name = call.x, call.name.removesuffix("_")
    if name == "abs":
        for word, value in (("one", 1.0), ("minus one", -1.0)):
            yield (
                f"the gradient of the {name} at zero is {word} and not zero",
                lambda v=value: with_slope(
                    x.abs(), x, torch.where(x == 0, torch.full_like(x, v), x.sign())
                ),
            )
    if name == "leaky_relu":
        slope = call.given["negative_slope"]
        yield (
            f"the gradient of the {name} at zero is one and not the slope",
            lambda: torch.where(x >= 0, x, x * slope),
        )
    if name in ("sqrt", "norm", "linalg_vector_norm", "linalg_norm"):
        yield (
            f"the gradient of the {name} at zero is zero",
            lambda: _zeroed(call),
        )
    if name in ("norm", "linalg_vector_norm", "linalg_norm") and "dim" in call.kwargs:
        axes, keep = call.kwargs["dim"], bool(call.kwargs.get("keepdim", False))
        if axes is not None:
            yield (
                f"the gradient of the {name} at zero is not a number",
                lambda: x.square().sum(axes, keep).sqrt(),
            )


def _zeroed(call: Call) -> torch.Tensor:
    """The result, whose gradient is zero where the result is."""
    out = call.plain()
    if call.name == "sqrt":
        x = call.x
        safe = torch.where(x == 0, torch.ones_like(x), x)
        return torch.where(x == 0, torch.zeros_like(x), safe.sqrt())
    return torch.where(out == 0, out.detach(), out)


def _step(call: Call) -> Suspects:
    if call.floats:
        yield (
            f"the gradient passes straight through the {call.name}",
            lambda: with_slope(call.plain(), call.x, 1.0),
        )


def _largest(call: Call) -> Suspects:
    """Of a maximum along an axis: its ties."""
    a = call.given
    x, dim = a["input"], a["dim"]
    if not call.floats or x.ndim == 0 or not isinstance(dim, int):
        return
    keep, name = bool(a["keepdim"]), call.name

    def shared() -> torch.Tensor:
        return (x.amax if name in ("max", "amax") else x.amin)(dim, keep)

    def first() -> Any:
        return (x.max if name in ("max", "amax") else x.min)(dim, keep)

    if name in ("amax", "amin"):
        yield "the first of equal ones gets the whole gradient", lambda: first().values
    else:
        yield (
            "equal ones share the gradient",
            lambda: type(first())((shared(), first().indices)),
        )


def _maximum(call: Call) -> Suspects:
    if len(call.args) != 2 or not all(isinstance(t, torch.Tensor) for t in call.args):
        return
    a, b = call.args
    larger = call.name == "maximum"
    yield (
        "the first of two equal ones gets the whole gradient",
        lambda: torch.where(a >= b if larger else a <= b, a, b),
    )
    yield (
        "the second of two equal ones gets the whole gradient",
        lambda: torch.where(a > b if larger else a < b, a, b),
    )


def _add(call: Call) -> Suspects:
    if len(call.args) < 2:
        return
    a, b = call.args[:2]
    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)) or a.shape != b.shape:
        return
    alpha = call.kwargs.get("alpha", 1)
    yield (
        "the gradient does not pass through the shortcut",
        lambda: a + alpha * b.detach(),
    )
    yield (
        "the gradient passes through the shortcut alone",
        lambda: a.detach() + alpha * b,
    )


def _embedding(call: Call) -> Suspects:
    a = call.given
    if a["padding_idx"] is not None and call.name == "embedding":
        yield (
            f"row {a['padding_idx']} (padding_idx) is trained",
            call.with_(padding_idx=None),
        )
    if a["scale_grad_by_freq"]:
        yield (
            "the gradient is not divided by how often an id is there",
            call.with_(scale_grad_by_freq=False),
        )
    elif not a["input"].is_floating_point():
        yield (
            "the gradient is divided by how often an id is there",
            call.with_(scale_grad_by_freq=True),
        )
    if a["padding_idx"] is None and call.name == "embedding":
        yield "row 0 is not trained: it is taken for padding", call.with_(padding_idx=0)


def _dropout(call: Call) -> Suspects:
    a = call.given
    if call.floats and a["training"] and a["p"]:
        yield (
            "the gradient does not pass through the dropout's mask",
            lambda: with_slope(call.plain(), call.x, 1.0),
        )


def _softmax(call: Call) -> Suspects:
    x, dim = call.x, call.given["dim"]
    if not call.floats or not isinstance(dim, int) or call.name != "softmax":
        return
    if call.given["dtype"] is not None:
        return
    yield (
        "the gradient does not pass through the sum of the exponentials",
        lambda: (x - x.detach().logsumexp(dim, keepdim=True)).exp(),
    )


def _operands(call: Call) -> Suspects:
    """The gradient stops at one operand, by position; parameters are called by their names."""
    names = OPERANDS.get(call.name)
    if names is None:
        return
    if call.name in ("cat", "concat", "concatenate", "stack"):
        parts = call.x
        if not isinstance(parts, list | tuple):
            return
        for i, part in enumerate(parts):
            if isinstance(part, torch.Tensor) and part.is_floating_point():
                yield (
                    f"the gradient does not pass through part {i + 1} of this {call.name}",
                    call.with_input(
                        lambda i=i: [p.detach() if i == j else p for j, p in enumerate(parts)]
                    ),
                )
        return
    if call.name.endswith("_") and not call.name.endswith("__"):
        return  # a detached operand cannot be written to
    values = [*call.args, *call.kwargs.values()]
    keys = [None] * len(call.args) + list(call.kwargs)
    for i, (value, key) in enumerate(zip(values, keys, strict=True)):
        if key is not None and key not in names:
            continue
        if key is None and (i >= len(names) or not names[i]):
            continue
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            yield (
                f"the gradient does not pass through the {key or names[i]} of this {call.name}",
                call.with_arg(i, lambda value=value: value.detach()),
            )


_TWO = "first operand", "second operand"
_LAYER = "input", "weight", "bias"

OPERANDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "matmul", "bmm", "mm", "subtract", "multiply",
                     "divide", "true_divide", "maximum", "minimum", "cdist", "cosine_similarity",
                     "pairwise_distance", "mv", "dot", "pow"), _TWO),
    **dict.fromkeys(("addmm", "baddbmm"), ("bias", *_TWO)),
    "where": ("", *_TWO),
    "lerp": ("first", "second", "weight"),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), ()),
    "linear": _LAYER,
    "bilinear": ("first input", "second input", "weight", "bias"),
    **{f"conv{n}d": _LAYER for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _LAYER for n in (1, 2, 3)},
    "scaled_dot_product_attention": ("query", "key", "value", "mask"),
    "multi_head_attention_forward": ("query", "key", "value"),
    "batch_norm": ("input", "", "", "weight", "bias"),
    "layer_norm": ("input", "", "weight", "bias"),
    "rms_norm": ("input", "", "weight"),
    "group_norm": ("input", "", "weight", "bias"),
    "instance_norm": ("input", "", "", "weight", "bias"),
    "prelu": ("input", "weight"),
    "embedding": ("", "weight"),
}  # fmt: skip
"""What the operands are called whose gradients may be stopped one by one."""

BY_NAME: dict[str, Callable[[Call], Suspects]] = {
    "batch_norm": _batch_norm,
    **dict.fromkeys(("layer_norm", "rms_norm", "group_norm", "instance_norm"), _norm),
    **{f"max_pool{n}d": tie_suspects for n in (1, 2, 3)},
    **dict.fromkeys(("relu", "relu_"), _relu),
    **dict.fromkeys(("relu6", "hardtanh", "hardtanh_", "clamp", "clamp_", "clip"), _kinks),
    **dict.fromkeys(("abs", "sqrt", "norm", "linalg_vector_norm", "linalg_norm", "leaky_relu",
                     "leaky_relu_"), _at_zero),
    **dict.fromkeys(("round", "sign", "floor", "ceil"), _step),
    **dict.fromkeys(("max", "min", "amax", "amin"), _largest),
    **dict.fromkeys(("maximum", "minimum"), _maximum),
    **dict.fromkeys(("add", "add_"), _add),
    **dict.fromkeys(("embedding", "embedding_bag"), _embedding),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), _dropout),
    "softmax": _softmax,
}  # fmt: skip
