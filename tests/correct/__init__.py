"""Correct pairs: ports of models that are not this project's, none of which may fail.

`PAIRS` has a function `make(seed) -> parity.Pair` for each; the seed is that of its examples,
labels and whatever else the pair draws.
"""

from collections.abc import Callable

import parity
from correct import (
    attention,
    large_maps,
    linen_convnets,
    nnx_convnets,
    plain_convnets,
    precision,
    recurrent,
    small,
    transformers,
    transforms,
)

_MAKERS: tuple[Callable[[int], parity.Pair], ...] = (
    plain_convnets.plain_cnn,
    plain_convnets.biases_before_batch_norm,
    plain_convnets.densenet,
    plain_convnets.conv3d,
    plain_convnets.hard_swish,
    large_maps.large_sums,
    large_maps.relu_ties,
    large_maps.pool_ties,
    linen_convnets.vgg_bn,
    linen_convnets.mobilenet,
    linen_convnets.convnext,
    linen_convnets.unet,
    linen_convnets.conv1d,
    nnx_convnets.resnet,
    nnx_convnets.group_norm,
    attention.key_bias,
    attention.fused_attention,
    attention.heads_by_vmap,
    attention.multi_head,
    transformers.vit,
    transformers.gpt,
    transformers.bert,
    recurrent.lstm,
    recurrent.gru,
    recurrent.bidirectional,
    recurrent.linen_rnn,
    transforms.linen_remat,
    transforms.nnx_remat,
    transforms.linen_scan,
    transforms.lax_scan,
    precision.bfloat16,
    precision.upcast_on_both_sides,
    precision.upcast_in_jax,
    precision.layer_norm_of_mean_50,
    small.dropout,
    small.nnx_dropout,
    small.two_inputs,
    small.frozen,
    small.regression,
    small.embeddings,
)

PAIRS = {make.__name__: make for make in _MAKERS}

FLOAT32_INSIDE = (
    "hard_swish",
    "fused_attention",
    "upcast_on_both_sides",
    "upcast_in_jax",
)
"""Those that compute a part in float32 whatever they are given, in one framework or both."""
