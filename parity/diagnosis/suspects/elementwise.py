"""Activations, sums, reshaping, attention: what porting one tends to get wrong."""

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Thunk

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "leaky ReLU": F.leaky_relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "elu": F.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
}


def activation_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The activation is missing or another one; the gradient of a ReLU at zero is one."""
    x = call.args[0]
    yield f"the {call.name} is missing", lambda: x * 1
    for name, function in ACTIVATIONS.items():
        if name != call.name:
            yield f"{name} in the place of {call.name}", lambda function=function: function(x)
    if call.name == "relu":
        yield (
            "the gradient of the ReLU at zero is one and not zero",
            lambda: torch.where(x >= 0, x, torch.zeros_like(x)),
        )


def flatten_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """A feature map [n, c, h, w] is flattened to a matrix in the order h, w, c or c, w, h."""
    x, out = call.args[0], call.plain()
    if not isinstance(x, torch.Tensor) or x.ndim != 4 or out.ndim != 2:
        return
    yield (
        "the feature map is flattened h, w, c and not c, h, w",
        lambda: x.permute(0, 2, 3, 1).reshape(out.shape),
    )
    yield (
        "the feature map is flattened c, w, h and not c, h, w",
        lambda: x.transpose(2, 3).reshape(out.shape),
    )


def add_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """Of a sum of two tensors of one shape: one is missing, scaled, activated or displaced."""
    if len(call.args) < 2:
        return
    a, b = call.args[:2]
    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        return
    if a.shape != b.shape or not a.is_floating_point():
        return
    a, b = a.clone(), b.clone()  # the call may be in place
    yield "the shortcut is missing: the first summand alone", lambda: a
    yield "the second summand alone", lambda: b
    yield "the second summand is subtracted", lambda: a - b
    yield "the ReLU comes before the addition", lambda: torch.relu(a) + b
    yield "the shortcut is activated before the addition", lambda: a + torch.relu(b)
    yield "the sum is averaged", lambda: (a + b) / 2
    yield "the second summand is added twice", lambda: a + 2 * b
    if a.ndim == 4:
        c = b.shape[1]
        yield "the channels of the shortcut are reversed", lambda: a + b.flip(1)
        for shift in (c // 4, -(c // 4)):
            yield "the shortcut's channels are shifted", lambda shift=shift: a + b.roll(shift, 1)


def mul_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The multiplication is missing: the first factor alone, or the second if it is a tensor."""
    a = call.args[0]
    if isinstance(a, torch.Tensor) and a.is_floating_point():
        yield "the multiplication is missing", lambda: a * 1.0
        if len(call.args) > 1 and isinstance(call.args[1], torch.Tensor):
            yield "the multiplication is missing", lambda: call.args[1] * 1.0


def dropout_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The dropout is missing in training."""
    x = call.args[0]
    training = call.kwargs.get("training", call.args[2] if len(call.args) > 2 else True)
    if training:
        yield "the dropout is missing in training", lambda: x * 1


def softmax_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The softmax is over some axis, whichever, or missing."""
    x = call.args[0]
    for axis in range(x.ndim):
        yield f"the softmax is over axis {axis}", lambda axis=axis: torch.softmax(x, axis)
    yield "the softmax is missing", lambda: x * 1


def attention_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The attention is unscaled, causal, or scaled by the number of channels, not its root."""
    q, k, v = call.args[:3]
    attend = F.scaled_dot_product_attention
    yield "the attention is not scaled", lambda: attend(q, k, v, scale=1.0)
    yield "the attention is causal", lambda: attend(q, k, v, is_causal=True)
    yield (
        "the attention is scaled by the number of channels, not its root",
        lambda: attend(q, k, v, scale=1 / q.shape[-1]),
    )


def cat_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """The parts are joined in the other order."""
    tensors, axis = call.args[0], call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
    yield "the parts are joined in the other order", lambda: torch.cat(list(tensors)[::-1], axis)
