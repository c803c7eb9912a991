"""Optax's bias correction of moments, 1 - beta**t, which it computes in float32."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

FLOAT32 = "Optax's bias correction is computed in float32"


@contextlib.contextmanager
def bias_correction(function: Callable[[Any, Any, Any], Any]) -> Iterator[None]:
    """Optax with another function for the bias correction of its moments."""
    original = optax.tree_utils.tree_bias_correction
    places = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key.partition(".")[0] == "optax"
        for name, value in list(vars(module).items())
        if value is original
    ]
    try:
        for module, name in places:
            setattr(module, name, function)
        yield
    finally:
        for module, name in places:
            setattr(module, name, original)


def exact_correction(moment: Any, decay: Any, count: Any) -> Any:
    """Moments over 1 - decay**count, whose digits are kept in their own precision."""

    def divide(value: Any) -> Any:
        power = jnp.asarray(count, value.dtype) * jnp.log(jnp.asarray(decay, value.dtype))
        if isinstance(decay, float) and 0 < decay < 1:  # its logarithm has more digits than float32
            power = jnp.asarray(count, value.dtype) * jnp.asarray(math.log(decay), value.dtype)
        return value / -jnp.expm1(power)

    return jax.tree.map(divide, moment)
