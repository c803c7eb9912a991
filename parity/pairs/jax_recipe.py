"""A recipe's rate, optimizer and draws in JAX. Imports no PyTorch."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import optax

from jax_impl.data.augmentation import Augmentation
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import (
    Drawn,
    alternating_flips,
    augmentation_draws,
    loader_orders,
)
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
    augment: Augmentation,
    *,
    by_torch: bool = True,
    seed: int = 0,
    epoch: int = 1,
    before: Callable[[np.ndarray], None] = lambda state: None,
) -> Iterator[tuple[np.ndarray, Drawn]]:
    """The order of `epoch` and of each after it, and what is drawn to augment the images in it.

    All that PyTorch would draw, or, where not `by_torch`, only the flips that alternate, which are
    drawn from the `seed`. `before` gets the generator's state before each epoch's draws.
    """
    orders = loader_orders(size, generator)
    mirrored = alternating_flips(seed, size) if augment.alternate else None
    crop, cutout = augment.crop, bool(augment.cutout)
    flip = augment.flip and not augment.alternate
    for number in itertools.count(epoch):
        before(generator.get_state())
        order, drawn = next(orders), Drawn()
        if by_torch:
            side = IMAGE_SIZE[0]
            drawn = augmentation_draws(generator, size, side, crop=crop, flip=flip, cutout=cutout)
        if mirrored is not None:
            drawn = drawn._replace(flipped=mirrored[order] == (number % 2 == 1))
        yield order, drawn
