"""Inputs and outputs of any structure, as arrays by path."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import torch

ARRAYS = jax.Array, np.ndarray, np.generic, torch.Tensor
SCALARS = str, bytes, bool, int, float, complex


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
        fields = (field.name for field in dataclasses.fields(tree) if field.init)
        yield from ((name, getattr(tree, name)) for name in fields)
    elif tree is not None and not isinstance(tree, SCALARS):
        for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if isinstance(leaf, ARRAYS):
                yield ".".join(key_name(key) for key in keys), leaf


def key_name(key: Any) -> str:
    """A part of a path of JAX's, in words."""
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def filled(tree: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """The structure with the arrays at these paths replaced.

    Mappings, tuples, lists, dataclasses and what JAX knows as a pytree are made anew.
    """
    if isinstance(tree, ARRAYS):
        return values.get(path, tree)
    if tree is None or isinstance(tree, SCALARS):
        return tree
    fields = dataclasses.is_dataclass(tree) and not isinstance(tree, type)
    if not isinstance(tree, Mapping | tuple | list) and not fields:
        known = {id(leaf): name for name, leaf in _children(tree)}
        flat, definition = jax.tree.flatten(tree)
        if not known or len(flat) == 1 and flat[0] is tree:
            return tree
        names = [known.get(id(leaf)) for leaf in flat]
        return definition.unflatten(
            leaf if name is None else values.get(f"{path}.{name}" if path else name, leaf)
            for name, leaf in zip(names, flat, strict=True)
        )
    made = {
        name: filled(child, values, f"{path}.{name}" if path else str(name))
        for name, child in _children(tree)
    }
    if isinstance(tree, tuple | list):
        whole: Any = type(tree)
        return whole(*made.values()) if hasattr(tree, "_fields") else whole(made.values())
    if isinstance(tree, Mapping):
        return made if type(tree) is dict else type(tree)(made)  # pyright: ignore[reportCallIssue]
    instance: Any = tree
    return dataclasses.replace(instance, **made)


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """The structure with every array changed, in the order of `leaves`."""
    return filled(tree, {path: function(leaf) for path, leaf in leaves(tree).items()})


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


def take(tree: Any, index: Any, count: int) -> Any:
    """The examples `index` of every array that has the axis of all `count` examples first."""

    def chosen(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return array[index] if array.ndim and len(array) == count else array

    return map_arrays(chosen, tree)
