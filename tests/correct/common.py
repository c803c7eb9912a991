"""What the pairs share: random examples, layouts of weights, and PyTorch's BatchNorm in JAX."""

from collections.abc import Mapping
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

import parity

State = Mapping[str, np.ndarray]
COUNT = "num_batches_tracked"


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def integers(seed: int, high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed + 1000).integers(0, high, shape)


def blocky(seed: int, *shape: int, block: int = 8) -> np.ndarray:
    """Images [n, c, h, w] of few grey values in blocks: neighbours are equal."""
    n, c, h, w = shape
    coarse = np.random.default_rng(seed).integers(0, 4, (n, c, -(-h // block), -(-w // block)))
    return (coarse.repeat(block, 2).repeat(block, 3)[:, :, :h, :w] / 4).astype(np.float32)


def kernel(weight: np.ndarray) -> jax.Array:
    """(out, in, ...) to (..., in, out)."""
    return jnp.asarray(weight).transpose(*range(2, weight.ndim), 1, 0)


def as_they_are(state: State) -> dict[str, jax.Array]:
    """For plain functions: PyTorch's names and layouts."""
    return {name: jnp.asarray(v) for name, v in state.items() if not name.endswith(COUNT)}


def with_kernels(state: State) -> dict[str, jax.Array]:
    """PyTorch's names, but kernels (..., in, out)."""
    return {
        name: kernel(v) if v.ndim > 1 else jnp.asarray(v)
        for name, v in state.items()
        if not name.endswith(COUNT)
    }


def of_layer(name: str, value: np.ndarray) -> tuple[str, str, jax.Array]:
    """(collection, leaf, array) of a state_dict's entry, as Flax has it."""
    if name in ("running_mean", "running_var"):
        return "batch_stats", name.removeprefix("running_"), jnp.asarray(value)
    if name != "weight":
        return "params", name, jnp.asarray(value)
    if value.ndim == 1:
        return "params", "scale", jnp.asarray(value)
    return "params", "kernel", kernel(value)


def by_names(
    state: State, renamed: Mapping[str, str] | None = None, embeddings: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Linen's variables of a net whose modules are called as PyTorch's, or as `renamed` says."""
    tree: dict[str, Any] = {"params": {}}
    for entry, value in state.items():
        module, _, leaf = entry.rpartition(".")
        if leaf == COUNT:
            continue
        if module in embeddings:
            collection, leaf, array = "params", "embedding", jnp.asarray(value)
        else:
            collection, leaf, array = of_layer(leaf, value)
        module = module if renamed is None else renamed[module]
        place = tree.setdefault(collection, {})
        for part in filter(None, module.split(".")):
            place = place.setdefault(part, {})
        place[leaf] = array
    return tree


def nnx_state(like: nnx.State, state: State) -> nnx.State:
    """NNX variables like `like` of a net whose attributes are called as PyTorch's."""
    found = {}
    for entry, value in state.items():
        module, _, leaf = entry.rpartition(".")
        if leaf != COUNT:
            _, leaf, array = of_layer(leaf, value)
            found[f"{module}.{leaf}"] = array
    flat = nnx.to_flat_state(like)
    return nnx.from_flat_state(
        [(path, variable.replace(found[".".join(map(str, path))])) for path, variable in flat]
    )


def linear(p: Mapping[str, jax.Array], name: str, x: jax.Array) -> jax.Array:
    """A linear layer with PyTorch's layout of weights."""
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def normalised(
    x: jax.Array, mean: jax.Array, var: jax.Array, train: bool, axis: int, momentum: float = 0.1
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """BatchNorm: (x - the mean, the variance, the new running mean and variance).

    The running variance is PyTorch's, of n - 1.
    """
    shape = [1] * x.ndim
    shape[axis] = -1
    if not train:
        return x - mean.reshape(shape), var.reshape(shape), mean, var
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    count = x.size // mean.size
    now = x.mean(axes)
    centred = x - now.reshape(shape)
    square = jnp.square(centred).mean(axes)
    new_mean = (1 - momentum) * mean + momentum * now
    new_var = (1 - momentum) * var + momentum * square * count / (count - 1)
    return centred, square.reshape(shape), new_mean, new_var


def batch_norm(
    p: Mapping[str, jax.Array],
    name: str,
    x: jax.Array,
    train: bool,
    axis: int = 1,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """For plain functions: the outputs, and the running statistics under PyTorch's names."""
    places = f"{name}.running_mean", f"{name}.running_var"
    centred, var, *new = normalised(x, p[places[0]], p[places[1]], train, axis, momentum)
    shape = [1] * x.ndim
    shape[axis] = -1
    scale, bias = (p[f"{name}.{leaf}"].reshape(shape) for leaf in ("weight", "bias"))
    return centred / jnp.sqrt(var + eps) * scale + bias, dict(zip(places, new, strict=True))


class BatchNorm(linen.Module):
    """PyTorch's BatchNorm for Linen, whose own stores the variance of n."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        features = x.shape[-1]
        scale = self.param("scale", linen.initializers.ones, (features,))
        bias = self.param("bias", linen.initializers.zeros, (features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        var = self.variable("batch_stats", "var", jnp.ones, features)
        centred, now, *new = normalised(x, mean.value, var.value, train, -1)
        if train:
            mean.value, var.value = new
        return centred / jnp.sqrt(now + 1e-5) * scale + bias


class NnxBatchNorm(nnx.Module):
    """The same for NNX."""

    def __init__(self, features: int):
        self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(features)), nnx.BatchStat(jnp.ones(features))

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        centred, now, mean, var = normalised(x, self.mean[...], self.var[...], train, -1)
        if train:
            self.mean[...], self.var[...] = mean, var
        return centred / jnp.sqrt(now + 1e-5) * self.scale[...] + self.bias[...]


def with_statistics(net: linen.Module):
    """A Linen net with running statistics, as a pair's `jax_apply`."""

    def apply(variables: Any, x: jax.Array, train: bool) -> Any:
        outputs, new = net.apply(variables, x, train, mutable=["batch_stats"])
        return outputs, {**variables, **new}

    return apply


def adam() -> parity.Optimizer:
    """Both as they come."""
    return parity.Optimizer(lambda ps: torch.optim.Adam(ps, 1e-3), optax.adam(1e-3))


def adamw() -> parity.Optimizer:
    """Both as they come, but for the weight decay: 0.01 in PyTorch, 1e-4 in Optax."""
    return parity.Optimizer(
        lambda ps: torch.optim.AdamW(ps, 1e-3), optax.adamw(1e-3, weight_decay=0.01)
    )


def sgd_momentum() -> parity.Optimizer:
    return parity.Optimizer(
        lambda ps: torch.optim.SGD(ps, 0.02, momentum=0.9), optax.sgd(0.02, momentum=0.9)
    )


def token_loss() -> parity.Loss:
    """Cross-entropy of logits [..., classes]; in PyTorch's loss the batch's axes are flattened."""

    def in_torch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())

    def in_jax(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return parity.Loss(in_torch, in_jax)


def squared_error() -> parity.Loss:
    return parity.Loss(lambda o, y: ((o - y) ** 2).mean(), lambda o, y: ((o - y) ** 2).mean())
