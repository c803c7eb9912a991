"""A GRU that reads and one that writes (Cho et al. 2014), naming nothing."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch
from torch import nn
from torch.nn import functional as F

import parity
from planted.nets.data import integers
from planted.nets.functional import as_arrays, linear
from planted.nets.recurrent import gru

STYLE = "function without taps"
WORDS, DIM = 20, 10


class TorchNet(nn.Module):
    def __init__(self, detached: bool = False):
        super().__init__()
        self.embed = nn.Embedding(WORDS, DIM)
        self.encoder = nn.GRU(DIM, DIM, batch_first=True)
        self.decoder = nn.GRU(DIM, DIM, batch_first=True)
        self.out = nn.Linear(DIM, WORDS)
        self.detached = detached

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        _, state = self.encoder(self.embed(source))
        if self.detached:
            state = state.detach()
        outputs, _ = self.decoder(self.embed(target), state)
        return self.out(outputs)


def apply(v, source, target, *, cell: Any = gru, from_zeros: bool = False):
    embed = v["embed.weight"]
    start = jnp.zeros((len(source), DIM), embed.dtype)
    _, state = cell(v, "encoder", embed[source], start)
    outputs, _ = cell(v, "decoder", embed[target], start if from_zeros else state)
    return linear(v, "out", outputs)


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def make(detached: bool = False, **switches: Any) -> parity.Pair:
    inputs: Any = (integers(WORDS, 5, 7), integers(WORDS, 5, 6, seed=1))
    return parity.Pair(
        "seq2seq",
        partial(TorchNet, detached),
        partial(apply, **switches),
        as_arrays,
        example_inputs=inputs,
        labels=integers(WORDS, 5, 6, seed=2),
        loss=parity.Loss(lambda x, y: F.cross_entropy(x.flatten(0, 1), y.flatten()), loss),
    )
