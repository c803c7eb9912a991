"""A model with its weights as one program that JAX alone runs, on any platform."""

from typing import Any

import jax
import numpy as np
from jax import export

from jax_impl.data.datasets import normalize
from jax_impl.models.model import Model, Variables
from jax_impl.ops.platform import tracing_for

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(model: Model, variables: Variables, image_size: tuple[int, int]) -> export.Exported:
    """The program of uint8 images [batch, *image_size, 3] -> logits [batch, num_classes].

    Of any batch size, of the parameters' dtype, with products in full precision everywhere.
    `serialize()` gives its bytes, which hold StableHLO and the weights.

    Args:
        model: whose program it is.
        variables: of `model`.
        image_size: height and width in pixels.
    """
    held = jax.tree.map(np.asarray, variables)
    dtype = jax.tree.leaves(held.params)[0].dtype

    def logits(images: jax.Array) -> Any:
        return model.apply(held, normalize(images, dtype), train=False)[0]

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_size, 3), np.uint8)
    # A GPU and a TPU round float32 products by default.
    with tracing_for(PLATFORMS), jax.default_matmul_precision("highest"):
        return export.export(jax.jit(logits), platforms=PLATFORMS)(images)
