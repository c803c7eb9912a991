"""The arguments, in order and with defaults, of the functions whose arguments are varied."""

from typing import Any

REQUIRED = object()
"""In the place of a default that there is none of."""

ALIASES = {"axis": "dim", "keepdims": "keepdim"}
"""NumPy's names, which PyTorch takes too."""


def _arguments(required: str, **optional: Any) -> dict[str, Any]:
    return {**dict.fromkeys(required.split(), REQUIRED), **optional}


_CONV = _arguments("input weight", bias=None, stride=1, padding=0, dilation=1, groups=1)
_TRANSPOSED = _arguments(
    "input weight", bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
)
_MAX_POOL = _arguments(
    "input kernel_size", stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
)
_AVG_POOL = _arguments(
    "input kernel_size", stride=None, padding=0, ceil_mode=False, count_include_pad=True
)
_DIVIDED_POOL = {**_AVG_POOL, "divisor_override": None}
_LP_POOL = _arguments("input norm_type kernel_size", stride=None, ceil_mode=False)
_ADAPTIVE_MAX = _arguments("input output_size", return_indices=False)
_ADAPTIVE_AVG = _arguments("input output_size")
_CELL = _arguments("input hx w_ih w_hh", b_ih=None, b_hh=None)
_RECURRENT = _arguments(
    "input hx weights has_biases num_layers dropout train bidirectional batch_first"
)
_REDUCTION = _arguments("input", dim=None, keepdim=False, dtype=None)
_INPLACE = _arguments("input", inplace=False)
_SOFTMAX = _arguments("input", dim=None, _stacklevel=3, dtype=None)
_DROPOUT = _arguments("input", p=0.5, training=True, inplace=False)
_BINARY = _arguments("input other", alpha=1)

ARGUMENTS: dict[str, dict[str, Any]] = {
    **{f"conv{n}d": _CONV for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _TRANSPOSED for n in (1, 2, 3)},
    "linear": _arguments("input weight", bias=None),
    "bilinear": _arguments("input1 input2 weight", bias=None),
    "batch_norm": _arguments(
        "input running_mean running_var",
        weight=None, bias=None, training=False, momentum=0.1, eps=1e-5,
    ),
    "instance_norm": _arguments(
        "input", running_mean=None, running_var=None,
        weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5,
    ),
    "layer_norm": _arguments("input normalized_shape", weight=None, bias=None, eps=1e-5),
    "rms_norm": _arguments("input normalized_shape", weight=None, eps=None),
    "group_norm": _arguments("input num_groups", weight=None, bias=None, eps=1e-5),
    "local_response_norm": _arguments("input size", alpha=1e-4, beta=0.75, k=1.0),
    "normalize": _arguments("input", p=2.0, dim=1, eps=1e-12, out=None),
    **{f"max_pool{n}d{end}": _MAX_POOL for n in (1, 2, 3) for end in ("", "_with_indices")},
    "avg_pool1d": _AVG_POOL,
    "avg_pool2d": _DIVIDED_POOL,
    "avg_pool3d": _DIVIDED_POOL,
    **{f"lp_pool{n}d": _LP_POOL for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _ADAPTIVE_MAX for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _ADAPTIVE_AVG for n in (1, 2, 3)},
    "interpolate": _arguments(
        "input", size=None, scale_factor=None, mode="nearest", align_corners=None,
        recompute_scale_factor=None, antialias=False,
    ),
    "grid_sample": _arguments(
        "input grid", mode="bilinear", padding_mode="zeros", align_corners=None
    ),
    "affine_grid": _arguments("theta size", align_corners=None),
    "pad": _arguments("input pad", mode="constant", value=None),
    "embedding": _arguments(
        "input weight", padding_idx=None, max_norm=None, norm_type=2.0,
        scale_grad_by_freq=False, sparse=False,
    ),
    "embedding_bag": _arguments(
        "input weight", offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
        mode="mean", sparse=False, per_sample_weights=None, include_last_offset=False,
        padding_idx=None,
    ),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _RECURRENT),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _CELL),
    "scaled_dot_product_attention": _arguments(
        "query key value", attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
        enable_gqa=False,
    ),
    "multi_head_attention_forward": _arguments(
        "query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v"
        " add_zero_attn dropout_p out_proj_weight out_proj_bias",
        training=True, key_padding_mask=None, need_weights=True, attn_mask=None,
        use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None,
        v_proj_weight=None, static_k=None, static_v=None, average_attn_weights=True,
        is_causal=False,
    ),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), _SOFTMAX),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
                     "feature_alpha_dropout"), _DROPOUT),
    **dict.fromkeys(("relu", "relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid", "relu_",
                     "selu_", "tanh", "tanh_", "sigmoid", "sigmoid_", "log_sigmoid", "softsign",
                     "tanhshrink"),
                    _INPLACE),
    "gelu": _arguments("input", approximate="none"),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"),
                    _arguments("input", negative_slope=0.01, inplace=False)),
    **dict.fromkeys(("elu", "elu_", "celu", "celu_"),
                    _arguments("input", alpha=1.0, inplace=False)),
    **dict.fromkeys(("hardtanh", "hardtanh_"),
                    _arguments("input", min_val=-1.0, max_val=1.0, inplace=False)),
    "softplus": _arguments("input", beta=1, threshold=20),
    **dict.fromkeys(("hardshrink", "softshrink"), _arguments("input", lambd=0.5)),
    "threshold": _arguments("input threshold value", inplace=False),
    "rrelu": _arguments("input", lower=1 / 8, upper=1 / 3, training=False, inplace=False),
    "prelu": _arguments("input weight"),
    "glu": _arguments("input", dim=-1),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"),
                    _arguments("input", min=None, max=None)),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "logsumexp"), _REDUCTION),
    **dict.fromkeys(("cumsum", "cumprod"), _arguments("input dim", dtype=None)),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), _arguments("tensors", dim=0)),
    **dict.fromkeys(("chunk", "split", "tensor_split"), _arguments("input sections", dim=0)),
    "unbind": _arguments("input", dim=0),
    **dict.fromkeys(("add", "add_", "sub", "sub_", "subtract", "rsub"), _BINARY),
    **dict.fromkeys(("where", "masked_fill", "masked_fill_"), _arguments("first second third")),
    **dict.fromkeys(("tril", "triu"), _arguments("input", diagonal=0)),
    "cosine_similarity": _arguments("x1 x2", dim=1, eps=1e-8),
    "pairwise_distance": _arguments("x1 x2", p=2.0, eps=1e-6, keepdim=False),
    "cdist": _arguments("x1 x2", p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"),
    "addmm": _arguments("input mat1 mat2", beta=1, alpha=1),
    "baddbmm": _arguments("input batch1 batch2", beta=1, alpha=1),
    "lerp": _arguments("input end weight"),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
                    _arguments("input factor")),
}  # fmt: skip
