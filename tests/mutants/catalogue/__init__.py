"""The planted bugs, a file for each kind of fault; importing one adds its bugs to `MUTANTS`."""

from mutants.catalogue import (  # isort: skip
    convolutions,
    linear,
    activations_and_pooling,
    normalisation,
    residual_blocks,
    data,
    initial_weights,
    loss,
    gradients,
    optimizer,
    training_loop,
    precision,
)
from mutants.catalogue.common import MUTANTS

__all__ = [
    "MUTANTS",
    "convolutions",
    "linear",
    "activations_and_pooling",
    "normalisation",
    "residual_blocks",
    "data",
    "initial_weights",
    "loss",
    "gradients",
    "optimizer",
    "training_loop",
    "precision",
]
