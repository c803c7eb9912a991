"""A text classifier: two layers of LSTMs in both directions; a function with taps."""

from typing import Any

import jax.numpy as jnp
import torch
from torch import nn

import parity
from parity import tap
from planted.nets.data import integers
from planted.nets.functional import as_arrays, linear
from planted.nets.recurrent import lstm

STYLE = "function with taps"
WORDS, DIM = 30, 8


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, DIM)
        self.lstm = nn.LSTM(DIM, DIM, 2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(2 * DIM, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.lstm(self.embed(ids))
        return self.fc(outputs[:, -1])


def apply(v, ids, *, turn_back: bool = True, **cell: Any):
    """`turn_back`: the outputs of the reverse direction are put in order again."""
    x = tap("embed", v["embed.weight"][ids])
    for layer in ("l0", "l1"):
        onward = lstm(v, "lstm", layer, x, **cell)
        back = lstm(v, "lstm", f"{layer}_reverse", x[:, ::-1], **cell)
        x = jnp.concatenate([onward, back[:, ::-1] if turn_back else back], -1)
    return tap("fc", linear(v, "fc", tap("lstm", x)[:, -1]))


def make(options: Any = None, **switches: Any) -> parity.Pair:
    def jax_apply(variables, ids):
        return apply(variables, ids, **switches)

    given = {"example_inputs": integers(WORDS, 6, 9), **(options or {})}
    return parity.Pair("lstm_text", TorchNet, jax_apply, as_arrays, **given)
