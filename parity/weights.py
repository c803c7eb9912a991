"""Weights between PyTorch's `state_dict` and Flax variables: one rule for each kind of leaf.

A module has the same path in both. PyTorch's convolution weight OIHW is the kernel HWIO, a linear
weight (out, in) the kernel (in, out); a linear layer that reads a flattened feature map has its
input features in the order c, h, w there and h, w, c here. Imports no torch until it is needed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jax_impl.errors import InputError
from jax_impl.models import Model, Variables

if TYPE_CHECKING:
    import torch

_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

Path = tuple[str, ...]


def to_flax(state_dict: "Mapping[str, torch.Tensor | np.ndarray]", model: Model) -> Variables:
    """A state_dict of the PyTorch twin as variables of `model`, bit for bit and in its dtypes.

    Raises:
      InputError: entries are missing, unexpected or of another shape; all of them are named.
    """
    wanted = {_torch_name(path): (path, leaf) for path, leaf in _leaves(model.shapes)}
    problems = [f"missing {name}" for name in wanted if name not in state_dict]
    problems += [f"unexpected {name}" for name in state_dict if name not in wanted]
    converted: dict[Path, jax.Array] = {}
    for name, (path, leaf) in wanted.items():
        if name not in state_dict:
            continue
        value = _array(state_dict[name])
        expected = _torch_shape(path, leaf.shape)
        if value.shape != expected:
            problems.append(f"{name} has shape {value.shape}, not {expected}")
        else:
            value = value.astype(leaf.dtype) if path[-1] == "num_batches_tracked" else value
            converted[path] = jnp.asarray(_flax_layout(value, path, model))
            if converted[path].dtype != value.dtype:
                problems.append(f"{name} is {value.dtype}: enable jax_enable_x64 to keep it")
    if problems:
        raise InputError(f"these are not weights of {model.name}: {'; '.join(problems)}")
    return tree_util.tree_map_with_path(lambda keys, _: converted[_path(keys)], model.shapes)


def to_arrays(variables: Variables, model: Model) -> dict[str, np.ndarray]:
    """Variables of `model`, or any part of them, as the entries of a state_dict, as NumPy arrays.

    Gradients have the paths of the parameters and convert alike.
    """
    state = {}
    for path, leaf in _leaves(variables):
        value = _torch_layout(np.asarray(leaf), path, model)
        value = value.astype(np.int64) if path[-1] == "num_batches_tracked" else value
        state[_torch_name(path)] = np.array(value, order="C")
    return state


def to_torch(variables: Variables, model: Model) -> "dict[str, torch.Tensor]":
    """`to_arrays` as tensors: the PyTorch twin's `load_state_dict(..., strict=True)` takes it."""
    import torch

    return {name: torch.from_numpy(value) for name, value in to_arrays(variables, model).items()}


def _leaves(variables: Variables) -> list[tuple[Path, Any]]:
    """(path within its collection, leaf) of every leaf."""
    flat = tree_util.tree_flatten_with_path(variables)[0]
    return [(_path(keys), leaf) for keys, leaf in flat]


def _path(keys: tuple[Any, ...]) -> Path:
    return tuple(key.key for key in keys if isinstance(key, tree_util.DictKey))


def _torch_name(path: Path) -> str:
    return ".".join((*path[:-1], _NAMES.get(path[-1], path[-1])))


def _torch_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    if path[-1] != "kernel":
        return shape
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _torch_layout(value: np.ndarray, path: Path, model: Model) -> np.ndarray:
    if path[-1] != "kernel":
        return value
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if path[:-1] in model.flattened:
        h, w, c = model.flattened[path[:-1]]
        value = value.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(value.shape)
    return value.T


def _flax_layout(value: np.ndarray, path: Path, model: Model) -> np.ndarray:
    if path[-1] != "kernel":
        return value
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    value = value.T
    if path[:-1] in model.flattened:
        h, w, c = model.flattened[path[:-1]]
        value = value.reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(value.shape)
    return value


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
