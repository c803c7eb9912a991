"""Right ports under remat, scan and RNN, some of them as strangers write them."""

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
from correct import common
from correct.common import normal
from correct.transforms import lax_scan, linen_remat, linen_scan, nnx_remat
from torch import nn

import parity

SCANNED = {
    "linen.remat": linen_remat,
    "nnx.remat": nnx_remat,
    "linen.scan": linen_scan,
    "lax.scan": lax_scan,
}
"""Makers of those among the correct pairs."""


class GRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.fc = nn.GRU(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.gru(x)[0][:, -1])


class FlaxGRU(linen.Module):
    @linen.compact
    def __call__(self, x):
        outputs = jnp.asarray(linen.RNN(linen.GRUCell(5, name="cell"), name="gru")(x))
        return linen.Dense(3, name="fc")(outputs[:, -1])


def linen_rnn():
    """`linen.RNN` with its own first carry, which is float32; two of PyTorch's biases are added."""

    def to_flax(state):
        parts = {
            part: np.split(np.asarray(state[f"gru.{part}_l0"]), 3)
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        cell = {}
        for i, gate in enumerate("rzn"):
            bias = parts["bias_ih"][i]
            cell[f"h{gate}"] = {"kernel": jnp.asarray(parts["weight_hh"][i].T)}
            if gate == "n":
                cell["hn"]["bias"] = jnp.asarray(parts["bias_hh"][i])
            else:
                bias = bias + parts["bias_hh"][i]
            kernel = jnp.asarray(parts["weight_ih"][i].T)
            cell[f"i{gate}"] = {"kernel": kernel, "bias": jnp.asarray(bias)}
        rest = {name: v for name, v in state.items() if name.startswith("fc.")}
        params = {"cell": cell, **common.by_names(rest)["params"]}
        return {"params": params}

    x = normal(0, 4, 7, 6)
    return parity.Pair("linen.RNN", GRU, FlaxGRU().apply, to_flax, example_inputs=x)
