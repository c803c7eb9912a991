"""Outputs that both frameworks' losses are given: PyTorch's numbers, in each one's structure."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import tree_util

from parity.pairs.case import Case
from parity.pairs.pair import Batch, Tensors, to_numpy


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """By path, "hidden.1": what dicts, sequences and dataclasses hold, but for None."""
    children = _children(tree)
    if children is None:
        return {} if tree is None else {path: tree}
    found: dict[str, Any] = {}
    for name, child in children.items():
        found |= leaves(child, f"{path}.{name}" if path else name)
    return found


def filled(tree: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """The tree with the leaves at these paths replaced."""
    children, kind = _children(tree), type(tree)
    if children is None:
        return values.get(path, tree)
    made = {
        name: filled(child, values, f"{path}.{name}" if path else name)
        for name, child in children.items()
    }
    if isinstance(tree, tuple | list):
        return kind(*made.values()) if hasattr(tree, "_fields") else kind(made.values())
    if isinstance(tree, Mapping) and not dataclasses.is_dataclass(tree):
        given: Any = dict(zip(tree, made.values(), strict=True))
        return given if kind is dict else kind(given)
    return dataclasses.replace(tree, **made)


def _children(tree: Any) -> dict[str, Any] | None:
    """By name; None of a leaf."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree) if f.init}
    if isinstance(tree, Mapping):
        return {str(key): value for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        names = getattr(tree, "_fields", range(len(tree)))
        return {str(name): value for name, value in zip(names, tree, strict=True)}
    return None


class Structure(NamedTuple):
    """JAX's outputs: the shape of every leaf by path, and the tree's definition."""

    shapes: dict[str, tuple[int, ...]]
    definition: Any


def structure_of(case: Case) -> Callable[[Tensors, Batch], Structure]:
    """Of JAX's outputs in train mode, for weights and a batch; nothing is computed."""

    @case.compiled
    def outputs(variables: Any, inputs: Any) -> Any:
        return case.apply(variables, inputs, case.pair.trains)[0]

    def structure(state: Tensors, batch: Batch) -> Structure:
        shape_of = jax.eval_shape if case.jit else lambda f, *args: f(*args)
        tree = shape_of(outputs, case.variables(state), batch.inputs)
        found, definition = tree_util.tree_flatten_with_path(tree)
        return Structure({_path(keys): tuple(leaf.shape) for keys, leaf in found}, definition)

    return structure


def _path(keys: Any) -> str:
    """JAX's path of a leaf in the words of `leaves`."""
    names = (
        next(str(getattr(key, a)) for a in ("key", "idx", "name") if hasattr(key, a))
        for key in keys
    )
    return ".".join(names)


def torch_paths(structure: Structure, outputs: Any) -> dict[str, str]:
    """JAX's path of a leaf -> PyTorch's: the same one, or, where all are others, in order."""
    theirs = leaves(outputs)
    if not set(structure.shapes) & set(theirs) and len(structure.shapes) == len(theirs):
        return dict(zip(structure.shapes, theirs, strict=True))
    return {path: path for path in structure.shapes if path in theirs}


def to_jax(case: Case, structure: Structure, outputs: Any) -> Any:
    """PyTorch's outputs in JAX's structure, layout and the case's dtype.

    A leaf that PyTorch does not have is NaN: a loss that takes it is NaN.
    """
    theirs, paths, made = leaves(outputs), torch_paths(structure, outputs), []
    for path, shape in structure.shapes.items():
        if path not in paths:
            made.append(jnp.full(shape, jnp.nan, case.dtype))
            continue
        value = np.asarray(_to_numpy(theirs[paths[path]]))
        axes = _axes(case, paths[path], value.shape, shape)
        value = value.transpose(axes)
        value = value.reshape(shape) if value.size == np.prod(shape) else value
        made.append(jnp.asarray(value, case.dtype if _floating(value) else None))
    return tree_util.tree_unflatten(structure.definition, made)


def from_jax(case: Case, structure: Structure, outputs: Any, tree: Any) -> Tensors:
    """A tree like JAX's outputs under PyTorch's paths, in the layout of PyTorch's `outputs`."""
    theirs, paths, found = leaves(outputs), torch_paths(structure, outputs), {}
    for (path, shape), leaf in zip(
        structure.shapes.items(), tree_util.tree_leaves(tree), strict=True
    ):
        if path in paths:
            wanted = tuple(np.shape(theirs[paths[path]]))
            axes = _axes(case, paths[path], wanted, shape)
            moved = tuple(wanted[axis] for axis in axes)
            value = np.asarray(leaf)
            value = value.reshape(moved) if value.size == np.prod(moved) else value
            found[paths[path]] = value.transpose(np.argsort(axes))
    return found


def _axes(case: Case, path: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's axes in JAX's order: channels last where the pair or the shape says so."""
    kept = tuple(range(len(theirs)))
    if len(theirs) < 3:
        return kept
    last = (0, *kept[2:], 1)
    declared = (
        case.pair.channels_last
        and len(theirs) == 4
        and path not in case.pair.channels_last_in_torch
    )
    fits = [axes for axes in (kept, last) if tuple(theirs[axis] for axis in axes) == ours]
    return fits[0] if len(fits) == 1 else last if declared else kept


def jax_labels(case: Case, batch: Batch) -> Any:
    """Labels as JAX's loss is given them: floats in the case's dtype."""

    def cast(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        return jnp.asarray(leaf, case.dtype if _floating(leaf) else None)

    return jax.tree.map(cast, batch.labels)


def _to_numpy(leaf: Any) -> Any:
    return to_numpy(leaf) if isinstance(leaf, torch.Tensor) else leaf


def _floating(array: np.ndarray) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)
