"""Planted bugs of precision."""

# pyright: reportArgumentType=false, reportIndexIssue=false

from typing import Any

import jax.numpy as jnp
from jax import lax

from jax_impl.ops import convolution
from mutants.catalogue.common import basic, mutant


def rounded_products(patch: Any, bits: int) -> None:
    convolve = convolution.conv2d

    def rounded(images, kernel, *rest):
        if images.dtype == jnp.float32:
            images, kernel = (lax.reduce_precision(x, 8, bits) for x in (images, kernel))
        return convolve(images, kernel, *rest)

    patch.setattr(convolution, "conv2d", rounded)


@mutant("precision", basic, "forward", "conv1", "TF32")
def convolutions_in_tf32(patch, make):
    rounded_products(patch, 10)
    return make()


@mutant("precision", basic, "forward", "conv1", "bfloat16")
def convolutions_in_bfloat16(patch, make):
    rounded_products(patch, 7)
    return make()
