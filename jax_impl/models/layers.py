"""Layers with PyTorch's semantics on NHWC arrays, as Flax NNX modules.

Each draws its initial values from `rng` in the order in which `torch.nn` draws them; without an
`rng` they are zeros. Kernels are HWIO and (in, out). Products are made in the inputs' dtype.
"""

import math
from typing import Any

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np

from jax_impl.errors import InputError
from jax_impl.ops import batch_norm, convolution
from jax_impl.torch_random.generator import Generator


def _uniform(rng: Generator | None, shape: tuple[int, ...], bound: float) -> np.ndarray:
    return np.zeros(shape, np.float32) if rng is None else rng.uniform(shape, -bound, bound)


class Conv2d(nnx.Module):
    """`torch.nn.Conv2d`: symmetric padding, default initialisation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        rng: Generator | None,
    ):
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))  # kaiming_uniform_(a=sqrt(5))
        self.kernel = nnx.Param(_uniform(rng, shape, bound).transpose(2, 3, 1, 0))
        self.bias = nnx.Param(_uniform(rng, (out_channels,), bound)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[n, h, w, in_channels] -> [n, h', w', out_channels], in the dtype of `x`."""
        kernel = self.kernel[...].astype(x.dtype)
        x = convolution.conv2d(x, kernel, self.stride, self.padding, self.dilation, self.groups)
        return x if self.bias is None else x + self.bias[...].astype(x.dtype)


class Linear(nnx.Module):
    """`torch.nn.Linear`.

    `flattened` = (h, w, c) says that the input is a flattened feature map of that shape; PyTorch
    orders such a layer's input features c, h, w.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        flattened: tuple[int, int, int] | None = None,
        rng: Generator | None,
    ):
        self.flattened = flattened
        bound = 1 / math.sqrt(in_features)
        weight = _uniform(rng, (out_features, in_features), bound)
        if flattened is not None:
            h, w, c = flattened
            weight = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(out_features, -1)
        self.kernel = nnx.Param(np.ascontiguousarray(weight.T))
        self.bias = nnx.Param(_uniform(rng, (out_features,), bound))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in_features] -> [..., out_features], in the dtype of `x`."""
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class BatchNorm2d(nnx.Module):
    """`torch.nn.BatchNorm2d`: momentum 0.1, eps 1e-5, two-pass variance, unbiased running one.

    With momentum None the running statistics are the plain average of all batches'. As in PyTorch,
    inputs of half precision are normalised in float32. In training a batch is normalised in
    `parts`, each by itself, and the running statistics are of the first.
    """

    def __init__(self, channels: int, *, momentum: float | None = 0.1, eps: float = 1e-5):
        self.momentum, self.eps, self.parts = momentum, eps, 1
        self.scale = nnx.Param(np.ones(channels, np.float32))
        self.bias = nnx.Param(np.zeros(channels, np.float32))
        self.mean = nnx.BatchStat(np.zeros(channels, np.float32))
        self.var = nnx.BatchStat(np.ones(channels, np.float32))
        self.num_batches_tracked = nnx.BatchStat(np.zeros((), np.int32))

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises by the batch with `train`, and moves the running statistics; else by these."""
        given = x.dtype
        x = x.astype(jnp.promote_types(given, jnp.float32))
        mean, var = self.mean[...], self.var[...]
        if train:
            y, batch_mean, batch_var = self._normalised(x)
            count = -(-len(x) // self.parts) * math.prod(x.shape[1:-1])
            unbiased = batch_var * (count / (count - 1))
            batches = self.num_batches_tracked[...] + 1
            share = 1 / batches.astype(x.dtype) if self.momentum is None else self.momentum
            moved = (1 - share) * mean + share * batch_mean
            spread = (1 - share) * var + share * unbiased
            self.mean[...], self.var[...] = moved.astype(mean.dtype), spread.astype(var.dtype)
            self.num_batches_tracked[...] = batches
            return y.astype(given)
        x = (x - mean) * (jax.lax.rsqrt(var + self.eps) * self.scale[...]) + self.bias[...]
        return x.astype(given)

    def _normalised(self, x: jax.Array) -> Any:
        """By the batch; and the mean and biased variance that the running ones are moved by."""
        least = len(x) // self.parts * math.prod(x.shape[1:-1])
        if least < 2:
            where = f", of {self.parts} devices each its own" if self.parts > 1 else ""
            values = "one" if least else "none"
            raise InputError(
                f"batch normalisation in training needs more than one value a channel, and "
                f"input {x.shape} has {values}{where}: use a larger batch or larger images"
            )
        arguments = x, self.scale[...], self.bias[...], self.eps
        if self.parts > 1:
            return batch_norm.batch_norm_of_parts(*arguments, self.parts)
        return batch_norm.batch_norm(*arguments)


class Sequential(nnx.Module):
    """`torch.nn.Sequential`: children named "0", "1", ...; `train` goes to those that take it."""

    def __init__(self, *modules: nnx.Module):
        self.length = len(modules)
        for index, module in enumerate(modules):
            setattr(self, str(index), module)

    def children(self) -> list:
        """The modules, in order."""
        return [getattr(self, str(index)) for index in range(self.length)]

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Applies one module after the other."""
        for module in self.children():
            x = module(x) if isinstance(module, Conv2d | Linear) else module(x, train)
        return x
