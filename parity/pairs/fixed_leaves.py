"""What variables hold beside numbers: functions, flags and sizes, which JAX does not trace.

An Equinox module may be the variables as it is. While the suite holds variables, what is no array
in them is part of their structure; the user's functions get them as they were made.
"""

import sys
from typing import Any

import jax
import numpy as np

NUMBERS = int, float, complex


@jax.tree_util.register_static
class Fixed:
    """A leaf that is no array; two that are one object, or equal, are of one structure."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fixed) or type(self.value) is not type(other.value):
            return False
        return self.value is other.value or bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(type(self.value))


def hidden(tree: Any) -> Any:
    """The tree with what is no array as part of its structure.

    Plain numbers are so inside of an Equinox module, where `filter_jit` takes them for fixed too;
    elsewhere a number may be a weight.
    """
    module = getattr(sys.modules.get("equinox"), "Module", ())

    def inside(leaf: Any) -> Any:
        return leaf if _is_array(leaf) else Fixed(leaf)

    def outside(leaf: Any) -> Any:
        if isinstance(leaf, module):
            return jax.tree.map(inside, leaf)
        plain_number = isinstance(leaf, NUMBERS) and not isinstance(leaf, bool)
        return leaf if plain_number else inside(leaf)

    return jax.tree.map(outside, tree, is_leaf=lambda leaf: isinstance(leaf, module))


def shown(tree: Any) -> Any:
    """The inverse of `hidden`."""
    return jax.tree.map(
        lambda leaf: leaf.value if isinstance(leaf, Fixed) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Fixed),
    )


def is_numbers(leaf: Any) -> bool:
    """Whether it is a number, or an array of numbers that is JAX's or NumPy's."""
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind not in "OSUMm"
    return isinstance(leaf, jax.Array | int | float | complex)


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
        return True
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")
