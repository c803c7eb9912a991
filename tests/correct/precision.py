"""Nets that compute a part, or all, in a precision of their own choice; means that cost digits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch import nn
from torch.nn import functional as F

import parity
from correct import common
from correct.common import integers, linear, normal
from parity import tap


class Narrow(nn.Module):
    """Parameters and sums of bfloat16; the loss takes the logits in float32."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(16, 24), nn.Linear(24, 24), nn.Linear(24, 5)
        self.bfloat16()

    def forward(self, x):
        x = x.to(self.fc1.weight.dtype)
        return self.fc3(self.fc2(self.fc1(x).relu()).relu())


def bfloat16(seed: int) -> parity.Pair:
    """Everything is bfloat16 on both sides, by design."""

    def apply(p, x):
        x = x.astype(p["fc1.weight"].dtype)
        x = jax.nn.relu(tap("fc1", linear(p, "fc1", x)))
        return tap("fc3", linear(p, "fc3", jax.nn.relu(tap("fc2", linear(p, "fc2", x)))))

    def in_torch(logits, labels):
        wide = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(logits.to(wide), labels)

    def in_jax(logits, labels):
        wide = jnp.promote_types(logits.dtype, jnp.float32)
        return common.token_loss().jax(logits.astype(wide), labels)

    return parity.Pair(
        "bfloat16",
        Narrow,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 8, 16),
        labels=integers(seed, 5, 8),
        loss=parity.Loss(in_torch, in_jax),
        optimizer=common.sgd_momentum(),
        dtypes=("bfloat16",),
    )


class Upcast(nn.Module):
    """Llama's RMSNorm."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, x):
        wide = x.float()
        y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(x.dtype)


class Llama(nn.Module):
    """A gated MLP behind a norm."""

    def __init__(self, norm: Callable[[], nn.Module] = Upcast):
        super().__init__()
        self.norm, self.gate, self.up = norm(), nn.Linear(16, 24, False), nn.Linear(16, 24, False)
        self.down, self.head = nn.Linear(24, 16, False), nn.Linear(16, 5)

    def forward(self, x):
        y = self.norm(x)
        return self.head(x + self.down(F.silu(self.gate(y)) * self.up(y)))


def llama_apply(p, x):
    wide = x.astype(jnp.float32)
    y = wide * lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-6)
    y = tap("norm", p["norm.weight"] * y.astype(x.dtype))
    gated = jax.nn.silu(linear(p, "gate", y)) * linear(p, "up", y)
    return linear(p, "head", x + linear(p, "down", gated))


def upcast_on_both_sides(seed: int) -> parity.Pair:
    """A norm that is float32 in both frameworks."""
    return parity.Pair(
        "RMSNorm in float32",
        Llama,
        llama_apply,
        common.as_they_are,
        example_inputs=normal(seed, 8, 16),
        labels=integers(seed, 5, 8),
        optimizer=common.adamw(),
    )


def upcast_in_jax(seed: int) -> parity.Pair:
    """A norm that is float32 in JAX alone."""
    return parity.Pair(
        "RMSNorm in float32 in JAX",
        lambda: Llama(lambda: nn.RMSNorm(16, eps=1e-6)),
        llama_apply,
        common.as_they_are,
        example_inputs=normal(seed, 8, 16),
        labels=integers(seed, 5, 8),
    )


class Mean50(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(32), nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x):
        return self.fc2(F.softplus(self.fc1(self.norm(x))))


def layer_norm_of_mean_50(seed: int) -> parity.Pair:
    """Inputs far from zero, whose variance is computed in two passes."""

    def apply(p, x):
        centred = x - x.mean(-1, keepdims=True)
        y = centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
        y = tap("norm", y * p["norm.weight"] + p["norm.bias"])
        return linear(p, "fc2", jax.nn.softplus(tap("fc1", linear(p, "fc1", y))))

    return parity.Pair(
        "LayerNorm at a mean of 50",
        Mean50,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 8, 32) + 50,
        labels=integers(seed, 10, 8),
    )
