"""Recurrent nets."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from jax import lax
from torch import nn
from torch.nn import functional as F

import parity
from correct import common
from correct.common import integers, linear, normal

INPUTS, WIDTH, STEPS = 6, 8, 7


def scanned(cell, carry, x, reverse=False):
    """(the last carry, the outputs [n, t, d]) of a cell over x [n, t, d]."""
    carry, outputs = lax.scan(cell, carry, x.swapaxes(0, 1), reverse=reverse)
    return carry, outputs.swapaxes(0, 1)


def zeros(x):
    return jnp.zeros((len(x), WIDTH), x.dtype)


def lstm_layer(p, layer, x, reverse=False):
    """nn.LSTM's layer, by its names; gates in the order i, f, g, o."""
    w, u = p[f"lstm.weight_ih_{layer}"], p[f"lstm.weight_hh_{layer}"]
    bias = p[f"lstm.bias_ih_{layer}"] + p[f"lstm.bias_hh_{layer}"]

    def cell(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ w.T + h @ u.T + bias, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return scanned(cell, (zeros(x), zeros(x)), x, reverse)


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, WIDTH, batch_first=True)
        self.fc = nn.Linear(WIDTH, 3)

    def forward(self, x):
        outputs, (h, _) = self.lstm(x)
        return self.fc(outputs.mean(1)), h[0]


def lstm(seed: int) -> parity.Pair:
    """A tuple of outputs: the logits and the last hidden state."""

    def apply(p, x):
        (h, _), outputs = lstm_layer(p, "l0", x)
        return linear(p, "fc", outputs.mean(1)), h

    entropy = common.token_loss().jax
    return parity.Pair(
        "LSTM",
        LSTM,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 6, STEPS, INPUTS),
        labels=integers(seed, 3, 6),
        loss=parity.Loss(
            lambda o, y: F.cross_entropy(o[0], y) + o[1].square().mean(),
            lambda o, y: entropy(o[0], y) + jnp.square(o[1]).mean(),
        ),
        optimizer=common.adam(),
    )


class GRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(INPUTS, WIDTH, num_layers=2, batch_first=True)
        self.fc = nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.fc(self.gru(x)[0][:, -1])


def gru(seed: int) -> parity.Pair:
    """Two layers; both of PyTorch's biases are kept apart."""

    def layer(p, number, x):
        parts = {
            leaf: jnp.split(p[f"gru.{leaf}_l{number}"], 3)
            for leaf in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }

        def cell(h, x):
            a = [x @ w.T + b for w, b in zip(parts["weight_ih"], parts["bias_ih"], strict=True)]
            b = [h @ w.T + b for w, b in zip(parts["weight_hh"], parts["bias_hh"], strict=True)]
            r, z = jax.nn.sigmoid(a[0] + b[0]), jax.nn.sigmoid(a[1] + b[1])
            h = (1 - z) * jnp.tanh(a[2] + r * b[2]) + z * h
            return h, h

        return scanned(cell, zeros(x), x)[1]

    def apply(p, x):
        return linear(p, "fc", layer(p, 1, layer(p, 0, x))[:, -1])

    return parity.Pair(
        "two-layer GRU",
        GRU,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 6, STEPS, INPUTS),
        labels=integers(seed, 3, 6),
    )


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, INPUTS)
        self.lstm = nn.LSTM(INPUTS, WIDTH, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * WIDTH, 4)

    def forward(self, ids):
        return self.fc(self.lstm(self.words(ids))[0])


def bidirectional(seed: int) -> parity.Pair:
    """An LSTM of words in both directions, a label for each of them."""

    def apply(p, ids):
        x = p["words.weight"][ids]
        forward = lstm_layer(p, "l0", x)[1]
        backward = lstm_layer(p, "l0_reverse", x, reverse=True)[1]
        return linear(p, "fc", jnp.concatenate([forward, backward], -1))

    return parity.Pair(
        "bidirectional LSTM",
        Tagger,
        apply,
        common.as_they_are,
        example_inputs=integers(seed + 1, 11, 5, STEPS),
        labels=integers(seed, 4, 5, STEPS),
        loss=common.token_loss(),
    )


class TorchCell(nn.Module):
    """A GRU with one bias for each gate, as papers and Flax have it."""

    def __init__(self):
        super().__init__()
        for gate in "rzn":
            setattr(self, f"i{gate}", nn.Linear(INPUTS, WIDTH))
            setattr(self, f"h{gate}", nn.Linear(WIDTH, WIDTH, bias=gate == "n"))

    def forward(self, h, x):
        layers = dict(self.named_children())

        def inputs_and_state(gate):
            return layers[f"i{gate}"](x), layers[f"h{gate}"](h)

        r, z = (torch.sigmoid(torch.add(*inputs_and_state(gate))) for gate in "rz")
        a, b = inputs_and_state("n")
        return (1 - z) * torch.tanh(a + r * b) + z * h


class TorchRecurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.fc = TorchCell(), nn.Linear(WIDTH, 3)

    def forward(self, x):
        h = x.new_zeros(len(x), WIDTH)
        for step in range(x.shape[1]):
            h = self.cell(h, x[:, step])
        return self.fc(h)


class FlaxRecurrent(linen.Module):
    @linen.compact
    def __call__(self, x):
        cell = linen.GRUCell(WIDTH, name="cell")
        start = jnp.zeros((len(x), WIDTH), x.dtype)
        outputs = jnp.asarray(linen.RNN(cell, name="rnn")(x, initial_carry=start))
        return linen.Dense(3, name="fc")(outputs[:, -1])


def linen_rnn(seed: int) -> parity.Pair:
    """`linen.RNN` of a GRUCell."""
    return parity.Pair(
        "linen.RNN",
        TorchRecurrent,
        FlaxRecurrent().apply,
        common.by_names,
        example_inputs=normal(seed, 6, STEPS, INPUTS),
        labels=integers(seed, 3, 6),
    )
