"""Recurrent nets with the usual bugs of their gates."""

import jax
import jax.numpy as jnp
from correct.common import as_they_are, integers, linear, normal
from correct.recurrent import lstm_layer, scanned
from torch import nn

import parity

INPUTS, WIDTH = 6, 8


class GRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.fc = nn.GRU(INPUTS, WIDTH, batch_first=True), nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.fc(self.gru(x)[1][0])


def reset_before_the_product():
    """Keras' reset_after=False: the reset gate multiplies the state and not its product."""

    def apply(p, x):
        w, u = (jnp.split(p[f"gru.weight_{part}_l0"], 3) for part in ("ih", "hh"))
        b, c = (jnp.split(p[f"gru.bias_{part}_l0"], 3) for part in ("ih", "hh"))

        def cell(h, x):
            r, z = (jax.nn.sigmoid(x @ w[i].T + b[i] + h @ u[i].T + c[i]) for i in (0, 1))
            n = jnp.tanh(x @ w[2].T + b[2] + (r * h) @ u[2].T + c[2])
            h = (1 - z) * n + z * h
            return h, h

        start = jnp.zeros((len(x), WIDTH), x.dtype)
        return linear(p, "fc", scanned(cell, start, x)[0])

    return parity.Pair("GRU", GRU, apply, as_they_are, example_inputs=normal(0, 5, 7, INPUTS))


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, INPUTS)
        self.lstm, self.fc = nn.LSTM(INPUTS, WIDTH, batch_first=True), nn.Linear(WIDTH, 3)

    def forward(self, ids):
        return self.fc(self.lstm(self.words(ids))[0][:, -1])


def gates_in_another_order():
    """Those of TensorFlow, i, g, f, o, taken for PyTorch's i, f, g, o."""

    def apply(p, ids):
        p = dict(p)
        for name in [name for name in p if name.startswith("lstm.")]:
            i, f, g, o = jnp.split(p[name], 4)
            p[name] = jnp.concatenate([i, g, f, o])
        return linear(p, "fc", lstm_layer(p, "l0", p["words.weight"][ids])[1][:, -1])

    return parity.Pair("LSTM", LSTM, apply, as_they_are, example_inputs=integers(0, 11, 5, 7))
