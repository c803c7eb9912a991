"""A decoder like Gemma's: RMSNorm of 1 + scale, rotary positions, fewer key heads, a gated MLP.

A plain function that names nothing; the head is the embedding, which is scaled by sqrt(dim).
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn
from torch.nn import functional as F

import parity
from planted.nets.data import initialiser, integers
from planted.nets.functional import as_arrays, linear

STYLE = "function without taps"
DIM, HEADS, KEY_HEADS, HEAD, WORDS, LENGTH = 16, 4, 2, 4, 32, 12


class TorchNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


def torch_rotated(x: torch.Tensor) -> torch.Tensor:
    """[n, heads, l, d]: channel i turns with channel i + d / 2."""
    rates = 10_000.0 ** (-torch.arange(0, HEAD, 2, dtype=torch.float64) / HEAD)
    angles = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * rates
    cos, sin = angles.cos().to(x).repeat(1, 2), angles.sin().to(x).repeat(1, 2)
    one, other = x.chunk(2, -1)
    return x * cos + torch.cat([-other, one], -1) * sin


class TorchAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(DIM, HEADS * HEAD, bias=False)
        self.k = nn.Linear(DIM, KEY_HEADS * HEAD, bias=False)
        self.v = nn.Linear(DIM, KEY_HEADS * HEAD, bias=False)
        self.o = nn.Linear(HEADS * HEAD, DIM, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = torch_rotated(self.q(x).unflatten(-1, (HEADS, HEAD)).transpose(1, 2))
        k = torch_rotated(self.k(x).unflatten(-1, (KEY_HEADS, HEAD)).transpose(1, 2))
        v = self.v(x).unflatten(-1, (KEY_HEADS, HEAD)).transpose(1, 2)
        k, v = (y.repeat_interleave(HEADS // KEY_HEADS, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


class TorchMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(DIM, 2 * DIM, bias=False)
        self.up = nn.Linear(DIM, 2 * DIM, bias=False)
        self.down = nn.Linear(2 * DIM, DIM, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = TorchNorm()
        self.attn = TorchAttention()
        self.norm2 = TorchNorm()
        self.mlp = TorchMLP()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, DIM)
        self.layers = nn.ModuleList(TorchBlock() for _ in range(2))
        self.norm = TorchNorm()
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids) * math.sqrt(DIM)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) @ self.embed.weight.T


def rms_norm(v, name, x, *, eps_inside: bool = True, plus_one: bool = True):
    mean = jnp.square(x).mean(-1, keepdims=True)
    x = x / jnp.sqrt(mean + 1e-6) if eps_inside else x / (jnp.sqrt(mean) + 1e-6)
    return x * (v[f"{name}.weight"] + plus_one)


def rotated(x, *, interleaved: bool = False):
    rates = 10_000.0 ** (-jnp.arange(0, HEAD, 2, dtype=x.dtype) / HEAD)
    angles = jnp.arange(x.shape[2], dtype=x.dtype)[:, None] * rates
    if interleaved:
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        one, other = x[..., ::2], x[..., 1::2]
        turned = jnp.stack([one * cos - other * sin, other * cos + one * sin], -1)
        return turned.reshape(x.shape)
    cos, sin = jnp.tile(jnp.cos(angles), 2), jnp.tile(jnp.sin(angles), 2)
    one, other = jnp.split(x, 2, -1)
    return x * cos + jnp.concatenate([-other, one], -1) * sin


def repeated(x):
    return x.repeat(HEADS // KEY_HEADS, 1)


def tiled(x):
    """Query heads take turns at the key heads."""
    return jnp.tile(x, (1, HEADS // KEY_HEADS, 1, 1))


def apply(
    v,
    ids,
    *,
    norm: Any = rms_norm,
    rotate: Any = rotated,
    repeat: Any = repeated,
    diagonal: int | None = 0,
    embed_scale: float = math.sqrt(DIM),
):
    """`diagonal` is the last that is seen, None all of them."""

    def heads(y):
        return y.reshape(*y.shape[:2], -1, HEAD).swapaxes(1, 2)

    def attention(name, x):
        q, k, values = (heads(linear(v, f"{name}.{part}", x)) for part in "qkv")
        k, values = repeat(rotate(k)), repeat(values)
        scores = rotate(q) @ k.swapaxes(-2, -1) * HEAD**-0.5
        if diagonal is not None:
            seen = jnp.tril(jnp.ones(scores.shape[-2:], bool), diagonal)
            scores = jnp.where(seen, scores, -jnp.inf)
        y = (jax.nn.softmax(scores) @ values).swapaxes(1, 2)
        return linear(v, f"{name}.o", y.reshape(x.shape))

    def mlp(name, x):
        gated = jax.nn.silu(linear(v, f"{name}.gate", x)) * linear(v, f"{name}.up", x)
        return linear(v, f"{name}.down", gated)

    x = v["embed.weight"][ids] * embed_scale
    for name in ("layers.0", "layers.1"):
        x = x + attention(f"{name}.attn", norm(v, f"{name}.norm1", x))
        x = x + mlp(f"{name}.mlp", norm(v, f"{name}.norm2", x))
    return norm(v, "norm", x) @ v["embed.weight"].T


def gate_and_up_exchanged(state):
    given = dict(state)
    for name in state:
        if name.endswith("gate.weight"):
            other = name.replace("gate", "up")
            given[name], given[other] = state[other], state[name]
    return as_arrays(given)


def loss(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def draw(rng, name, shape, shapes, scale: float = 0.02) -> np.ndarray:
    return rng.normal(0, scale, shape) if len(shape) == 2 else np.zeros(shape)


def make(convert: Any = as_arrays, rule: Any = draw, **switches: Any) -> parity.Pair:
    return parity.Pair(
        "gpt",
        TorchNet,
        partial(apply, **switches),
        convert,
        example_inputs=integers(WORDS, 4, LENGTH),
        labels=integers(WORDS, 4, LENGTH, seed=1),
        loss=parity.Loss(lambda x, y: F.cross_entropy(x.flatten(0, 1), y.flatten()), loss),
        init=initialiser(TorchNet, rule, convert),
    )
