"""A recipe's rate, optimizer and draws in JAX. Imports no PyTorch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optax

from jax_impl.data.augmentation import Augmentation
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import augmentation_draws, loader_orders
from jax_impl.training import build
from jax_impl.training.schedules import Schedule
from parity.shell.recipes import IMAGE_SIZE, Recipe


def learning_rate(recipe: Recipe, batches: int) -> float | Schedule:
    """The recipe's, of each step of the optimizer; of so many batches in an epoch."""
    return build.learning_rate(recipe.lr, **recipe.schedule_options(batches))


def make_optimizer(recipe: Recipe, batches: int) -> optax.GradientTransformation:
    """What the recipe says of it; of so many batches in an epoch."""
    return build.optimizer(
        recipe.optimizer,
        learning_rate(recipe, batches),
        decay_norms=recipe.decay_norms,
        clip_norm=recipe.clip_norm,
        ema=recipe.ema,
        accumulate=recipe.accumulate,
        **recipe.optimizer_options,
    )


def visits(
    size: int,
    generator: Generator,
    drawn: Augmentation,
    before: Callable[[np.ndarray], None] = lambda state: None,
) -> Iterator[Any]:
    """Each epoch's order, with what PyTorch would draw for `drawn` and the images in it.

    `before` gets the generator's state before each epoch's draws.
    """
    orders = loader_orders(size, generator)
    while True:
        before(generator.get_state())
        order = next(orders)
        if not drawn:
            yield order
            continue
        crop, flip, cutout = drawn.crop, drawn.flip, bool(drawn.cutout)
        side = IMAGE_SIZE[0]
        yield (
            order,
            augmentation_draws(generator, size, side, crop=crop, flip=flip, cutout=cutout),
        )
