"""Which suspects a call of PyTorch has, forward and backward."""

from collections.abc import Callable, Iterator

import torch

from parity.diagnosis.suspects.call import Call, Thunk
from parity.diagnosis.suspects.elementwise import (
    activation_suspects,
    add_suspects,
    attention_suspects,
    cat_suspects,
    dropout_suspects,
    flatten_suspects,
    mul_suspects,
    softmax_suspects,
)
from parity.diagnosis.suspects.linear import conv_suspects, linear_suspects, pad_suspects
from parity.diagnosis.suspects.norms import (
    batch_norm_suspects,
    norm_suspects,
    normalised_by_constants,
)
from parity.diagnosis.suspects.pooling import max_pool_suspects, mean_suspects


def suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """(cause, the changed call) of every suspect that fits the call."""
    handler = HANDLERS.get(call.name)
    if handler is not None:
        yield from handler(call)


HANDLERS: dict[str, Callable[[Call], Iterator[tuple[str, Thunk]]]] = {
    "conv2d": conv_suspects,
    "linear": linear_suspects,
    "batch_norm": batch_norm_suspects,
    "layer_norm": norm_suspects,
    "group_norm": norm_suspects,
    **dict.fromkeys(("relu", "relu_", "gelu", "silu", "elu", "tanh", "sigmoid", "leaky_relu"),
                    activation_suspects),
    "max_pool2d": max_pool_suspects,
    **dict.fromkeys(("mean", "adaptive_avg_pool2d", "avg_pool2d"), mean_suspects),
    **dict.fromkeys(("flatten", "reshape", "view"), flatten_suspects),
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__"), add_suspects),
    **dict.fromkeys(("mul", "mul_", "__mul__"), mul_suspects),
    "dropout": dropout_suspects,
    "softmax": softmax_suspects,
    "scaled_dot_product_attention": attention_suspects,
    "pad": pad_suspects,
    **dict.fromkeys(("cat", "concat"), cat_suspects),
}  # fmt: skip


def backward_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """Changes of a call that leave its value and change its gradient."""
    out = call.plain
    yield f"the gradient is stopped at this {call.name}", lambda: out().detach()
    if call.name == "batch_norm":
        if call.given["training"]:
            yield (
                "the gradient does not pass through the batch's statistics",
                lambda: normalised_by_constants(call.given),
            )
    if call.name == "max_pool2d":
        for cause, thunk in max_pool_suspects(call):
            if "gradient" in cause:
                yield cause, thunk
    if call.name in ("relu", "relu_"):
        x = call.args[0]
        yield (
            "the gradient passes through the ReLU unchanged",
            lambda: x + (torch.relu(x) - x).detach(),
        )
        yield (
            "the gradient of the ReLU at zero is one and not zero",
            lambda: torch.where(x >= 0, x, torch.zeros_like(x)),
        )
    if call.name in ("add", "add_", "__add__", "__iadd__") and len(call.args) > 1:
        a, b = call.args[:2]
        if isinstance(b, torch.Tensor) and isinstance(a, torch.Tensor) and a.shape == b.shape:
            a, b = a.clone(), b.clone()
            yield "the gradient does not pass through the shortcut", lambda: a + b.detach()
            yield "the gradient passes through the shortcut alone", lambda: a.detach() + b
