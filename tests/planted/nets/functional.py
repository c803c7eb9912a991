"""Layers as plain functions of a dict of weights in PyTorch's names and layout, `v`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

V = Mapping[str, jax.Array]


def as_arrays(state: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """The variables of every plain function here: the state_dict, without BatchNorm's counters."""
    return {k: jnp.asarray(v) for k, v in state.items() if not k.endswith("num_batches_tracked")}


def linear(v: V, name: str, x: jax.Array) -> jax.Array:
    y = x @ v[f"{name}.weight"].T
    return y + v[f"{name}.bias"] if f"{name}.bias" in v else y


def conv(
    v: V,
    name: str,
    x: jax.Array,
    *,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolution of [n, c, ...]; `padding` a number, pairs or lax's text."""
    kernel = v[f"{name}.weight"]
    dims = kernel.ndim - 2
    spatial = "DHW"[-dims:]
    y = lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * dims,
        [(padding, padding)] * dims if isinstance(padding, int) else padding,
        rhs_dilation=(dilation,) * dims,
        dimension_numbers=(f"NC{spatial}", f"OI{spatial}", f"NC{spatial}"),
        feature_group_count=groups,
    )
    return y + per_channel(v[f"{name}.bias"], y) if f"{name}.bias" in v else y


def conv_transpose(
    v: V,
    name: str,
    x: jax.Array,
    *,
    stride: int,
    padding: int,
    output_padding: int = 0,
    flip: bool = True,
    extra_first: bool = False,
) -> jax.Array:
    """PyTorch's ConvTranspose2d of [n, c, h, w], as a convolution of the input spread by zeros."""
    kernel = v[f"{name}.weight"].swapaxes(0, 1)
    kernel = kernel[..., ::-1, ::-1] if flip else kernel
    least = kernel.shape[-1] - 1 - padding
    pads = (least + output_padding, least) if extra_first else (least, least + output_padding)
    y = lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [pads, pads],
        lhs_dilation=(stride, stride),
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    return y + per_channel(v[f"{name}.bias"], y)


def per_channel(values: jax.Array, x: jax.Array) -> jax.Array:
    """[c] as a factor or a term of [n, c, ...]."""
    return values.reshape((-1,) + (1,) * (x.ndim - 2))


def batch_norm(
    v: V,
    name: str,
    x: jax.Array,
    train: bool,
    updated: dict[str, jax.Array],
    *,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> jax.Array:
    """PyTorch's of [n, c, ...]; in train mode the new statistics go into `updated`."""
    mean, var = v[f"{name}.running_mean"], v[f"{name}.running_var"]
    if train:
        axes = (0, *range(2, x.ndim))
        count = x.size // x.shape[1]
        now, spread = x.mean(axes), x.var(axes)
        before = updated.get(f"{name}.running_mean", mean)
        before_var = updated.get(f"{name}.running_var", var)
        updated[f"{name}.running_mean"] = (1 - momentum) * before + momentum * now
        updated[f"{name}.running_var"] = (1 - momentum) * before_var + momentum * spread * count / (
            count - 1
        )
        mean, var = now, spread
    x = (x - per_channel(mean, x)) / jnp.sqrt(per_channel(var, x) + eps)
    return x * per_channel(v[f"{name}.weight"], x) + per_channel(v[f"{name}.bias"], x)


def layer_norm(v: V, name: str, x: jax.Array, *, eps: float = 1e-5, ddof: int = 0) -> jax.Array:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    var = x.var(-1, keepdims=True, ddof=ddof)
    return centred / jnp.sqrt(var + eps) * v[f"{name}.weight"] + v[f"{name}.bias"]


def group_norm(
    v: V, name: str, x: jax.Array, groups: int, *, eps: float = 1e-5, strided: bool = False
) -> jax.Array:
    """Of [n, c, ...]; `strided` puts channel i in group i mod groups, not in i // (c / groups)."""
    n, c, *rest = x.shape
    if strided:
        parts = x.reshape(n, c // groups, groups, *rest)
        axes = (1, *range(3, parts.ndim))
    else:
        parts = x.reshape(n, groups, c // groups, *rest)
        axes = tuple(range(2, parts.ndim))
    parts = (parts - parts.mean(axes, keepdims=True)) / jnp.sqrt(
        parts.var(axes, keepdims=True) + eps
    )
    x = parts.reshape(x.shape)
    return x * per_channel(v[f"{name}.weight"], x) + per_channel(v[f"{name}.bias"], x)


def max_pool(
    x: jax.Array, window: int, stride: int, padding: int = 0, ceil_mode: bool = False
) -> jax.Array:
    """Of [n, c, h, w]; with `ceil_mode` a last, smaller window where one begins inside."""
    pads = []
    for size in x.shape[2:]:
        left = (size + 2 * padding - window) % stride
        pads.append((padding, padding + (stride - left if ceil_mode and left else 0)))
    shape, strides = (1, 1, window, window), (1, 1, stride, stride)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, strides, [(0, 0), (0, 0), *pads])


def dropout(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeros a part `rate` of the values and scales up the others."""
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)
