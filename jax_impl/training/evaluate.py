"""Top-1 accuracy of a whole split, on the device."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

from jax_impl.data.archive import Split
from jax_impl.data.datasets import normalize
from jax_impl.models.model import Model, Variables
from jax_impl.training.step import compute_dtype


def make_evaluate(
    model: Model, batch_size: int = 100, dtype: Any = None, mirror: bool = False
) -> Callable[[Variables, Split], float]:
    """`(variables, split) -> top-1 accuracy` in [0, 1], in batches of `batch_size`.

    `dtype` is that to compute in, by default the parameters'. With `mirror` the logits of each
    image and of its mirror image, left to right, are added.
    """

    @jax.jit
    def count(variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        def correct(batch):
            inputs = normalize(batch[0], dtype or compute_dtype(variables.params))
            logits, _ = model.apply(variables, inputs, train=False)
            if mirror:
                logits += model.apply(variables, inputs[:, :, ::-1], train=False)[0]
            return (logits.argmax(-1) == batch[1]).sum()

        return lax.map(correct, (images, labels)).sum()

    def evaluate(variables: Variables, split: Split) -> float:
        size = len(split.labels)
        batches = -(-size // batch_size)
        padding = batches * batch_size - size
        images = np.pad(split.images, ((0, padding), (0, 0), (0, 0), (0, 0)))
        labels = np.pad(split.labels, (0, padding), constant_values=-1)  # no logit is class -1
        images = images.reshape(batches, batch_size, *images.shape[1:])
        return int(count(variables, images, labels.reshape(batches, batch_size))) / size

    return evaluate
