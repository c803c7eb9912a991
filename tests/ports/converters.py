"""What `to_flax` does besides moving numbers; weights that are not trained or have two names."""

from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import torch
from correct import common
from correct.common import as_they_are, integers, linear, normal
from jax import lax
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import parity
from parity import tap


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos, self.fc = nn.Parameter(torch.randn(6), requires_grad=False), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(x + self.pos)


def frozen():
    """A parameter with requires_grad=False; AdamW would shrink it if it were trained."""
    return parity.Pair(
        "frozen",
        Frozen,
        lambda p, x: linear(p, "fc", x + p["pos"]),
        as_they_are,
        example_inputs=normal(0, 6, 6),
        optimizer=common.adamw(),
    )


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head(self.words(ids).mean(1))


def tied_by_second_name():
    """The converter takes the head's name, as checkpoints of T5 and LLaMA do."""
    return parity.Pair(
        "tied",
        Tied,
        lambda p, ids: p["w"][ids].mean(1) @ p["w"].T,
        lambda state: {"w": jnp.asarray(state["head.weight"])},
        example_inputs=integers(0, 9, 4, 5),
    )


def untied():
    """A bug: both names are converted, and trained apart. The outputs agree, at first."""
    return parity.Pair(
        "untied",
        Tied,
        lambda p, ids: p["words.weight"][ids].mean(1) @ p["head.weight"].T,
        as_they_are,
        example_inputs=integers(0, 9, 4, 5),
    )


class Gemma(nn.Module):
    """An RMSNorm that keeps its scale minus one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6))

    def forward(self, x):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return x * scale * (1 + self.weight)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc = Gemma(), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.norm(x))


def one_is_added():
    """The converter adds the one."""

    def apply(p, x):
        scale = lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
        return linear(p, "fc", tap("norm", x * scale * p["scale"]))

    def to_flax(state):
        rest = {name: v for name, v in state.items() if name != "norm.weight"}
        return {"scale": 1 + jnp.asarray(state["norm.weight"]), **as_they_are(rest)}

    return parity.Pair("Gemma's norm", Scaled, apply, to_flax, example_inputs=normal(0, 6, 6))


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = weight_norm(nn.Linear(6, 3))

    def forward(self, x):
        return self.fc(x)


def weight_norm_is_fused():
    """The converter multiplies direction and length: their gradients are not to be had."""

    def to_flax(state):
        length = state["fc.parametrizations.weight.original0"]
        direction = state["fc.parametrizations.weight.original1"]
        weight = length * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        return {"fc.weight": jnp.asarray(weight), "fc.bias": jnp.asarray(state["fc.bias"])}

    return parity.Pair(
        "weight norm",
        Fused,
        lambda p, x: linear(p, "fc", x),
        to_flax,
        example_inputs=normal(0, 6, 6),
    )


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.fc = nn.Embedding(9, 6, padding_idx=0), nn.Linear(6, 3)

    def forward(self, ids):
        return self.fc(self.words(ids).mean(1))


def padding_is_trained():
    """A bug: PyTorch's table has no gradient in row 0, the port's has."""

    def apply(p, ids):
        return linear(p, "fc", tap("words", p["words.weight"][ids]).mean(1))

    ids = integers(0, 3, 4, 5)
    return parity.Pair("padding_idx", Padded, apply, as_they_are, example_inputs=ids)


def foreign_variables() -> Any:
    """Linen variables of a net that is none of this project's, with names of its own."""

    class Foreign(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(8, (7, 7), (2, 2), use_bias=False, name="conv_init")(x)
            x = linen.BatchNorm(use_running_average=True, name="bn_init")(x)
            return linen.Dense(10)(x.mean((1, 2)))

    return Foreign().init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
