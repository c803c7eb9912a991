"""A net whose norms compute in float32 whatever they are given, as Flax's do by default."""

import jax
import jax.numpy as jnp
import torch
from correct.common import as_they_are, normal
from torch import nn

import parity

WIDTH, DEPTH = 8, 4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        made = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)) for _ in range(DEPTH)]
        self.layers, self.fc = nn.ModuleList(made), nn.Linear(WIDTH, 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.fc(x)


def norm(v, name, x, train):
    """(x normalised in float32, variables with updated statistics)."""
    narrow = x.astype(jnp.float32)
    mean, var = (v[f"{name}.running_{s}"].astype(jnp.float32) for s in ("mean", "var"))
    if train:
        mean, var = narrow.mean(0), narrow.var(0)
        unbiased = var * len(x) / (len(x) - 1)
        kept = {f"{name}.running_mean": mean, f"{name}.running_var": unbiased}
        v = v | {key: 0.9 * v[key] + 0.1 * value for key, value in kept.items()}
    normal = ((narrow - mean) * jax.lax.rsqrt(var + 1e-5)).astype(x.dtype)
    return normal * v[f"{name}.weight"] + v[f"{name}.bias"], v


def net(doubled: bool = False) -> parity.Pair:
    """`doubled` is the gradient by the inputs, and nothing else."""

    def apply(v, x, train):
        x = 2 * x - jax.lax.stop_gradient(x) if doubled else x
        for i in range(DEPTH):
            x = x @ v[f"layers.{i}.0.weight"].T + v[f"layers.{i}.0.bias"]
            x, v = norm(v, f"layers.{i}.1", x, train)
            x = jnp.tanh(x)
        return x @ v["fc.weight"].T + v["fc.bias"], v

    return parity.Pair(
        "norms in float32", Net, apply, as_they_are, example_inputs=normal(0, 5, WIDTH)
    )
