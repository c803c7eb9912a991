"""Top-1 accuracy of a whole split, and logits of images, on the device."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh

from jax_impl.data.archive import Split
from jax_impl.data.datasets import normalize
from jax_impl.models.model import Model, Variables
from jax_impl.training import mesh as meshes
from jax_impl.training.step import compute_dtype


def make_evaluate(
    model: Model,
    batch_size: int = 100,
    dtype: Any = None,
    mirror: bool = False,
    mesh: Mesh | None = None,
) -> Callable[[Variables, Split], float]:
    """`(variables, split) -> top-1 accuracy` in [0, 1], in batches of `batch_size`.

    `dtype` is that to compute in, by default the parameters'. With `mirror` the logits of each
    image and of its mirror image, left to right, are added. On a `mesh`, on which the variables
    lie, its devices share out each batch.
    """

    @jax.jit
    def count(variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        def correct(batch):
            if mesh is not None:
                batch = meshes.constrain(batch, meshes.shared_out(mesh))
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
        inputs = images, labels.reshape(batches, batch_size)
        if mesh is not None:
            inputs = meshes.put(mesh, inputs)
        return int(count(variables, *inputs)) / size

    return evaluate


def make_logits(
    model: Model, batch_size: int = 100, mirror: bool = False
) -> Callable[..., np.ndarray]:
    """`(variables, images, on_images) -> logits`, in batches of `batch_size`.

    Images are uint8 [n, h, w, 3], logits [n, num_classes] of the parameters' dtype, in which they
    are computed. With `mirror` they are the mean of those of each image and of its mirror image,
    left to right. `on_images`, which may be left out, is told how many images are done.
    """

    @jax.jit
    def compute(variables: Variables, images: jax.Array) -> jax.Array:
        inputs = normalize(images, compute_dtype(variables.params))
        logits, _ = model.apply(variables, inputs, train=False)
        if mirror:
            logits = (logits + model.apply(variables, inputs[:, :, ::-1], train=False)[0]) / 2
        return logits

    def compute_all(
        variables: Variables,
        images: np.ndarray,
        on_images: Callable[[int], None] = lambda done: None,
    ) -> np.ndarray:
        found = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            missing = batch_size - len(batch)  # filled up: one shape is compiled once
            padded = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
            found.append(np.asarray(compute(variables, padded))[: len(batch)])
            on_images(start + len(batch))
        return np.concatenate(found)

    return compute_all
