"""Inputs and outputs of any structure, as arrays by path."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import torch

ARRAYS = jax.Array, np.ndarray, np.generic, torch.Tensor


def leaves(tree: Any) -> dict[str, Any]:
    """Every array of a nested structure by its path.

    The path of a single array is "", of an entry of a mapping its key, of a field of a dataclass or
    a named tuple its name, of a member of a tuple or a list its number; they are joined by dots.
    What is no array (None, a string) has none.
    """
    return dict(_walk(tree, ""))


def _walk(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, ARRAYS) or isinstance(tree, jax.ShapeDtypeStruct):
        yield path, tree
        return
    for name, child in _children(tree):
        yield from _walk(child, f"{path}.{name}" if path else str(name))


def _children(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, Mapping):
        yield from tree.items()
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        yield from tree._asdict().items()  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(tree, tuple | list):
        yield from enumerate(tree)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        yield from ((field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree))
    elif tree is not None and not isinstance(tree, str | bytes | bool | int | float | complex):
        for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if isinstance(leaf, ARRAYS):
                yield ".".join(_key(key) for key in keys), leaf


def _key(key: Any) -> str:
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """The structure with every array changed; mappings, tuples, lists and dataclasses are kept."""
    if isinstance(tree, ARRAYS):
        return function(tree)
    if isinstance(tree, Mapping):
        changed = {key: map_arrays(function, value) for key, value in tree.items()}
        return changed if type(tree) is dict else type(tree)(**changed)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_arrays(function, value) for value in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(map_arrays(function, value) for value in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {
            field.name: map_arrays(function, getattr(tree, field.name))
            for field in dataclasses.fields(tree)
        }
        return dataclasses.replace(tree, **fields)
    return tree


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a model is called with: a tuple's members, a dict's entries by name, or one argument."""
    if type(inputs) is tuple:
        return inputs, {}
    if type(inputs) is dict:
        return (), inputs
    return (inputs,), {}


def rows(tree: Any) -> int:
    """The number of examples: the length of the first axis of the first array that has one."""
    return next(len(leaf) for leaf in leaves(tree).values() if np.ndim(leaf))


def take(tree: Any, index: Any) -> Any:
    """The examples `index` of every array that has their axis first."""
    count = rows(tree)

    def chosen(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return array[index] if array.ndim and len(array) == count else array

    return map_arrays(chosen, tree)
