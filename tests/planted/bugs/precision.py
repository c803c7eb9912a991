"""Products in fewer digits, variances in one pass, logarithms of rounded numbers."""

from functools import partial

import jax.numpy as jnp

from planted.bug import LOSS, bug, fault, inside
from planted.nets import mixer, regression, siamese, vit

BUGS = (
    bug(
        "scores in bfloat16",
        "vit",
        partial(vit.make, attention={"narrow": jnp.bfloat16}),
        "forward",
        fault(inside("block1 block2", "attn"), "bfloat16", "bf16", "precision"),
    ),
    bug(
        "patches in float32 whatever they are given",
        "mixer",
        partial(mixer.make, dtype=jnp.float32),
        "forward",
        fault("patch", "float32", "precision", "single"),
        strict=True,
    ),
    bug(
        "variance in one pass of inputs of mean 1000",
        "regression",
        partial(regression.make, mean=1000.0, one_pass=True),
        "forward",
        fault(
            "norm",
            "one pass",
            "one-pass",
            "single pass",
            "fast variance",
            "fast_variance",
            "e[x",
            "cancel",
            "square",
        ),
        dtype="float32",
    ),
    bug(
        "logarithms of probabilities with 1e-7 added",
        "siamese",
        partial(siamese.make, jax_loss=siamese.loss_of_probabilities),
        "loss",
        fault(LOSS, "1e-7", "1e-07", "eps", "overflow", "logits", "stable", "probabilit", "clip"),
    ),
)
