"""BatchNorm as PyTorch's in Flax Linen and NNX, and converters of state_dicts for both."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

STATISTICS = {"running_mean": "mean", "running_var": "var"}


def normalised(x: jax.Array, mean: Any, var: Any, scale: Any, bias: Any, eps: float) -> jax.Array:
    return (x - mean) / jnp.sqrt(var + eps) * scale + bias


def moved(
    mean: jax.Array, var: jax.Array, x: jax.Array, momentum: float, unbiased: bool = True
) -> tuple[jax.Array, jax.Array]:
    """The running statistics after a batch [..., c]; `momentum` is the old ones' part."""
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    spread = x.var(axes) * (count / (count - 1) if unbiased else 1)
    return (
        momentum * mean + (1 - momentum) * x.mean(axes),
        momentum * var + (1 - momentum) * spread,
    )


class BatchNorm(linen.Module):
    """PyTorch's, in Linen: the running variance is unbiased.

    The switches are for bugs: the statistics are of so many `parts` of the batch, one after the
    other, and the running ones move by them so many `turns`.
    """

    train: bool
    momentum: float = 0.9
    eps: float = 1e-5
    unbiased: bool = True
    parts: int = 1
    turns: int = 1

    @linen.compact
    def __call__(self, x):
        shape = x.shape[-1:]
        scale = self.param("scale", linen.initializers.ones, shape)
        bias = self.param("bias", linen.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not self.train:
            return normalised(x, mean.value, var.value, scale, bias, self.eps)
        found = []
        for part in jnp.split(x, self.parts):
            axes = tuple(range(x.ndim - 1))
            for _ in range(self.turns):
                mean.value, var.value = moved(
                    mean.value, var.value, part, self.momentum, self.unbiased
                )
            by = part.mean(axes), part.var(axes)
            found.append(normalised(part, *by, scale, bias, self.eps))
        return jnp.concatenate(found)


class NNXBatchNorm(nnx.Module):
    """PyTorch's, in NNX."""

    def __init__(self, features: int, eps: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.eps = eps

    def __call__(self, x, train: bool):
        by = self.mean[...], self.var[...]
        if train:
            axes = tuple(range(x.ndim - 1))
            self.mean[...], self.var[...] = moved(*by, x, 0.9)
            by = x.mean(axes), x.var(axes)
        return normalised(x, *by, self.scale[...], self.bias[...], self.eps)


def leaf_name(leaf: str, value: np.ndarray) -> str:
    """Flax's name of PyTorch's: kernels have more axes than one, scales one."""
    if leaf in STATISTICS:
        return STATISTICS[leaf]
    if leaf == "weight":
        return "scale" if value.ndim == 1 else "kernel"
    return leaf


def relaid(value: np.ndarray) -> np.ndarray:
    """OI... -> ...IO."""
    return value.transpose(*range(2, value.ndim), 1, 0) if value.ndim > 1 else value


def to_linen(
    state: Mapping[str, np.ndarray],
    rename: Callable[[str], str] = str,
    as_is: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Linen's variables: nested dicts by the parts of `rename(module)`.

    Entries named in `as_is` are put under their own names, untransposed.
    """
    variables: dict[str, Any] = {}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        kept = name in as_is
        collection = "batch_stats" if leaf in STATISTICS else "params"
        inner = variables.setdefault(collection, {})
        for part in rename(module).split(".") if module else ():
            inner = inner.setdefault(part, {})
        inner[leaf if kept else leaf_name(leaf, value)] = jnp.asarray(
            value if kept else relaid(value)
        )
    return variables


def apply_linen(net: linen.Module, variables: Any, *inputs: Any, train: bool, **options: Any):
    """(outputs, variables with updated statistics)."""
    if not train or "batch_stats" not in variables:
        return net.apply(variables, *inputs, **options), variables
    outputs, updated = net.apply(variables, *inputs, mutable=["batch_stats"], **options)
    return outputs, {**variables, **updated}


def nnx_pair(
    build: Callable[[], nnx.Module], as_is: tuple[str, ...] = ()
) -> tuple[Callable[..., Any], Callable[[Mapping[str, np.ndarray]], Any]]:
    """(jax_apply, to_flax) of an NNX module called as `module(x, train)`, paths as PyTorch's.

    The variables are a nested dict of arrays.
    """
    graph, _ = nnx.split(nnx.eval_shape(build))

    def apply(variables: Any, x: jax.Array, train: bool = False) -> Any:
        module: Any = nnx.merge(graph, nnx.State(variables))
        outputs = module(x, train)
        return outputs, nnx.to_pure_dict(nnx.state(module))

    def to_flax(state: Mapping[str, np.ndarray]) -> Any:
        variables: dict[Any, Any] = {}
        for name, value in state.items():
            module, _, leaf = name.rpartition(".")
            if leaf == "num_batches_tracked":
                continue
            inner = variables
            for part in module.split(".") if module else ():
                inner = inner.setdefault(int(part) if part.isdigit() else part, {})
            kept = name in as_is
            inner[leaf if kept else leaf_name(leaf, value)] = jnp.asarray(
                value if kept else relaid(value)
            )
        return variables

    return apply, to_flax
