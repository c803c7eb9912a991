"""Outputs that both frameworks' losses are given: PyTorch's numbers, in each one's structure."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import tree_util

from parity.pairs.case import Case
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.trees import leaves


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
