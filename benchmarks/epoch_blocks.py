"""Blocks of a compiled epoch's steps on made-up images, timed: what benchmarks of a step share."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jax_impl.training.epoch import TrainEpoch
from jax_impl.training.state import TrainState

Visit = Callable[[int], tuple[Any, ...]]


def blocks(epoch: TrainEpoch, state: TrainState, images: int, visit: Visit) -> Callable:
    """A function from steps to the seconds that they took.

    Args:
        epoch: trains from where the block before it ended.
        state: at the start.
        images: there are, of random pixels and classes.
        visit: of so many steps the order, and perhaps what is drawn for it.
    """
    now, rng = [state], np.random.default_rng(0)
    pixels = jax.device_put(rng.integers(0, 256, (images, 32, 32, 3), np.uint8))
    labels = jax.device_put(rng.integers(0, 10, images).astype(np.int32))

    def block(steps: int) -> float:
        visited = visit(steps)
        started = time.perf_counter()
        for after, _ in epoch(now[0], pixels, labels, *visited):
            now[0] = after
        jax.block_until_ready(now[0])
        return time.perf_counter() - started

    return block
