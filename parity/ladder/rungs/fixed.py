"""Outputs that both frameworks' losses are given: PyTorch's numbers, in each one's structure."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.pairs.case import Case
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.trees import leaves


class Structure(NamedTuple):
    """JAX's outputs: the shape of every leaf by path, and the outputs themselves, to be filled."""

    shapes: dict[str, tuple[int, ...]]
    skeleton: Any


def structure_of(case: Case) -> Callable[[Tensors, Batch], Structure]:
    """Of JAX's outputs in train mode, for weights and a batch; nothing is computed."""

    def structure(state: Tensors, batch: Batch) -> Structure:
        held: list[Any] = []

        def outputs(variables: Any, inputs: Any) -> dict[str, Any]:
            held[:] = [case.apply(variables, inputs, case.pair.trains)[0]]
            return leaves(held[0])  # the outputs may be of a type that JAX does not know

        shape_of = jax.eval_shape if case.jit else lambda f, *args: f(*args)
        found = shape_of(outputs, case.variables(state), batch.inputs)
        return Structure({path: tuple(leaf.shape) for path, leaf in found.items()}, held[0])

    return structure


def torch_paths(structure: Structure, outputs: Any) -> dict[str, str]:
    """JAX's path of a leaf -> PyTorch's: the same one, or, where all are others, in order."""
    theirs = leaves(outputs)
    if not set(structure.shapes) & set(theirs) and len(structure.shapes) == len(theirs):
        return dict(zip(structure.shapes, theirs, strict=True))
    return {path: path for path in structure.shapes if path in theirs}


def to_jax(case: Case, structure: Structure, outputs: Any) -> dict[str, jax.Array]:
    """PyTorch's outputs under JAX's paths, in its layout and the case's dtype.

    `filled(structure.skeleton, ...)` makes JAX's outputs of them. A leaf that PyTorch does not have
    is NaN: a loss that takes it is NaN.
    """
    theirs, paths, made = leaves(outputs), torch_paths(structure, outputs), {}
    for path, shape in structure.shapes.items():
        if path not in paths:
            made[path] = jnp.full(shape, jnp.nan, case.dtype)
            continue
        value = np.asarray(_to_numpy(theirs[paths[path]]))
        value = value.transpose(_axes(case, paths[path], value.shape, shape))
        value = value.reshape(shape) if value.size == np.prod(shape) else value
        made[path] = jnp.asarray(value, case.dtype if _floating(value) else None)
    return made


def from_jax(case: Case, structure: Structure, outputs: Any, values: Tensors) -> Tensors:
    """Values by JAX's paths under PyTorch's, in the layout of PyTorch's `outputs`."""
    theirs, paths, found = leaves(outputs), torch_paths(structure, outputs), {}
    for path, shape in structure.shapes.items():
        if path in paths and path in values:
            wanted = tuple(np.shape(theirs[paths[path]]))
            axes = _axes(case, paths[path], wanted, shape)
            moved = tuple(wanted[axis] for axis in axes)
            value = np.asarray(values[path])
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
