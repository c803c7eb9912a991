"""Weights between PyTorch's `state_dict` and Flax variables: one rule for each kind of leaf.

A module has the same path in both, and its kind (`Model.layers`) says how its leaves are named and
laid out. PyTorch's convolution weight OIHW is the kernel HWIO, a linear weight (out, in) the kernel
(in, out); a linear layer that reads a flattened feature map has its input features in the order
c, h, w there and h, w, c here. Imports no torch until it is needed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import tree_util

from jax_impl.errors import InputError, mismatches
from jax_impl.models.model import Layer, Model, Path, Variables

if TYPE_CHECKING:
    import torch

PREFIXES = ("module.", "_orig_mod.")
"""What torch.nn.DataParallel and torch.compile put before every name."""


class Rule(NamedTuple):
    """A kind of leaf: its name in PyTorch, and its layout there and here."""

    name: str
    to_torch: Callable[[np.ndarray, Layer], np.ndarray] = lambda value, layer: value
    to_flax: Callable[[np.ndarray, Layer], np.ndarray] = lambda value, layer: value


def _linear_to_torch(value: np.ndarray, layer: Layer) -> np.ndarray:
    if layer.flattened is not None:
        h, w, c = layer.flattened
        value = value.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(value.shape)
    return value.T


def _linear_to_flax(value: np.ndarray, layer: Layer) -> np.ndarray:
    value = value.T
    if layer.flattened is not None:
        h, w, c = layer.flattened
        value = value.reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(value.shape)
    return value


RULES = {
    ("conv", "kernel"): Rule(
        "weight", lambda v, _: v.transpose(3, 2, 0, 1), lambda v, _: v.transpose(2, 3, 1, 0)
    ),
    ("conv", "bias"): Rule("bias"),
    ("linear", "kernel"): Rule("weight", _linear_to_torch, _linear_to_flax),
    ("linear", "bias"): Rule("bias"),
    ("norm", "scale"): Rule("weight"),
    ("norm", "bias"): Rule("bias"),
    ("norm", "mean"): Rule("running_mean"),
    ("norm", "var"): Rule("running_var"),
    # A count of batches: int64 in PyTorch, int32 in Flax.
    ("norm", "num_batches_tracked"): Rule(
        "num_batches_tracked",
        lambda value, _: value.astype(np.int64),
        lambda value, _: value.astype(np.int32),
    ),
}


def to_flax(
    state_dict: "Mapping[str, torch.Tensor | np.ndarray]",
    model: Model,
    new_head: Variables | None = None,
) -> Variables:
    """A state_dict of the PyTorch twin as variables of `model`, bit for bit and in its dtypes.

    Args:
        state_dict: tensors or NumPy arrays; the prefixes of DataParallel and torch.compile are
            taken off. float64 needs `jax_enable_x64`.
        model: the Flax model that the variables are for.
        new_head: variables of `model`, say `model.init(0)`, whose last linear layer is taken in
            place of the state_dict's: for weights of another number of classes.

    Raises:
        InputError: entries are missing, unexpected or of another shape; all of them are named.
    """
    state = without_prefixes(state_dict)
    wanted: dict[Path, tuple[str, Rule, Layer]] = {}
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    expected = {}
    for path, leaf in _leaves(model.shapes):
        name, rule, layer = wanted[path] = _rule(path, model)
        if new_head is not None and path[:-1] == model.head:
            shapes.pop(name, None)
        else:
            expected[name] = rule.to_torch(_shape_only(leaf.shape), layer).shape
    problems = mismatches(shapes, expected)
    head = dict(_leaves(new_head)) if new_head is not None else {}

    def convert(keys: Any, _: Any) -> jax.Array:
        path = _path(keys)
        if new_head is not None and path[:-1] == model.head:
            return head[path]
        name, rule, layer = wanted[path]
        value = _array(state[name])
        if problem := problem_of(name, value):
            problems.append(problem)
            return jnp.zeros(())
        leaf = jnp.asarray(rule.to_flax(value, layer))
        if value.dtype == np.float64 and leaf.dtype != value.dtype:
            problems.append(f"{name} is float64: enable jax_enable_x64 to keep it")
        return leaf

    # Nothing is converted of a state_dict that does not fit, and nothing returned of a lossy one.
    variables = None if problems else tree_util.tree_map_with_path(convert, model.shapes)
    if variables is None or problems:
        raise InputError(f"these are not weights of {model.name}: {'; '.join(problems)}")
    return variables


def problem_of(name: str, value: np.ndarray) -> str | None:
    """Why an array of this name holds no weights or, by its name, no count; None if it does."""
    if not name.endswith("num_batches_tracked"):
        floating = np.issubdtype(value.dtype, np.floating) or value.dtype == ml_dtypes.bfloat16
        return None if floating else f"{name} is of {value.dtype.name}"
    whole = value.dtype.kind in "iu" or (
        value.dtype.kind == "f" and (value == np.rint(value)).all()
    )
    if not whole:
        return f"{name} is no whole number"
    return None if ((value >= 0) & (value < 2**31)).all() else f"{name} is not in 0 to 2^31 - 1"


def to_arrays(variables: Variables, model: Model) -> dict[str, np.ndarray]:
    """Variables of `model`, or any part of them, as the entries of a state_dict, as NumPy arrays.

    Gradients have the paths of the parameters and convert alike.
    """
    state = {}
    _check_paths(variables, model)
    for path, leaf in _leaves(variables):
        name, rule, layer = _rule(path, model)
        state[name] = np.array(rule.to_torch(np.asarray(leaf), layer), order="C")
    return state


def to_torch(variables: Variables, model: Model) -> "dict[str, torch.Tensor]":
    """`to_arrays` as tensors: the PyTorch twin's `load_state_dict(..., strict=True)` takes it."""
    return {name: to_tensor(value) for name, value in to_arrays(variables, model).items()}


def _check_paths(variables: Variables, model: Model) -> None:
    """Raises InputError of leaves that the model does not have, and tells what it lacks."""
    found = {path: tuple(leaf.shape) for path, leaf in _leaves(variables)}
    known = {path: tuple(leaf.shape) for path, leaf in _leaves(model.shapes)}
    if found.keys() <= known.keys():
        return
    names = {path: _rule(path, model)[0] for path in known}
    problems = mismatches(
        {names.get(path, ".".join(path)): shape for path, shape in found.items()},
        {names[path]: found.get(path, shape) for path, shape in known.items()},
    )
    raise InputError(f"these are not variables of {model.name}: {'; '.join(problems)}")


def named_leaves(variables: Variables, model: Model) -> list[tuple[str, Any]]:
    """Every leaf, in Flax's layout, with its name in PyTorch."""
    return [(_rule(path, model)[0], leaf) for path, leaf in _leaves(variables)]


def to_tensor(value: np.ndarray) -> "torch.Tensor":
    """The array as a tensor of its dtype, bfloat16 included; they share their memory."""
    import torch

    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def without_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` without the prefixes that wrappers put before every one of its names."""
    names = list(state)
    while names and (
        prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in names)), None)
    ):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))


def _leaves(variables: Variables) -> list[tuple[Path, Any]]:
    """(path within its collection, leaf) of every leaf."""
    flat = tree_util.tree_flatten_with_path(variables)[0]
    return [(_path(keys), leaf) for keys, leaf in flat]


def _path(keys: tuple[Any, ...]) -> Path:
    return tuple(key.key for key in keys if isinstance(key, tree_util.DictKey))


def _rule(path: Path, model: Model) -> tuple[str, Rule, Layer]:
    """A leaf's name in PyTorch, its rule, and the layer that it belongs to."""
    layer = model.layers[path[:-1]]
    rule = RULES[layer.kind, path[-1]]
    return ".".join((*path[:-1], rule.name)), rule, layer


def _shape_only(shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape that takes no memory."""
    return np.broadcast_to(np.int8(0), shape)


def _array(value: Any) -> np.ndarray:
    """A tensor's or an array's values without a copy where they are in memory already."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    value = value.detach().cpu().resolve_neg()
    if str(value.dtype) == "torch.bfloat16":
        import torch

        return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()
