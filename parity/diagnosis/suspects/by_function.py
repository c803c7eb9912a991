"""Which suspects a call of PyTorch has."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from parity.diagnosis.suspects.activations import (
    activation_suspects,
    clamp_suspects,
    dropout_suspects,
    glu_suspects,
    prelu_suspects,
    rrelu_suspects,
    softmax_suspects,
)
from parity.diagnosis.suspects.adaptive import adaptive_pool_suspects
from parity.diagnosis.suspects.arithmetic import (
    NAMES,
    add_suspects,
    div_suspects,
    lerp_suspects,
    mul_suspects,
    pow_suspects,
    sub_suspects,
    unary_suspects,
)
from parity.diagnosis.suspects.attention import (
    attention_suspects,
    choice_suspects,
    inversion_suspects,
    triangle_suspects,
)
from parity.diagnosis.suspects.backward import DETACHED, backward_suspects
from parity.diagnosis.suspects.batch_norm import batch_norm_suspects
from parity.diagnosis.suspects.call import Call, Changed, Suspects, Thunk
from parity.diagnosis.suspects.convolution import conv_suspects
from parity.diagnosis.suspects.embedding import embedding_bag_suspects, embedding_suspects
from parity.diagnosis.suspects.multi_head import multi_head_suspects
from parity.diagnosis.suspects.norms import (
    local_response_norm_suspects,
    norm_suspects,
    normalize_suspects,
)
from parity.diagnosis.suspects.padding import pad_suspects
from parity.diagnosis.suspects.parts import (
    cat_suspects,
    chunk_suspects,
    flip_suspects,
    index_suspects,
    roll_suspects,
    scan_suspects,
)
from parity.diagnosis.suspects.pooling import (
    avg_pool_suspects,
    lp_pool_suspects,
    max_pool_suspects,
)
from parity.diagnosis.suspects.products import (
    bilinear_suspects,
    distance_suspects,
    einsum_suspects,
    linear_suspects,
    matmul_suspects,
)
from parity.diagnosis.suspects.recurrent import cell_suspects, recurrent_suspects
from parity.diagnosis.suspects.reductions import (
    extreme_suspects,
    mean_suspects,
    norm_of_vector_suspects,
    variance_suspects,
)
from parity.diagnosis.suspects.resampling import grid_sample_suspects, interpolate_suspects
from parity.diagnosis.suspects.shapes import (
    channel_shuffle_suspects,
    pixel_shuffle_suspects,
    repeat_suspects,
    reshape_suspects,
    transpose_suspects,
    unfold_suspects,
)
from parity.diagnosis.suspects.transposed import transposed_conv_suspects

__all__ = ["HANDLERS", "backward_suspects", "suspects"]


def suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """(cause, the changed call) of every suspect that fits the call, the likeliest first.

    What a call in place writes to its input, a changed call writes too.
    """
    handler = HANDLERS.get(call.name)
    if handler is None:
        return
    call = call.canonical()
    written = _written(call)
    for cause, thunk in handler(call):
        yield cause, thunk if written is None else _writing(written, thunk)
    if written is not None and call.name not in DETACHED:
        yield (
            f"the {call.name} is not in place: its input is read later as it was",
            lambda: call.with_input(lambda: written.clone())(),
        )


def _written(call: Call) -> torch.Tensor | None:
    """The tensor that a call in place writes to."""
    named = call.name.endswith("_") and not call.name.startswith("__")
    if not named and not call.kwargs.get("inplace", False):
        return None
    return call.x if call.floats else None


def _writing(written: torch.Tensor, thunk: Thunk) -> Thunk:
    """The result, that is written in the tensor where it fits in."""

    def write(out: Any) -> Any:
        if not isinstance(out, torch.Tensor) or out.shape != written.shape:
            return out
        with torch.no_grad():
            return written.copy_(out)

    if isinstance(thunk, Changed):
        return Changed(lambda: thunk.call.then(write).call)
    return lambda: write(thunk())


def _none(call: Call) -> Suspects:
    """Of a function whose gradient alone may be another."""
    yield from ()


_SPATIAL = 1, 2, 3

HANDLERS: dict[str, Callable[[Call], Suspects]] = {
    **{f"conv{n}d": conv_suspects for n in _SPATIAL},
    **{f"conv_transpose{n}d": transposed_conv_suspects for n in _SPATIAL},
    "linear": linear_suspects,
    "bilinear": bilinear_suspects,
    **dict.fromkeys(("matmul", "bmm", "mm", "addmm", "baddbmm", "mv", "dot"), matmul_suspects),
    "einsum": einsum_suspects,
    "batch_norm": batch_norm_suspects,
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm"), norm_suspects),
    "local_response_norm": local_response_norm_suspects,
    "normalize": normalize_suspects,
    **dict.fromkeys(("relu", "relu_", "relu6", "gelu", "silu", "elu", "elu_", "celu", "celu_",
                     "selu", "selu_", "mish", "tanh", "tanh_", "sigmoid", "sigmoid_",
                     "leaky_relu", "leaky_relu_", "hardswish", "hardsigmoid", "hardtanh",
                     "hardtanh_", "softplus", "softsign", "tanhshrink", "hardshrink",
                     "softshrink", "threshold", "log_sigmoid"), activation_suspects),
    "rrelu": rrelu_suspects,
    "prelu": prelu_suspects,
    "glu": glu_suspects,
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), clamp_suspects),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), softmax_suspects),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
                     "feature_alpha_dropout"), dropout_suspects),
    **{f"max_pool{n}d{end}": max_pool_suspects for n in _SPATIAL for end in ("", "_with_indices")},
    **{f"avg_pool{n}d": avg_pool_suspects for n in _SPATIAL},
    **{f"lp_pool{n}d": lp_pool_suspects for n in _SPATIAL},
    **{f"adaptive_{kind}_pool{n}d": adaptive_pool_suspects
       for n in _SPATIAL for kind in ("avg", "max")},
    **dict.fromkeys(("mean", "sum"), mean_suspects),
    **dict.fromkeys(("max", "min", "amax", "amin", "logsumexp"), extreme_suspects),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), variance_suspects),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm"), norm_of_vector_suspects),
    "interpolate": interpolate_suspects,
    **dict.fromkeys(("grid_sample", "affine_grid"), grid_sample_suspects),
    "pad": pad_suspects,
    "embedding": embedding_suspects,
    "embedding_bag": embedding_bag_suspects,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent_suspects),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), cell_suspects),
    "scaled_dot_product_attention": attention_suspects,
    "multi_head_attention_forward": multi_head_suspects,
    **dict.fromkeys(("where", "masked_fill", "masked_fill_"), choice_suspects),
    **dict.fromkeys(("tril", "triu"), triangle_suspects),
    **dict.fromkeys(("logical_not", "bitwise_not", "__invert__"), inversion_suspects),
    **dict.fromkeys(("flatten", "reshape", "view", "unflatten", "reshape_as", "view_as"),
                    reshape_suspects),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t",
                     ".T", ".mT"), transpose_suspects),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), pixel_shuffle_suspects),
    "channel_shuffle": channel_shuffle_suspects,
    **dict.fromkeys(("fold", "unfold"), unfold_suspects),
    **dict.fromkeys(("repeat", "tile", "repeat_interleave"), repeat_suspects),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), cat_suspects),
    **dict.fromkeys(("chunk", "split", "tensor_split", "unbind"), chunk_suspects),
    "roll": roll_suspects,
    "flip": flip_suspects,
    "__getitem__": index_suspects,
    **dict.fromkeys(("cumsum", "cumprod"), scan_suspects),
    **dict.fromkeys(("add", "add_"), add_suspects),
    **dict.fromkeys(("sub", "sub_", "subtract", "rsub", "__rsub__"), sub_suspects),
    **dict.fromkeys(("mul", "mul_", "multiply"), mul_suspects),
    **dict.fromkeys(("div", "div_", "true_divide", "divide", "__rdiv__"), div_suspects),
    **dict.fromkeys(("pow", "pow_", "float_power"), pow_suspects),
    **dict.fromkeys(NAMES, unary_suspects),
    "lerp": lerp_suspects,
    **dict.fromkeys(("cosine_similarity", "pairwise_distance", "cdist"), distance_suspects),
    **dict.fromkeys((*DETACHED, "round", "sign", "floor", "ceil", "maximum", "minimum"), _none),
}  # fmt: skip
"""The suspects of each function, by the name that a `TorchFunctionMode` sees."""
