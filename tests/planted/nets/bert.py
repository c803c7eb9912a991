"""A masked language model (Devlin et al. 2019), as a plain function with taps.

Post-norm, a mask of real tokens, dropout of 0.1, the head tied to the embedding.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import parity
from parity import tap
from planted.nets.data import integers
from planted.nets.functional import as_arrays, dropout, layer_norm, linear

STYLE = "function with taps"
DIM, HEADS, WORDS, PLACES, OFFSET = 16, 2, 40, 16, 2


class TorchAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(DIM, DIM)
        self.key = nn.Linear(DIM, DIM)
        self.value = nn.Linear(DIM, DIM)
        self.output = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        def heads(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = q @ k.transpose(-2, -1) / math.sqrt(DIM // HEADS)
        scores = scores.masked_fill(mask[:, None, None] == 0, -math.inf)
        return self.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class TorchBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = TorchAttention()
        self.norm1 = nn.LayerNorm(DIM, eps=1e-12)
        self.up = nn.Linear(DIM, 2 * DIM)
        self.act = nn.GELU()
        self.down = nn.Linear(2 * DIM, DIM)
        self.norm2 = nn.LayerNorm(DIM, eps=1e-12)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + self.drop(self.attention(x, mask)))
        return self.norm2(x + self.drop(self.down(self.act(self.up(x)))))


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, DIM, padding_idx=0)
        self.places = nn.Embedding(PLACES, DIM)
        self.norm = nn.LayerNorm(DIM, eps=1e-12)
        self.drop = nn.Dropout(0.1)
        self.block1 = TorchBlock()
        self.block2 = TorchBlock()
        self.transform = nn.Linear(DIM, DIM)
        self.decoder = nn.Linear(DIM, WORDS)
        self.decoder.weight = self.words.weight

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1], device=ids.device) + OFFSET  # as RoBERTa's
        x = self.drop(self.norm(self.words(ids) + self.places(places)))
        x = self.block2(self.block1(x, mask), mask)
        return self.decoder(F.gelu(self.transform(x)))


def hidden_keys(scores, mask):
    return jnp.where(mask[:, None, None] == 0, -jnp.inf, scores)


def shown_padding(scores, mask):
    """The mask read as that of padding."""
    return jnp.where(mask[:, None, None] == 0, scores, -1e30)


def mask_added(scores, mask):
    """0 and 1 added to the scores, as if they were 0 and minus infinity."""
    return scores + mask[:, None, None]


def attention(v, name, x, mask, masked):
    def heads(y):
        return y.reshape(*y.shape[:2], HEADS, -1).swapaxes(1, 2)

    q, k, values = (
        heads(tap(f"{name}.{part}", linear(v, f"{name}.{part}", x)))
        for part in ("query", "key", "value")
    )
    scores = masked(q @ k.swapaxes(-2, -1) / math.sqrt(DIM // HEADS), mask)
    joined = (jax.nn.softmax(scores) @ values).swapaxes(1, 2).reshape(x.shape)
    return tap(f"{name}.output", linear(v, f"{name}.output", joined))


def constant_padding(words):
    """The row of the padding is not trained."""
    return words.at[0].set(jax.lax.stop_gradient(words[0]))


def as_it_is(words):
    return words


def apply(
    v,
    ids,
    mask,
    deterministic: bool = True,
    *,
    masked: Any = hidden_keys,
    ddof: int = 0,
    table: Any = constant_padding,
    head: str = "words.weight",
    drop_in_eval: bool = False,
):
    keys = iter(jax.random.split(jax.random.key(0), 8))
    norm = partial(layer_norm, eps=1e-12, ddof=ddof)

    def drop(x):
        return x if deterministic and not drop_in_eval else dropout(x, 0.1, next(keys))

    def block(name, x):
        y = tap(f"{name}.attention", attention(v, f"{name}.attention", x, mask, masked))
        x = tap(f"{name}.norm1", norm(v, f"{name}.norm1", x + drop(y)))
        y = tap(f"{name}.up", linear(v, f"{name}.up", x))
        y = tap(f"{name}.act", jax.nn.gelu(y, approximate=False))
        y = tap(f"{name}.down", linear(v, f"{name}.down", y))
        return tap(f"{name}.norm2", norm(v, f"{name}.norm2", x + drop(y)))

    words = tap("words", table(v["words.weight"])[ids])
    places = tap("places", v["places.weight"][jnp.arange(ids.shape[1]) + OFFSET])
    x = drop(tap("norm", norm(v, "norm", words + places)))
    x = tap("block2", block("block2", tap("block1", block("block1", x))))
    x = jax.nn.gelu(tap("transform", linear(v, "transform", x)), approximate=False)
    return tap("decoder", x @ v[head].T + v["decoder.bias"])


def tied(state):
    return as_arrays({k: value for k, value in state.items() if k != "decoder.weight"})


def untied(state):
    """A head of its own, which begins as a copy."""
    return as_arrays({**state, "decoder.weight": state["words.weight"]})


def loss(logits, labels):
    """The mean over the labels that are not -100."""
    kept = labels != -100
    logs = jax.nn.log_softmax(logits)
    index = jnp.where(kept, labels, 0)[..., None]
    return -(jnp.take_along_axis(logs, index, -1)[..., 0] * kept).sum() / kept.sum()


def torch_loss(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def make(convert: Any = tied, jax_loss: Any = loss, **switches: Any) -> parity.Pair:
    lengths = np.array([10, 7, 5, 10, 8, 6])
    mask = (np.arange(10) < lengths[:, None]).astype(np.int64)
    labels = np.where(integers(3, 6, 10, seed=2) == 0, integers(WORDS, 6, 10, seed=3), -100)
    inputs: Any = {"ids": integers(WORDS, 6, 10, low=1) * mask, "mask": mask}
    return parity.Pair(
        "bert",
        TorchNet,
        partial(apply, **switches),
        convert,
        example_inputs=inputs,
        labels=labels,
        loss=parity.Loss(torch_loss, jax_loss),
    )
