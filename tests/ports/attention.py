"""Attention: a bias without gradient, and names that coincide with other shapes."""

import flax.linen as linen
import jax
import jax.numpy as jnp
from correct import common
from correct.attention import EACH, HEADS, TOKENS, WIDTH, Separate, attention_pair, split_heads
from correct.common import normal
from torch import nn
from torch.nn import functional as F

import parity


def scores(q, k):
    return jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", q, k) / EACH**0.5)


def key_bias():
    """The gradient by the key's bias is zero; right."""

    def attend(q, k, v):
        return jnp.einsum("nhqk,nkhd->nqhd", scores(q, k), v)

    return attention_pair("key bias", Separate, attend, 0)


def values_without_gradient():
    """The same with a bug that the key's gradient, which is zero, must not hide."""

    def attend(q, k, v):
        return jnp.einsum("nhqk,nkhd->nqhd", scores(q, k), jax.lax.stop_gradient(v))

    return attention_pair("values without gradient", Separate, attend, 0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = (split_heads(layer(x)) for layer in (self.query, self.key, self.value))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.att, self.fc = Attention(), nn.Linear(WIDTH, 5)

    def forward(self, x):
        return self.fc(self.att(x).mean(1))


class FlaxNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        y = linen.MultiHeadDotProductAttention(HEADS, name="att")(x)
        return linen.Dense(5, name="fc")(y.mean(1))


def heads_on_an_axis():
    """Linen's query, key, value give [n, t, heads, d], the twin's [n, t, heads d]; right."""

    def to_flax(state):
        variables = common.by_names(state)
        for name, layer in variables["params"]["att"].items():
            if name == "out":
                layer["kernel"] = layer["kernel"].reshape(HEADS, EACH, WIDTH)
            else:
                layer["kernel"] = layer["kernel"].reshape(WIDTH, HEADS, EACH)
                layer["bias"] = layer["bias"].reshape(HEADS, EACH)
        return variables

    return parity.Pair(
        "heads on an axis",
        Net,
        FlaxNet().apply,
        to_flax,
        example_inputs=normal(0, 4, TOKENS, WIDTH),
    )


def scores_in_float32(gelu_is_approximate=False, values_are_stopped=False):
    """Scores in float32 by design, so that the key's bias has a gradient of rounding."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.att, self.act, self.fc = Attention(), nn.GELU(), nn.Linear(WIDTH, 5)

        def forward(self, x):
            return self.fc(self.act(self.att(x)).mean(1))

    def dense(p, name, x):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def apply(p, x):
        q, k, v = (
            dense(p, f"att.{name}", x).reshape(*x.shape[:2], HEADS, EACH)
            for name in ("query", "key", "value")
        )
        v = jax.lax.stop_gradient(v) if values_are_stopped else v
        y = jnp.einsum("nhqk,nkhd->nqhd", scores(*map(jnp.float32, (q, k))).astype(v.dtype), v)
        y = dense(p, "att.out", y.reshape(x.shape))
        y = parity.tap("act", jax.nn.gelu(y, approximate=gelu_is_approximate))
        return dense(p, "fc", y.mean(1))

    return parity.Pair(
        "scores in float32", Gated, apply, common.as_they_are, example_inputs=normal(0, 4, 5, WIDTH)
    )
