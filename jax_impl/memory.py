"""What XLA keeps in memory and what it computes again."""

import jax
import jax.numpy as jnp
from jax import lax


def kept(array: jax.Array) -> jax.Array:
    """The same array, in memory: else XLA on a CPU computes it again, from all that it comes from,
    for each of its readers. That a branch is never taken it does not see."""
    width = 8 * array.dtype.itemsize
    first = array[(0,) * array.ndim]
    ones = lax.population_count(lax.bitcast_convert_type(first, jnp.dtype(f"uint{width}")))
    return lax.cond(ones > width, lambda x: -x, lambda x: x, array)
