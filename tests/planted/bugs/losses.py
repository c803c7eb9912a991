"""Losses: what they are divided by, weighted by and computed in."""

from functools import partial

import jax.numpy as jnp

from planted.bug import LOSS, bug, fault
from planted.nets import regression, resnet, segmentation, vae

SEGMENTATION = segmentation.loss

BUGS = (
    bug(
        "ignored labels are counted",
        "segmentation",
        partial(segmentation.make, jax_loss=partial(SEGMENTATION, ignoring=False)),
        "loss",
        fault(LOSS, "ignore", "255"),
    ),
    bug(
        "weighted sum divided by the number of pixels",
        "segmentation",
        partial(segmentation.make, jax_loss=partial(SEGMENTATION, over="counted")),
        "loss",
        fault(LOSS, "weight", "divided", "mean", "average", "reduction"),
    ),
    bug(
        "labels not smoothed",
        "resnet",
        partial(resnet.make, smoothing=0.0),
        "loss",
        fault(LOSS, "smooth"),
    ),
    bug(
        "half of the squared error",
        "regression",
        partial(regression.make, jax_loss=partial(regression.loss, factor=0.5)),
        "loss",
        fault(LOSS, "0.5", "half", "factor", "1/2", "halved", "divided by 2"),
    ),
    bug(
        "divergence averaged over the latent numbers",
        "vae",
        partial(vae.make, jax_loss=partial(vae.loss, kl="mean")),
        "loss",
        fault(LOSS, "mean", "average", "sum", "reduc", "divided", "factor", "term", "weight"),
    ),
    bug(
        "loss in bfloat16",
        "segmentation",
        partial(segmentation.make, jax_loss=partial(SEGMENTATION, narrow=jnp.bfloat16)),
        "loss",
        fault(LOSS, "bfloat16", "half precision", "bf16", "precision"),
    ),
)
