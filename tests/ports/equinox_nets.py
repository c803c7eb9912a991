"""Equinox modules as the variables: parameters beside functions, flags and a state."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from correct.common import integers, normal
from torch import nn

import parity

KEY = jax.random.PRNGKey(0)
WIDTH = 8


def with_weights(model, state, skip=()):
    """The module with the arrays of a state_dict at their paths."""
    for name, value in state.items():
        if name.endswith("num_batches_tracked") or name.startswith(tuple(skip) or "-"):
            continue

        def where(tree, path=name):
            for part in path.split("."):
                tree = tree[int(part)] if part.isdigit() else getattr(tree, part)
            return tree

        array = jnp.asarray(value)
        old = where(model)
        model = eqx.tree_at(where, model, array.reshape(old.shape))
    return model


class TorchMLP(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.norm = nn.LayerNorm(WIDTH)
        self.drop = nn.Dropout(rate)
        self.act = nn.GELU()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        return self.head(self.drop(self.norm(x)))


class EquinoxMLP(eqx.Module):
    layers: list
    norm: eqx.nn.LayerNorm
    drop: eqx.nn.Dropout
    act: eqx.nn.Lambda
    head: eqx.nn.Linear
    scale: float
    name: str = eqx.field(static=True)

    def __init__(self, rate, act, eps, scale):
        self.layers = [eqx.nn.Linear(6, WIDTH, key=KEY), eqx.nn.Linear(WIDTH, WIDTH, key=KEY)]
        self.norm = eqx.nn.LayerNorm(WIDTH, eps=eps)
        self.drop = eqx.nn.Dropout(rate)
        self.act = eqx.nn.Lambda(act)
        self.head = eqx.nn.Linear(WIDTH, 3, key=KEY)
        self.scale, self.name = scale, "net"

    def __call__(self, x, key=None):
        for layer in self.layers:
            x = self.act(layer(x))
        return self.head(self.scale * self.drop(self.norm(x), key=key))


def exact_gelu(x):
    return jax.nn.gelu(x, approximate=False)


def mlp(act=exact_gelu, eps=1e-5, rate=0.0, torch_rate=None, scale=1.0, jit=False):
    """The whole module, functions and numbers included, is the variables."""

    def apply(model, x, inference):
        model = eqx.nn.inference_mode(model, inference)
        keys = jax.random.split(KEY, len(x))

        def run(model, x, keys):
            return jax.vmap(model)(x, keys)

        return (eqx.filter_jit(run) if jit else run)(model, x, keys)

    return parity.Pair(
        "equinox mlp",
        lambda: TorchMLP(rate if torch_rate is None else torch_rate),
        apply,
        lambda state: with_weights(EquinoxMLP(rate, act, eps, scale), state),
        example_inputs=normal(0, 5, 6),
    )


def partitioned_mlp(act=exact_gelu, eps=1e-5):
    """The arrays alone are the variables; the rest is put to them again."""
    model = EquinoxMLP(0.0, act, eps, 1.0)
    static = eqx.partition(model, eqx.is_array)[1]

    def apply(arrays, x):
        return jax.vmap(eqx.combine(arrays, static))(x)

    return parity.Pair(
        "equinox partitioned",
        TorchMLP,
        apply,
        lambda state: eqx.partition(with_weights(model, state), eqx.is_array)[0],
        example_inputs=normal(0, 5, 6),
    )


class TorchConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(WIDTH)
        self.fc = nn.Linear(WIDTH, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class EquinoxConvNet(eqx.Module):
    conv1: eqx.nn.Conv2d
    bn1: Any
    conv2: eqx.nn.Conv2d
    bn2: Any
    fc: eqx.nn.Linear

    def __init__(self, norm, strides):
        self.conv1 = eqx.nn.Conv2d(3, WIDTH, 3, strides[0], 1, key=KEY)
        self.bn1 = norm()
        self.conv2 = eqx.nn.Conv2d(WIDTH, WIDTH, 3, strides[1], 1, key=KEY)
        self.bn2 = norm()
        self.fc = eqx.nn.Linear(WIDTH, 5, key=KEY)

    def __call__(self, x, state):
        x, state = self.bn1(self.conv1(x), state)
        x, state = self.bn2(self.conv2(jax.nn.relu(x)), state)
        return self.fc(jax.nn.relu(x).mean((1, 2))), state


class BatchNorm(eqx.Module):
    """PyTorch's; Equinox' own normalises or counts otherwise."""

    weight: jax.Array
    bias: jax.Array
    batch_state_index: eqx.nn.StateIndex
    eps: float
    momentum: float
    inference: bool

    def __init__(self, eps, momentum):
        self.weight, self.bias = jnp.ones(WIDTH), jnp.zeros(WIDTH)
        self.batch_state_index = eqx.nn.StateIndex((jnp.zeros(WIDTH), jnp.ones(WIDTH)))
        self.eps, self.momentum, self.inference = eps, momentum, False

    def __call__(self, x, state):
        mean, var = running = state.get(self.batch_state_index)
        if not self.inference:
            mean = jax.lax.pmean(x.mean((1, 2)), "batch")
            var = jax.lax.pmean(jnp.square(x - mean[:, None, None]).mean((1, 2)), "batch")
            count = jax.lax.psum(x[0].size, "batch")
            new = mean, var * count / (count - 1)
            m = self.momentum
            kept = tuple(m * r + (1 - m) * n for r, n in zip(running, new, strict=True))
            state = state.set(self.batch_state_index, kept)
        scale = self.weight * jax.lax.rsqrt(var + self.eps)
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None], state


def equinox_norm(mode):
    return eqx.nn.BatchNorm(WIDTH, "batch", eps=1e-5, momentum=0.9, mode=mode)


def conv_net(eps=1e-5, momentum=0.9, strides=(2, 1), only_arrays=False, mode=None):
    """(model, state) goes in, (outputs, (model, state)) comes out."""
    norm = partial(equinox_norm, mode) if mode else partial(BatchNorm, eps, momentum)
    made, empty = eqx.nn.make_with_state(EquinoxConvNet)(norm, strides)

    def to_equinox(entries):
        model, state = with_weights(made, _parameters(entries)), jax.tree.map(jnp.asarray, empty)
        for name in ("bn1", "bn2"):
            mean, var = (jnp.asarray(entries[f"{name}.running_{k}"]) for k in ("mean", "var"))
            norm = getattr(model, name)
            index = norm.batch_state_index or norm.ema_state_index
            state = state.set(index, (mean, var))
            if mode:
                index = norm.ema_first_time_index if mode == "ema" else norm.batch_counter
                state = state.set(index, jax.lax.full_like(state.get(index), 0))
        return (eqx.filter(model, eqx.is_array) if only_arrays else model), state

    def apply(variables, x, inference):
        model, state = variables
        arrays = model
        if only_arrays:
            model = eqx.combine(model, eqx.filter(made, eqx.is_array, inverse=True))
        run = eqx.nn.inference_mode(model, inference)
        outputs, state = jax.vmap(run, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(
            x, state
        )
        return outputs, (arrays, state)

    return parity.Pair(
        "equinox conv",
        TorchConvNet,
        apply,
        to_equinox,
        example_inputs=normal(0, 4, 3, 8, 8),
    )


def _parameters(entries):
    return {n: v for n, v in entries.items() if "running" not in n and "num_batches" not in n}


class TorchGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.cell = nn.GRUCell(6, WIDTH)
        self.fc = nn.Linear(WIDTH, 3)

    def forward(self, ids):
        h = torch.zeros(len(ids), WIDTH, dtype=self.fc.weight.dtype)
        for x in self.words(ids).unbind(1):
            h = self.cell(x, h)
        return self.fc(h)


class EquinoxGRU(eqx.Module):
    words: eqx.nn.Embedding
    cell: eqx.nn.GRUCell
    fc: eqx.nn.Linear

    def __init__(self):
        self.words = eqx.nn.Embedding(11, 6, key=KEY)
        self.cell = eqx.nn.GRUCell(6, WIDTH, key=KEY)
        self.fc = eqx.nn.Linear(WIDTH, 3, key=KEY)

    def __call__(self, ids):
        h = jnp.zeros(WIDTH, self.fc.weight.dtype)
        for i in ids:
            h = self.cell(self.words(i), h)
        return self.fc(h)


def gru(order=(0, 1, 2), reset_bias=True):
    """Equinox' cell has the two biases of r and z in one; it is a right port by their sum."""

    def to_equinox(entries):
        w, u, b, c = (
            np.split(np.asarray(entries[f"cell.{name}"]), 3)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        join = lambda parts: np.concatenate([parts[i] for i in order])  # noqa: E731
        if reset_bias:
            made = {"cell.bias": join([b[0] + c[0], b[1] + c[1], b[2]]), "cell.bias_n": c[2]}
        else:
            made = {"cell.bias": join([i + j for i, j in zip(b, c, strict=True)])}
            made["cell.bias_n"] = 0 * c[2]
        made |= {"cell.weight_ih": join(w), "cell.weight_hh": join(u)}
        rest = {n: v for n, v in entries.items() if not n.startswith("cell")}
        return with_weights(EquinoxGRU(), {**rest, **made})

    return parity.Pair(
        "equinox gru",
        TorchGRU,
        lambda model, ids: jax.vmap(model)(ids),
        to_equinox,
        example_inputs=integers(0, 11, 5, 7),
    )


class TorchAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        y = self.norm(x)
        return self.head((x + self.attn(y, y, y, need_weights=False)[0]).mean(1))


class EquinoxAttention(eqx.Module):
    norm: eqx.nn.LayerNorm
    attn: eqx.nn.MultiheadAttention
    head: eqx.nn.Linear

    def __init__(self, eps, heads):
        self.norm = eqx.nn.LayerNorm(WIDTH, eps=eps)
        biases = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
        self.attn = eqx.nn.MultiheadAttention(heads, WIDTH, **biases, key=KEY)
        self.head = eqx.nn.Linear(WIDTH, 3, key=KEY)

    def __call__(self, x):
        y = jax.vmap(self.norm)(x)
        return self.head((x + self.attn(y, y, y)).mean(0))


def attention(eps=1e-5, heads=2):
    def to_equinox(entries):
        made = {}
        for kind in ("weight", "bias"):
            joined = entries[f"attn.in_proj_{kind}"]
            for name, part in zip(("query", "key", "value"), np.split(joined, 3), strict=True):
                made[f"attn.{name}_proj.{kind}"] = part
            made[f"attn.output_proj.{kind}"] = entries[f"attn.out_proj.{kind}"]
        rest = {n: v for n, v in entries.items() if not n.startswith("attn")}
        return with_weights(EquinoxAttention(eps, heads), {**rest, **made})

    return parity.Pair(
        "equinox attention",
        TorchAttention,
        lambda model, x: jax.vmap(model)(x),
        to_equinox,
        example_inputs=normal(0, 4, 5, WIDTH),
    )
