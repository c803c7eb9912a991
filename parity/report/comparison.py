"""The notebook's question: how does a ResNet compare with a conventional CNN?"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch.utils.flop_counter import FlopCounterMode

from parity.ladder.rungs.accuracy import Outcome
from parity.pairs.pair import ModelPair

IMAGE = (32, 32, 3)


@dataclasses.dataclass(frozen=True)
class Row:
    """One model in one framework.

    `forward_flops` is for one image, as the framework counts: PyTorch the products of its
    convolutions and linear layers, XLA all operations of what it was given, without the products
    with padding that this project leaves out. `epoch_seconds` is an epoch's steps times a step's
    median time. `losses` has one for each epoch or part that `extent` says was trained, and
    `accuracies` that of the first test images after each; `unit` is "epoch" or "part".
    """

    model: str
    framework: str
    parameters: int
    forward_flops: int
    epoch_seconds: float
    losses: list[float]
    accuracy: float
    extent: str
    accuracies: list[float] = dataclasses.field(default_factory=list)
    unit: str = "epoch"


def compare(pair: ModelPair, outcome: Outcome, images: int) -> list[Row]:
    """A row for each framework; `images` is the size of the training split."""
    counts = {"JAX": (jax_parameters(pair), jax_flops(pair))}
    counts["PyTorch"] = (torch_parameters(pair), torch_flops(pair))
    steps = math.ceil(images / pair.recipe.batch_size)
    return [
        Row(
            pair.name,
            training.framework,
            *counts[training.framework],
            training.step_seconds * steps,
            training.losses,
            training.accuracy,
            outcome.plan.extent,
            training.checkpoints,
            outcome.plan.unit,
        )
        for training in outcome.trainings
    ]


def jax_parameters(pair: ModelPair) -> int:
    """Trainable numbers."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(pair.model.shapes.params))


def torch_parameters(pair: ModelPair) -> int:
    """Trainable numbers."""
    return sum(parameter.numel() for parameter in pair.make_torch().parameters())


def jax_flops(pair: ModelPair) -> int:
    """XLA's count for the forward pass of one image."""
    images = jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)
    lowered = jax.jit(lambda v, x: pair.model.apply(v, x, train=False)[0]).lower(
        pair.model.shapes, images
    )
    analysis: Any = lowered.cost_analysis()
    return round(analysis["flops"])


def torch_flops(pair: ModelPair) -> int:
    """PyTorch's count for the forward pass of one image."""
    module = pair.make_torch().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, IMAGE[2], *IMAGE[:2]))
    return counter.get_total_flops()
