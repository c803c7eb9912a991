"""A variational autoencoder (Kingma and Welling 2014) in Linen under PyTorch's names.

The noise is an input, so that both sides sample alike; the outputs are a dict.
"""

from typing import Any

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import parity
from planted.nets.data import normal
from planted.nets.flax_layers import to_linen

STYLE = "linen, own names"
LATENT = 4


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Conv2d(1, 6, 3, 2, 1)
        self.act = nn.ELU()
        self.mean = nn.Linear(6 * 16, LATENT)
        self.logvar = nn.Linear(6 * 16, LATENT)
        self.lift = nn.Linear(LATENT, 6 * 16)
        self.dec = nn.ConvTranspose2d(6, 1, 4, 2, 1)

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.act(self.enc(x)).flatten(1)
        mean, logvar = self.mean(x), self.logvar(x)
        z = mean + noise * torch.exp(0.5 * logvar)
        x = self.act(self.lift(z)).unflatten(1, (6, 4, 4))
        return {"recon": self.dec(x).flatten(1), "mean": mean, "logvar": logvar}


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, noise):
        x = linen.elu(linen.Conv(6, (3, 3), 2, ((1, 1), (1, 1)), name="enc")(x))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        mean, logvar = linen.Dense(LATENT, name="mean")(x), linen.Dense(LATENT, name="logvar")(x)
        z = mean + noise * jnp.exp(0.5 * logvar)
        x = linen.elu(linen.Dense(6 * 16, name="lift")(z))
        x = x.reshape(-1, 6, 4, 4).transpose(0, 2, 3, 1)
        dec = linen.ConvTranspose(1, (4, 4), (2, 2), "SAME", transpose_kernel=False, name="dec")
        return {"recon": dec(x).reshape(len(x), -1), "mean": mean, "logvar": logvar}


def apply(variables, x, noise):
    return Net().apply(variables, x, noise)


def to_flax(state, flip: bool = True):
    """ConvTranspose's kernel [in, out, h, w] -> [h, w, in, out], turned round in both axes."""
    kernel = state["dec.weight"].transpose(1, 0, 2, 3)
    return to_linen({**state, "dec.weight": kernel[..., ::-1, ::-1] if flip else kernel})


def loss(outputs, labels, *, kl: str = "sum", factor: float = 0.5):
    mean, logvar = outputs["mean"], outputs["logvar"]
    terms = jnp.square(mean) + jnp.exp(logvar) - 1 - logvar
    apart = factor * (terms.sum(1).mean() if kl == "sum" else terms.mean())
    return jnp.square(outputs["recon"] - labels).sum(1).mean() + apart


def torch_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    mean, logvar = outputs["mean"], outputs["logvar"]
    apart = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
    return F.mse_loss(outputs["recon"], labels, reduction="none").sum(1).mean() + apart


def make(convert: Any = to_flax, jax_loss: Any = loss) -> parity.Pair:
    images = normal(5, 1, 8, 8)
    inputs: Any = images, normal(5, LATENT, seed=1)
    return parity.Pair(
        "vae",
        TorchNet,
        apply,
        convert,
        example_inputs=inputs,
        labels=np.ascontiguousarray(images.reshape(5, -1)),
        channels_last=True,
        loss=parity.Loss(torch_loss, jax_loss),
    )
