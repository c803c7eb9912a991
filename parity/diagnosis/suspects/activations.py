"""Activations: what porting one tends to get wrong."""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects, call_of
from parity.diagnosis.suspects.sizes import of_channels

RATES = 0.5, 0.1, 0.2, 0.3, 0.25, 0.05, 0.15, 0.4, 0.6, 0.7, 0.75, 0.8, 0.9
"""Of dropout, that are tried where it is to be off."""

ACTIVATIONS: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {
    "relu": ("relu", torch.relu),
    "leaky ReLU": ("leaky_relu", F.leaky_relu),
    "relu6": ("relu6", F.relu6),
    "gelu": ("gelu", F.gelu),
    "gelu by tanh": ("gelu", lambda x: F.gelu(x, approximate="tanh")),
    "silu": ("silu", F.silu),
    "elu": ("elu", F.elu),
    "tanh": ("tanh", torch.tanh),
    "sigmoid": ("sigmoid", torch.sigmoid),
    "softplus": ("softplus", F.softplus),
    "quick gelu, x sigmoid(1.702 x),": ("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
    "hardswish": ("hardswish", F.hardswish),
    "mish": ("mish", F.mish),
    "selu": ("selu", F.selu),
    "hard sigmoid, relu6(x + 3) / 6,": (
        "hardsigmoid",
        lambda x: torch.clamp(x + 3, 0, 6) / 6,
    ),
    "hard sigmoid, 0.2 x + 0.5 cut to 0 and 1,": (
        "hardsigmoid_of_keras",
        lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    ),
    "hard tanh": ("hardtanh", F.hardtanh),
    "softsign": ("softsign", F.softsign),
    "log sigmoid": ("log_sigmoid", F.logsigmoid),
    "absolute value": ("abs", torch.abs),
    "squared ReLU": ("relu_squared", lambda x: torch.relu(x).square()),
}
"""What each is called in a sentence, by PyTorch's name, and the function."""

LIKELY = {
    "sigmoid": ("hard sigmoid, relu6(x + 3) / 6,", "hard sigmoid, 0.2 x + 0.5 cut to 0 and 1,"),
    "hardsigmoid": ("hard sigmoid, 0.2 x + 0.5 cut to 0 and 1,", "sigmoid"),
    "silu": ("hardswish",),
    "hardswish": ("silu",),
    "gelu": ("gelu by tanh", "quick gelu, x sigmoid(1.702 x),"),
    "relu6": ("relu",),
    "log_sigmoid": ("sigmoid",),
    "softplus": ("relu", "elu"),
}
"""Those that are tried first."""


def activation_suspects(call: Call) -> Suspects:
    """The activation is missing or another one; a parameter of it is another."""
    if not call.floats:
        return
    x, name = call.x, call.name.removesuffix("_")
    a = call.given
    yield f"the {call.name} is missing", lambda: x * 1
    tanh = name == "gelu" and a["approximate"] == "tanh"
    if tanh:
        yield "gelu without the approximation by tanh", call.with_(approximate="none")
    first = LIKELY.get(name, ())
    for text in (*first, *(text for text in ACTIVATIONS if text not in first)):
        other, function = ACTIVATIONS[text]
        if other == name and (text != "gelu by tanh" or tanh):
            continue
        if other == "elu" and name == "celu" and a["alpha"] == 1:
            continue
        yield f"{text} in the place of {call.name}", call_of(other, function, x)
    yield from _parameters(call)


def _parameters(call: Call) -> Suspects:
    """Slopes, limits and scales."""
    a, name, x = call.given, call.name.removesuffix("_"), call.x
    for key, text, values in PARAMETERS.get(name, ()):
        for value in values:
            if value != a[key]:
                yield f"{text} is {value:g} and not {a[key]:g}", call.with_(**{key: value})
    if name == "softplus":
        beta = a["beta"]
        yield "the softplus is not divided by beta", call.then(lambda out: out * beta)
        yield "log(1 + e^x) is less log 2", call.then(lambda out: out - math.log(2) / beta)
    if name == "elu" and a["alpha"] != 1:
        yield "celu in the place of elu", call_of("celu", F.celu, x, a["alpha"])
    if name == "celu" and a["alpha"] != 1:
        yield "the exponent is not divided by alpha", call_of("elu", F.elu, x, a["alpha"])


PARAMETERS: dict[str, tuple[tuple[str, str, tuple[float, ...]], ...]] = {
    "leaky_relu": (("negative_slope", "the slope", (0.01, 0.1, 0.2, 0.3, 0.25, 0.0)),),
    "elu": (("alpha", "alpha", (1.0, 0.1, 0.5, 1.6732632423543772)),),
    "celu": (("alpha", "alpha", (1.0, 0.1, 0.5)),),
    "hardtanh": (
        ("min_val", "the lower limit", (-1.0, 0.0, -6.0)),
        ("max_val", "the upper limit", (1.0, 6.0)),
    ),
    "softplus": (("beta", "beta", (1.0, 2.0, 0.5, 10.0)), ("threshold", "the threshold", (1e30,))),
    "hardshrink": (("lambd", "lambda", (0.5, 1.0)),),
    "softshrink": (("lambd", "lambda", (0.5, 1.0)),),
    "threshold": (("threshold", "the threshold", (0.0,)), ("value", "the value below", (0.0,))),
}
"""(argument, its name in a sentence, values) of the functions that have parameters."""


def clamp_suspects(call: Call) -> Suspects:
    """The values are not cut, or on one side alone, or between usual limits."""
    if not call.floats:
        return
    a, x = call.given, call.x
    low, high = a["min"], a["max"]
    yield "the values are not cut to limits", lambda: x * 1
    if low is not None and high is not None:
        yield "the values are cut from below alone", call.with_(max=None)
        yield "the values are cut from above alone", call.with_(min=None)
    if low is None or high is None:
        only = high if low is None else low
        if isinstance(only, int | float):
            yield (
                "the values are cut at the limit's other side",
                lambda: torch.clamp(x, max=low, min=high),
            )
    numbers = not any(isinstance(limit, torch.Tensor) for limit in (low, high))
    for limits in ((0.0, 1.0), (-1.0, 1.0), (0.0, 6.0)) if numbers else ():
        if limits != (low, high):
            yield (
                f"the limits are {limits[0]:g} and {limits[1]:g}",
                lambda limits=limits: x.clamp(*limits),
            )


def rrelu_suspects(call: Call) -> Suspects:
    """The randomised leaky ReLU has another slope, or is random in eval mode."""
    a = call.given
    if not call.floats:
        return
    x, lower, upper = call.x, a["lower"], a["upper"]
    for slope in ((lower + upper) / 2, lower, upper, 0.01, 0.0):
        yield f"the slope is {slope:g}", lambda slope=slope: F.leaky_relu(x, slope)
    yield "the rrelu is missing", lambda: x * 1


def prelu_suspects(call: Call) -> Suspects:
    """One slope for all channels, a constant one, on the other side, or along another axis."""
    a = call.given
    x, w = a["input"], a["weight"]
    for slope in (0.01, 0.25, 0.1, 0.2, 0.0):
        yield (
            f"the slope is {slope:g} and not learnt",
            lambda slope=slope: F.leaky_relu(x, slope),
        )
    if w.numel() > 1:
        yield "all channels have the first one's slope", call.with_(weight=lambda: w[:1])
        yield "all channels have the mean of the slopes", call.with_(weight=lambda: w.mean()[None])
        yield "the slopes are in the other order", call.with_(weight=lambda: w.flip(0))
        if x.ndim > 2 and x.shape[-1] == w.numel():
            yield (
                "the slopes are along the last axis and not the channels",
                lambda: torch.where(x > 0, x, x * w),
            )

    def positive() -> torch.Tensor:
        slope = w if w.numel() == 1 else of_channels(w, x.ndim)
        return torch.where(x > 0, x * slope, x)

    yield "the slope is that of the positive side", positive
    yield "the prelu is missing", lambda: x * 1


def glu_suspects(call: Call) -> Suspects:
    """The halves are exchanged or interleaved; the gate has another activation."""
    a = call.given
    x, dim = a["input"], a["dim"]
    if not call.floats or x.ndim == 0 or not isinstance(dim, int):
        return
    axis = dim % x.ndim

    def halves() -> tuple[torch.Tensor, ...]:
        return x.chunk(2, axis)

    def exchanged() -> torch.Tensor:
        value, gate = halves()
        return torch.cat([gate, value], axis)

    yield "the halves are exchanged: the first is the gate", call.with_(input=exchanged)
    if x.shape[axis] > 2:
        yield (
            "the halves are interleaved: every other channel is the gate",
            call.with_(
                input=lambda: (
                    x.unflatten(axis, (-1, 2)).transpose(axis, axis + 1).flatten(axis, axis + 1)
                )
            ),
        )
    gates: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "gelu": F.gelu,
        "silu": F.silu,
        "relu": torch.relu,
        "tanh": torch.tanh,
        "not activated": lambda gate: gate,
        "gelu by tanh": lambda gate: F.gelu(gate, approximate="tanh"),
    }
    for name, function in gates.items():
        yield (
            f"the gate is {name} and not a sigmoid",
            lambda function=function: halves()[0] * function(halves()[1]),
        )
    yield (
        "the value is activated by tanh",
        lambda: torch.tanh(halves()[0]) * torch.sigmoid(halves()[1]),
    )
    yield "the gate is missing", lambda: halves()[0] * 1
    for other in range(x.ndim):
        if other != axis and x.shape[other] % 2 == 0:
            yield f"the halves are of axis {other} and not {axis}", call.with_(dim=other)


def softmax_suspects(call: Call) -> Suspects:
    """The softmax is over some axis, whichever, or missing, or of another temperature."""
    x = call.x
    if not call.floats:
        return
    a = call.given
    name = call.name.replace("_", " ")
    for axis in range(x.ndim):
        if not isinstance(a["dim"], int) or axis != a["dim"] % x.ndim:
            yield f"the {name} is over axis {axis}", call.with_(dim=axis)
    yield f"the {name} is missing", lambda: x * 1
    dim = a["dim"]
    others = {"softmax": torch.softmax, "log_softmax": torch.log_softmax, "sigmoid": torch.sigmoid}
    for other, function in others.items():
        if other == "sigmoid":
            yield f"sigmoid in the place of {name}", call_of(other, function, x)
        elif other != call.name and isinstance(dim, int):
            yield (
                f"{other.replace('_', ' ')} in the place of {name}",
                call_of(other, function, x, dim),
            )
    if call.name == "softmin":
        yield "the sign is not changed before the softmax", call.with_(input=lambda: -x)
    if isinstance(dim, int) and x.ndim > 1:
        yield (
            f"the {name} is over all axes but the batch's",
            lambda: call.function(x.flatten(1), dim=1).reshape(x.shape),
        )
        if call.name != "log_softmax":
            yield f"the {name} is taken twice", call.then(lambda out: call.function(out, dim=dim))
    for temperature in (2.0, 0.5, 0.1, 10.0):
        yield (
            f"the {name} has a temperature of {temperature:g}: a scale of {1 / temperature:g}",
            call.with_input(lambda t=temperature: x / t),
        )
    if isinstance(dim, int) and call.name == "softmax":
        yield (
            "the exponentials are divided by one more than their sum",
            lambda: x.exp() / (1 + x.exp().sum(dim, keepdim=True)),
        )
        yield "the exponentials are not divided by their sum", lambda: x.exp()


def dropout_suspects(call: Call) -> Suspects:
    """The dropout is missing in training, left on, or of another rate."""
    a = call.given
    if not call.floats:
        return
    x, p = call.x, a["p"]
    if not a["training"] or not p:
        for rate in (p, *RATES) if p else RATES:
            at = "" if rate == p else f", at a rate of {rate:g}"
            mode = "training" if a["training"] else "eval mode"
            yield f"the dropout is left on in {mode}{at}", call.with_(p=rate, training=True)
        return
    yield "the dropout is missing in training", lambda: x * 1
    yield "what is kept is not scaled by 1 / (1 - p)", call.then(lambda out: out * (1 - p))
    if p != 0.5:
        yield (
            f"the probability, {p:g}, is of what is kept, not of what is dropped",
            call.with_(p=1 - p),
        )
    for rate in RATES:
        if rate not in (p, 1 - p):
            yield f"the dropout's rate is {rate:g} and not {p:g}", call.with_(p=rate)
