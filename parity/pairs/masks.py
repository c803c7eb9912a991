"""Dropout with the same masks in both frameworks.

Whether a number is kept depends on its place in its example and on the rate alone, so that the two
drop the same ones in whatever order they draw, and each example of a batch the same. The rule does
not change when axes are exchanged: images may be NCHW in one framework and NHWC in the other.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.overrides import TorchFunctionMode


@functools.lru_cache(maxsize=64)
def uniform(shape: tuple[int, ...]) -> np.ndarray:
    """float64 in [0, 1) of `shape`, symmetric in its axes; an axis of length one changes nothing.

    The terms of the axes are added and mixed as by SplitMix64 (Steele et al. 2014).
    """
    total = np.full(shape, 0x243F6A8885A308D3, np.uint64)
    for axis, size in enumerate(shape):
        term = _mixed(np.arange(size, dtype=np.uint64)) - _mixed(np.zeros(1, np.uint64))
        total = total + term.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return (_mixed(total) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def draws(shape: Sequence[int], batched: bool = True) -> np.ndarray:
    """Uniform numbers, the same for each example of the first axis if that is the `batched` one."""
    shape = tuple(shape)
    if not batched or not shape:
        return uniform(shape)
    return np.broadcast_to(uniform(shape[1:]), shape)


@contextlib.contextmanager
def shared_in_jax() -> Iterator[None]:
    """`jax.random.bernoulli` draws `draws`; Flax, Equinox and plain functions drop by it."""
    original = jax.random.bernoulli

    def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        shape = jnp.shape(p) if shape is None else shape
        # Under vmap, as in Equinox, the axis of the examples is not in the shape.
        alone = type(key).__name__ == "BatchTracer"
        dtype = jnp.result_type(float)  # an array of NumPy's would keep its own
        return jnp.asarray(draws(shape, not alone).astype(dtype)) < jnp.asarray(p, dtype)

    jax.random.bernoulli = bernoulli
    try:
        yield
    finally:
        jax.random.bernoulli = original


class SharedInTorch(TorchFunctionMode):
    """PyTorch's dropout and Bernoulli numbers, drawn by `draws`."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        handler = _HANDLERS.get(getattr(func, "__name__", ""))
        found = None if handler is None else handler(*args, **kwargs)
        return func(*args, **kwargs) if found is None else found


def dropped(x: torch.Tensor, p: float, shape: Sequence[int] | None = None) -> torch.Tensor:
    """`x` with the rate `p` dropped, by a mask of `shape`, by default that of `x`."""
    keep = torch.as_tensor(draws(shape or x.shape) < 1 - p, device=x.device)
    return torch.where(keep, x / (1 - p), torch.zeros((), dtype=x.dtype, device=x.device))


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if not training or not 0 < p < 1:
        return None
    out = dropped(input, p)
    return input.copy_(out) if inplace else out


def _channels(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if not training or not 0 < p < 1:
        return None
    out = dropped(input, p, (*input.shape[:2], *[1] * (input.ndim - 2)))
    return input.copy_(out) if inplace else out


def _bernoulli_(input: torch.Tensor, p: Any = 0.5, *, generator: Any = None) -> Any:
    del generator
    kept = torch.as_tensor(draws(input.shape), device=input.device) < p
    return input.detach().copy_(kept.to(input.dtype))


def _bernoulli(input: torch.Tensor, p: Any = None, *, generator: Any = None) -> Any:
    del generator
    kept = torch.as_tensor(draws(input.shape), device=input.device) < (input if p is None else p)
    return kept.to(input.dtype)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """`scaled_dot_product_attention` written out where it drops weights."""
    if not 0 < dropout_p < 1 or enable_gqa:
        return None
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return dropped(torch.softmax(scores, -1), dropout_p) @ value


_HANDLERS = {
    "dropout": _dropout,
    "dropout1d": _channels,
    "dropout2d": _channels,
    "dropout3d": _channels,
    "bernoulli_": _bernoulli_,
    "bernoulli": _bernoulli,
    "scaled_dot_product_attention": _attention,
}
