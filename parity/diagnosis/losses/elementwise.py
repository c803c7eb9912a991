"""The small operations that losses are written of: what porting one tends to get wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.losses.calls import LossCall, Suspect, floating

EPS = 1e-8, 1e-6, 1e-7, 1e-5, 1e-12, 1e-10, 1e-9


def of_first(text: str, function: Callable[..., Any]) -> Suspect:
    """Another function of the call's first argument."""
    return Suspect(text, make=lambda call: function(call.args[0]))


def of_two(text: str, function: Callable[..., Any]) -> Suspect:
    """Another function of the call's two arguments."""
    return Suspect(text, make=lambda call: function(*call.args[:2]))


UNARY: dict[str, dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "log": {
        "the logarithm is to the base 2": torch.log2,
        "the logarithm is to the base 10": torch.log10,
        "log(1 + x) in the place of log(x)": torch.log1p,
        "the logarithm is missing": lambda x: x * 1,
        **{f"{e:g} is added before the logarithm": lambda x, e=e: (x + e).log() for e in EPS},
        **{f"the logarithm is cut at {e:g}": lambda x, e=e: x.clamp(min=e).log() for e in EPS},
    },
    "log1p": {"log(x) in the place of log(1 + x)": torch.log},
    "exp": {
        "the exponential is missing": lambda x: x * 1,
        "exp(x / 2) in the place of exp(x)": lambda x: (x / 2).exp(),
        "exp(2 x) in the place of exp(x)": lambda x: (2 * x).exp(),
        "softplus in the place of exp": F.softplus,
        "the exponent's sign is wrong": lambda x: (-x).exp(),
    },
    "square": {"the square is missing": lambda x: x * 1, "abs in the place of square": torch.abs},
    "abs": {"square in the place of abs": torch.square, "the abs is missing": lambda x: x * 1},
    "sqrt": {
        "the square root is missing": lambda x: x * 1,
        **{f"{e:g} is added under the root": lambda x, e=e: (x + e).sqrt() for e in EPS},
    },
    "sigmoid": {
        "the sigmoid is missing": lambda x: x * 1,
        "the sigmoid is applied twice": lambda x: x.sigmoid().sigmoid(),
        "softmax in the place of sigmoid": lambda x: x.softmax(-1),
        "tanh in the place of sigmoid": torch.tanh,
    },
    "tanh": {
        "the tanh is missing": lambda x: x * 1,
        "sigmoid in the place of tanh": torch.sigmoid,
    },
    "relu": {
        "the relu is missing": lambda x: x * 1,
        "the relu is squared": lambda x: x.relu().square(),
        "softplus in the place of relu": F.softplus,
    },
    "softplus": {
        "relu in the place of softplus": torch.relu,
        "exp in the place of softplus": torch.exp,
    },
    "logsigmoid": {
        "the logarithm is missing: sigmoid in the place of log-sigmoid": torch.sigmoid,
        "the sign within the log-sigmoid is wrong": lambda x: F.logsigmoid(-x),
        **{
            f"{e:g} is added before the logarithm": lambda x, e=e: (x.sigmoid() + e).log()
            for e in EPS
        },
    },
    "neg": {"the sign is wrong": lambda x: x * 1},
    "masked_fill": {"the mask is not applied": lambda x: x * 1},
    "clamp": {"the values are not cut": lambda x: x * 1},
    "normalize": {
        "the vectors are not normalised": lambda x: x * 1,
        "the vectors are divided by their squared norm": lambda x: (
            x / x.square().sum(-1, keepdim=True)
        ),
        "the vectors are normalised over axis 0": lambda x: F.normalize(x, dim=0),
    },
}
UNARY["clamp_min"] = UNARY["relu"]
"""By function: what stands in its place."""

BINARY: dict[str, dict[str, Callable[..., Any]]] = {
    "add": {
        "the second summand is missing": lambda a, b: a * 1,
        "the first summand is missing": lambda a, b: b * 1,
        "the second summand is subtracted": lambda a, b: a - b,
        "the second summand is added twice": lambda a, b: a + 2 * b,
    },
    "sub": {
        "nothing is subtracted": lambda a, b: a * 1,
        "the first term of the difference is missing": lambda a, b: -b,
        "the difference is the other way round": lambda a, b: b - a,
        "the second term is added and not subtracted": lambda a, b: a + b,
    },
    "mul": {
        "the second factor is missing": lambda a, b: a * 1,
        "the first factor is missing": lambda a, b: b * 1,
        "it is divided and not multiplied": lambda a, b: a / b,
        "the second factor is inverted: 1 - x": lambda a, b: a * (1 - b),
        "the first factor is inverted: 1 - x": lambda a, b: (1 - a) * b,
    },
    "div": {
        "the division is missing": lambda a, b: a * 1,
        "it is multiplied and not divided": lambda a, b: a * b,
        "it is divided by the root": lambda a, b: a / b**0.5,
        "it is divided by the square": lambda a, b: a / b**2,
    },
    "__rsub__": {"x in the place of 1 - x": lambda x, one: x * 1},
    "maximum": {"minimum in the place of maximum": torch.minimum},
    "minimum": {"maximum in the place of minimum": torch.maximum},
    "cosine_similarity": {"the vectors are not normalised": lambda a, b: (a * b).sum(-1)},
    "pairwise_distance": {
        "the distances are squared": lambda a, b: F.pairwise_distance(a, b) ** 2,
        "the distance is without PyTorch's eps": lambda a, b: (a - b).norm(dim=-1),
        "the distances are squared, without PyTorch's eps": lambda a, b: (a - b).square().sum(-1),
    },
    "matmul": {"the second matrix is transposed": lambda a, b: a @ b.mT},
}
for _name, _of in (("max", "maximum"), ("min", "minimum")):
    BINARY[_name] = BINARY[_of]
for _name in ("add", "sub", "mul", "div"):
    BINARY[f"__{_name}__"] = BINARY[f"{_name}_"] = BINARY[_name]
BINARY["true_divide"] = BINARY["__truediv__"] = BINARY["div"]
"""By function: what two tensors, or a tensor and a number, are combined to instead."""


def elementwise(call: LossCall) -> Iterator[Suspect]:
    """The suspects of one small operation."""
    if not call.args:
        return
    for text, function in UNARY.get(call.name, {}).items():
        yield of_first(text, function)
    if len(call.args) > 1:
        for text, function in BINARY.get(call.name, {}).items():
            yield of_two(text, function)
        if call.name in ("sub", "__sub__"):
            yield from _broadcast(call)
    handler = _OTHERS.get(call.name)
    if handler is not None:
        yield from handler(call)


def _broadcast(call: LossCall) -> Iterator[Suspect]:
    a, b = call.args[:2]
    if not (floating(a) and floating(b)) or a.numel() != b.numel() or a.numel() < 2:
        return
    if a.numel() == len(a) and b.numel() == len(b):
        yield of_two(
            "[n, 1] and [n] are broadcast to [n, n]",
            lambda a, b: a.reshape(-1, 1) - b.reshape(1, -1),
        )


def _axis(call: LossCall) -> Any:
    return call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)


def _reduction(call: LossCall) -> Iterator[Suspect]:
    """`sum` for `mean` and the reverse, over another axis; a mask's sum as its size."""
    x, axis = call.args[0], _axis(call)
    options = (
        {} if axis is None else {"dim": axis, "keepdim": bool(call.kwargs.get("keepdim", False))}
    )
    if call.name == "mean":
        yield of_first("it is summed and not averaged", lambda x: x.sum(**options))
    else:
        zeros_and_ones = bool(((x == 0) | (x == 1)).all()) and bool((x == 0).any())
        if zeros_and_ones:
            yield of_first(
                "the divisor counts all, those that the mask leaves out too",
                lambda x: torch.ones_like(x).sum(**options),
            )
        yield of_first("it is averaged and not summed", lambda x: x.to(_wide(x)).mean(**options))
    if axis is None and floating(x):
        yield Suspect(
            "it is summed and divided by the number of examples",
            make=lambda call: call.args[0].sum() / call.examples,
        )
        if call.name == "mean":
            yield Suspect("it is averaged over nothing", make=lambda call: call.args[0] * 1)
    elif isinstance(axis, int):
        for other in range(x.ndim):
            if other != axis % x.ndim:
                yield of_first(
                    f"it is over axis {other} and not {axis % x.ndim}",
                    lambda x, other=other: getattr(x, call.name)(**{**options, "dim": other}),
                )


def _wide(x: torch.Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float64


def _softmax(call: LossCall) -> Iterator[Suspect]:
    x, function = call.args[0], {"softmax": torch.softmax, "log_softmax": torch.log_softmax}
    own = call.name.lstrip("_")
    axis = _axis(call)
    axis = (-1 if axis is None else axis) % x.ndim
    yield of_first(
        "softmax is applied twice", lambda x: function[own](torch.softmax(x, axis), axis)
    )
    yield of_first(f"the {own} is missing", lambda x: x * 1)
    other = "softmax" if own == "log_softmax" else "log_softmax"
    yield of_first(f"{other} in the place of {own}", lambda x: function[other](x, axis))
    for wrong in range(x.ndim):
        if wrong != axis:
            yield of_first(
                f"the {own} is over axis {wrong} and not {axis}",
                lambda x, wrong=wrong: function[own](x, wrong),
            )
    if own == "log_softmax":
        for e in EPS:
            yield of_first(
                f"{e:g} is added to the probabilities before the logarithm",
                lambda x, e=e: (x.softmax(axis) + e).log(),
            )
            yield of_first(
                f"the probabilities are cut at {e:g} before the logarithm",
                lambda x, e=e: x.softmax(axis).clamp(min=e).log(),
            )


def _variance(call: LossCall) -> Iterator[Suspect]:
    biased = call.kwargs.get("correction") == 0 or call.kwargs.get("unbiased") is False
    text = "unbiased: divided by n - 1" if biased else "biased: divided by n"
    options = {"dim": _axis(call), "keepdim": bool(call.kwargs.get("keepdim", False))}
    function = {"var": torch.var, "std": torch.std}[call.name]
    yield of_first(
        f"the {call.name} is {text}", lambda x: function(x, correction=int(biased), **options)
    )


def _where(call: LossCall) -> Iterator[Suspect]:
    if len(call.args) == 3:
        for text, order in {
            "the branches are exchanged": (2, 1),
            "the first branch is always taken": (1, 1),
            "the second branch is always taken": (2, 2),
        }.items():
            yield Suspect(
                text,
                make=lambda call, order=order: torch.where(
                    call.args[0], *(torch.as_tensor(call.args[i]) for i in order)
                ),
            )


def _getitem(call: LossCall) -> Iterator[Suspect]:
    """A mask that is not applied; one end of a sequence cut in the place of the other."""
    x, index = call.args[:2]
    if isinstance(index, torch.Tensor) and index.dtype == torch.bool:
        yield of_first("the mask is not applied", lambda x: x.flatten(0, index.ndim - 1))
        yield Suspect("the mask is inverted", make=lambda call: call.args[0][~call.args[1]])
        return
    cut = cut_of(index)
    if cut is not None:
        axis, part = cut
        yield Suspect(NOT_SHIFTED, make=lambda call: call.args[0] * 1)
        parts = list(index) if isinstance(index, tuple) else [index]
        parts[axis] = slice(1, None) if part == slice(None, -1) else slice(None, -1)
        end = "first" if part == slice(None, -1) else "last"
        yield of_first(
            f"the {end} position is left out and not the other end's", lambda x: x[tuple(parts)]
        )


NOT_SHIFTED = "the labels are not shifted by one position"


def cut_of(index: Any) -> tuple[int, slice] | None:
    """(place in the index, part) where it leaves the first or the last position out."""
    for place, part in enumerate(index if isinstance(index, tuple) else (index,)):
        if part in (slice(1, None), slice(None, -1)) and isinstance(part, slice):
            return place, part
    return None


def _gather(call: LossCall) -> Iterator[Suspect]:
    del call
    yield Suspect(
        "the labels belong to other rows",
        make=lambda call: torch.gather(call.args[0], call.args[1], call.args[2].roll(1, 0)),
    )


_OTHERS: dict[str, Callable[[LossCall], Iterator[Suspect]]] = {
    "mean": _reduction,
    "sum": _reduction,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "var": _variance,
    "std": _variance,
    "where": _where,
    "__getitem__": _getitem,
    "gather": _gather,
}
