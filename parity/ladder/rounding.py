"""Weights moved by one rounding.

What a computation makes of them is its own response to rounding, which no two implementations that
round differently can stay below.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def moved(value: np.ndarray, rng: np.random.Generator, eps: float | None = None) -> np.ndarray:
    """Each number of a float array times 1 + eps u, u uniform in [-1, 1), eps of its dtype."""
    eps = float(np.finfo(value.dtype).eps) if eps is None else eps
    # NumPy gives a scalar in the place of an array of no axes.
    return np.asarray(value * (1 + eps * rng.uniform(-1, 1, value.shape)), value.dtype)


def moved_arrays(
    state: Mapping[str, np.ndarray], rng: np.random.Generator, eps: float | None = None
) -> dict[str, np.ndarray]:
    """Every float array `moved`; integers stay."""
    return {
        name: moved(value, rng, eps) if value.dtype.kind == "f" else value
        for name, value in state.items()
    }


def moved_tree(variables: Any, seed: int, eps: float | None = None) -> Any:
    """A tree of JAX arrays with every float `moved`; integers stay."""
    rng = np.random.default_rng(seed)

    def move(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(moved(np.asarray(leaf), rng, eps))

    return jax.tree.map(move, variables)
