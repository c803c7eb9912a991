"""A vision transformer (Dosovitskiy et al. 2021) in Linen under PyTorch's names."""

from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from torch import nn

import parity
from planted.nets.data import normal
from planted.nets.flax_layers import to_linen

STYLE = "linen, own names"
DIM, HEADS, TOKENS = 16, 4, 17


class TorchAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (DIM // HEADS) ** -0.5
        x = scores.softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(n, length, DIM))


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM)
        self.attn = TorchAttention()
        self.norm2 = nn.LayerNorm(DIM)
        self.fc1 = nn.Linear(DIM, 4 * DIM)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, DIM, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, DIM) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, TOKENS, DIM) * 0.02)
        self.block1 = TorchBlock()
        self.block2 = TorchBlock()
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        x = self.norm(self.block2(self.block1(x)))
        return self.head(x[:, 0])


def split_qkv(x):
    """[n, l, 3 heads d] -> q, k, v of [n, heads, l, d]."""
    n, length, _ = x.shape
    return x.reshape(n, length, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)


def split_heads_first(x):
    n, length, _ = x.shape
    return x.reshape(n, length, HEADS, 3, -1).transpose(3, 0, 2, 1, 4)


def split_into_strided_heads(x):
    """A head has every fourth channel."""
    n, length, _ = x.shape
    return x.reshape(n, length, 3, -1, HEADS).transpose(2, 0, 4, 1, 3)


class Attention(linen.Module):
    scale: float = (DIM // HEADS) ** -0.5
    split: Any = split_qkv
    narrow: Any = None

    @linen.compact
    def __call__(self, x):
        q, k, v = self.split(linen.Dense(3 * DIM, name="qkv")(x))
        if self.narrow is not None:
            q, k = q.astype(self.narrow), k.astype(self.narrow)
        scores = (q @ k.swapaxes(-2, -1)).astype(x.dtype) * self.scale
        y = (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(x.shape)
        return linen.Dense(DIM, name="proj")(y)


class Block(linen.Module):
    eps: float = 1e-5
    approximate: bool = False
    attention: Any = ()

    @linen.compact
    def __call__(self, x):
        norm = partial(linen.LayerNorm, epsilon=self.eps, use_fast_variance=False)
        attend = Attention(**dict(self.attention), name="attn")
        x = x + attend(norm(name="norm1")(x))
        y = linen.Dense(4 * DIM, name="fc1")(norm(name="norm2")(x))
        return x + linen.Dense(DIM, name="fc2")(linen.gelu(y, self.approximate))


class Net(linen.Module):
    block: Any = ()
    fixed_positions: bool = False

    @linen.compact
    def __call__(self, x):
        given = dict(self.block)
        x = linen.Conv(DIM, (4, 4), 4, "VALID", name="patch")(x).reshape(len(x), -1, DIM)
        cls = self.param("cls_token", linen.initializers.normal(0.02), (1, 1, DIM))
        places = self.param("pos_embed", linen.initializers.normal(0.02), (1, TOKENS, DIM))
        if self.fixed_positions:
            places = jax.lax.stop_gradient(places)
        cls = jnp.broadcast_to(cls, (len(x), 1, DIM)).astype(x.dtype)
        x = jnp.concatenate([cls, x], 1) + places
        x = Block(**given, name="block2")(Block(**given, name="block1")(x))
        eps = given.get("eps", 1e-5)
        x = linen.LayerNorm(epsilon=eps, use_fast_variance=False, name="norm")(x)
        return linen.Dense(10, name="head")(x[:, 0])


def apply(variables, x, *, switches: Any = None):
    return Net(**(switches or {})).apply(variables, x)


def to_flax(state):
    return to_linen(state, as_is=("cls_token", "pos_embed"))


def make(attention: Any = None, block: Any = None, **switches: Any) -> parity.Pair:
    given = {**(block or {}), "attention": tuple((attention or {}).items())}
    return parity.Pair(
        "vit",
        TorchNet,
        partial(apply, switches={"block": tuple(given.items()), **switches}),
        to_flax,
        example_inputs=normal(5, 3, 16, 16),
        channels_last=True,
    )
