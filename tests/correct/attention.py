"""Attention: separate projections, library modules, the fused function, and heads by vmap."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from torch import nn
from torch.nn import functional as F

import parity
from correct import common
from correct.common import integers, linear, normal

WIDTH, HEADS, TOKENS = 16, 4, 7
EACH = WIDTH // HEADS


def split_heads(x: torch.Tensor) -> torch.Tensor:
    """[n, t, width] to [n, heads, t, width / heads]."""
    return x.unflatten(-1, (HEADS, EACH)).transpose(1, 2)


class Separate(nn.Module):
    """BERT's and ViT's attention in transformers; what joins the heads is the caller's."""

    causal = False

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out, self.fc = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x):
        q, k, v = (split_heads(layer(x)) for layer in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.fc((x + self.out(y.transpose(1, 2).flatten(2))).mean(1))


class Causal(Separate):
    causal = True


def attention_pair(name, twin, attend, seed, act=lambda y: y, **fields):
    """A pair of `twin` and `attend(q, k, v)` of arrays [n, t, heads, each]; `act` of its output."""

    def apply(p, x):
        q, k, v = (
            parity.tap(m, linear(p, m, x)).reshape(*x.shape[:2], HEADS, EACH)
            for m in ("query", "key", "value")
        )
        y = act(linear(p, "out", attend(q, k, v).reshape(x.shape)))
        return linear(p, "fc", (x + y).mean(1))

    return parity.Pair(
        name,
        twin,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 6, TOKENS, WIDTH),
        labels=integers(seed, 5, 6),
        **fields,
    )


def key_bias(seed: int) -> parity.Pair:
    """The gradient by the key's bias is zero: the softmax takes it away."""

    def attend(q, k, v):
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / EACH**0.5
        return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)

    return attention_pair("key bias", Separate, attend, seed, optimizer=common.adam())


def fused_attention(seed: int) -> parity.Pair:
    """`jax.nn.dot_product_attention`, whose softmax is float32 whatever it is given; causal."""

    def attend(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)

    return attention_pair("jax.nn.dot_product_attention", Causal, attend, seed)


def heads_by_vmap(seed: int) -> parity.Pair:
    """Attention written for one sequence and one head."""

    def head(q, k, v):
        return jax.nn.softmax(q @ k.T / EACH**0.5) @ v

    attend = jax.vmap(jax.vmap(head, in_axes=1, out_axes=1))
    return attention_pair("heads by vmap", Separate, attend, seed)


class TorchMulti(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.att = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.fc = nn.Linear(WIDTH, 5)

    def forward(self, x):
        y = self.norm(x)
        return self.fc((x + self.att(y, y, y, need_weights=False)[0]).mean(1))


class FlaxMulti(linen.Module):
    @linen.compact
    def __call__(self, x):
        y = linen.MultiHeadDotProductAttention(HEADS, name="att")(linen.LayerNorm(name="norm")(x))
        return linen.Dense(5, name="fc")((x + y).mean(1))


def multi_head(seed: int) -> parity.Pair:
    """One joint projection in PyTorch, three of shape [width, heads, each] in Linen."""

    def to_flax(state):
        state = dict(state)
        weights = jnp.split(jnp.asarray(state.pop("att.in_proj_weight")), 3)
        biases = jnp.split(jnp.asarray(state.pop("att.in_proj_bias")), 3)
        out = state.pop("att.out_proj.weight"), state.pop("att.out_proj.bias")
        variables = common.by_names(state)
        attention = {
            name: {"kernel": w.T.reshape(WIDTH, HEADS, EACH), "bias": b.reshape(HEADS, EACH)}
            for name, w, b in zip(("query", "key", "value"), weights, biases, strict=True)
        }
        kernel = jnp.asarray(out[0]).T.reshape(HEADS, EACH, WIDTH)
        attention["out"] = {"kernel": kernel, "bias": jnp.asarray(out[1])}
        variables["params"]["att"] = attention
        return variables

    return parity.Pair(
        "multi-head attention",
        TorchMulti,
        FlaxMulti().apply,
        to_flax,
        example_inputs=normal(seed, 6, TOKENS, WIDTH),
        labels=integers(seed, 5, 6),
    )
