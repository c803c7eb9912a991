"""Where each number of a state_dict goes in the variables of a JAX model.

Found by sending numbered entries through the pair's own `to_flax`: whatever that transposes,
reshapes, splits or joins, gradients and updated variables find the way back.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jax_impl.errors import InputError

_BASE = 1 << 22
"""Numbers are sent as two digits of this base, which float32 holds exactly."""


@dataclasses.dataclass(frozen=True)
class LeafMap:
    """Which numbers of a state_dict each leaf of the variables holds.

    For each leaf, in order: int64 indices into the concatenated state_dict, or None where it holds
    none; and whether they are parameters.
    """

    shapes: dict[str, tuple[int, ...]]
    offsets: dict[str, int]
    indices: list[np.ndarray | None]
    trainable: list[bool]
    structure: Any

    def split(self, variables: Any) -> tuple[list[Any], list[Any]]:
        """(trainable leaves, other leaves)."""
        leaves = jax.tree.leaves(variables)
        pairs = list(zip(leaves, self.trainable, strict=True))
        return [leaf for leaf, yes in pairs if yes], [leaf for leaf, yes in pairs if not yes]

    def join(self, trainable: list[Any], others: list[Any]) -> Any:
        """The inverse of `split`."""
        first, second = iter(trainable), iter(others)
        leaves = [next(first) if yes else next(second) for yes in self.trainable]
        return jax.tree.unflatten(self.structure, leaves)

    def to_torch(self, leaves: list[Any], which: bool | None = None) -> dict[str, np.ndarray]:
        """Leaves as entries of a state_dict, in PyTorch's names and layout.

        Args:
            leaves: of the variables, in order, those that `which` says.
            which: all of them (None), the trainable (True) or the other ones (False).
        """
        chosen = [
            index
            for index, yes in zip(self.indices, self.trainable, strict=True)
            if which is None or yes is which
        ]
        arrays = [np.asarray(leaf) for leaf in leaves]
        total = sum(map(_size, self.shapes.values()))
        flat = np.full(total, np.nan, np.float64)
        found = np.zeros(total, bool)
        for index, array in zip(chosen, arrays, strict=True):
            if index is not None:
                if index.shape != array.shape:
                    raise InputError(
                        f"the JAX model returned variables of shape {array.shape} in the place of "
                        f"{index.shape}"
                    )
                flat[index.ravel()] = array.ravel().astype(np.float64)
                found[index.ravel()] = True
        entries = {}
        for name, shape in self.shapes.items():
            part = slice(self.offsets[name], self.offsets[name] + _size(shape))
            if found[part].all():
                entries[name] = flat[part].reshape(shape)
        return entries


def leaf_map(to_flax: Any, state: Mapping[str, np.ndarray], parameters: set[str]) -> LeafMap:
    """The map of the converter `to_flax` for state_dicts like `state`.

    Args:
        to_flax: a state_dict of NumPy arrays -> the variables.
        state: names, shapes and dtypes of the state_dicts.
        parameters: the names that are trained; the others are statistics.

    Raises:
        InputError: the converter changes values, or mixes parameters and statistics in one leaf.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    sizes = [_size(shape) for shape in shapes.values()]
    offsets = dict(zip(shapes, itertools.accumulate([0, *sizes[:-1]]), strict=True))

    def send(digit: Any) -> list[np.ndarray]:
        numbers = {
            name: digit(np.arange(1, size + 1, dtype=np.int64) + offsets[name])
            .reshape(shapes[name])
            .astype(state[name].dtype)
            for name, size in zip(shapes, sizes, strict=True)
        }
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(to_flax(numbers))]

    low = send(lambda n: n % _BASE)
    high = send(lambda n: n // _BASE) if sum(sizes) >= _BASE else [np.zeros_like(x) for x in low]
    is_parameter = np.zeros(sum(sizes) + 1, bool)
    for name in parameters & set(shapes):
        start = offsets[name] + 1
        is_parameter[start : start + _size(shapes[name])] = True
    indices, trainable = [], []
    for number, (first, second) in enumerate(zip(low, high, strict=True)):
        numbers = first + _BASE * second
        whole = numbers.astype(np.int64)
        if (
            (whole != numbers).any()
            or whole.max(initial=0) > sum(sizes)
            or whole.min(initial=0) < 0
        ):
            raise InputError(
                f"to_flax changes values of leaf {number} of the variables: it may only move them"
            )
        if whole.size and (whole == 0).all():
            indices.append(None)  # a constant of the converter's own
            trainable.append(False)
            continue
        kinds = is_parameter[whole]
        if (whole == 0).any() or kinds.any() != kinds.all():
            raise InputError(
                f"to_flax mixes parameters with statistics or constants in leaf {number} of the "
                "variables"
            )
        indices.append(whole - 1)
        trainable.append(bool(kinds.all()) and kinds.size > 0)
    structure = jax.tree.structure(to_flax(dict(state)))
    return LeafMap(shapes, offsets, indices, trainable, structure)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
