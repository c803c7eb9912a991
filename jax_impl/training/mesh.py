"""Training on many devices: a mesh of them, and how a state and its batches lie on it.

A step is written for one device; XLA divides it by where its arrays lie, and what it computes is
the same. Every device of the mesh takes a share of each batch. Along the axis `model` large arrays
of the state are cut, and put together only while they are used (fully sharded data parallelism, as
of Zhao et al. 2023, https://arxiv.org/abs/2304.11277); along `data` they are copies.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_impl.errors import InputError

LARGE = 2**14
"""Numbers: an array of fewer is never cut."""


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any]) -> Mesh:
    """A mesh of the first of `devices`, whose axes have such names (`mesh_axes.AXES`) and sizes.

    Raises:
        InputError: there are too few devices.
    """
    count = math.prod(sizes.values())
    if count > len(devices):
        kind = devices[0].platform
        way = f"; JAX_NUM_CPU_DEVICES={count} makes so many of a CPU" if kind == "cpu" else ""
        seen = f"{len(devices)} {kind} device{'s' if len(devices) > 1 else ''}"
        raise InputError(f"a mesh of {count} devices, and JAX sees {seen} here{way}")
    automatic = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh((*sizes.values(),), (*sizes,), automatic, devices=devices[:count])


def whole(mesh: Mesh) -> NamedSharding:
    """All of an array on every device."""
    return NamedSharding(mesh, P())


def shared_out(mesh: Mesh) -> NamedSharding:
    """An array's first axis divided among all devices, as that of the examples of a batch."""
    return NamedSharding(mesh, P(mesh.axis_names))


def of_state(mesh: Mesh, array: Any) -> NamedSharding:
    """Where an array of a state lies, by its shape: the one rule for weights and what follows them.

    One of `LARGE` numbers or more is cut along the longest of its axes (of equal ones the last)
    that the mesh's axis `model` divides; all others lie whole on every device.
    """
    parts = mesh.shape.get("model", 1)
    fit = [axis for axis, size in enumerate(array.shape) if size % parts == 0]
    if parts == 1 or array.size < LARGE or not fit:
        return whole(mesh)
    longest = max(fit, key=lambda axis: (array.shape[axis], axis))
    return NamedSharding(mesh, P(*(None,) * longest, "model"))


def put(mesh: Mesh, tree: Any) -> Any:
    """NumPy's or JAX's arrays, the same in every process, whole on every device of the mesh."""
    return jax.tree.map(lambda array: _put(array, whole(mesh)), tree)


def put_state(mesh: Mesh, state: Any) -> Any:
    """A state, the same in every process, laid out as `of_state` says; a copy."""
    return jax.tree.map(lambda array: _put(array, of_state(mesh, array)), state)


def _put(array: Any, sharding: NamedSharding) -> jax.Array:
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def fetched(mesh: Mesh | None, tree: Any) -> Any:
    """The arrays of a tree that lies on a mesh, as NumPy's, one after the other.

    Each process has to call it, also for those of which other processes have a part.
    """
    return jax.tree.map(lambda array: np.asarray(_together(mesh, array)), tree)


def _together(mesh: Mesh | None, array: Any) -> Any:
    if mesh is None or array.is_fully_addressable or array.is_fully_replicated:
        return array
    return _gather(mesh)(array)


@functools.cache
def _gather(mesh: Mesh) -> Callable[[Any], jax.Array]:
    return jax.jit(lambda array: array, out_shardings=whole(mesh))


def constrain(tree: Any, sharding: NamedSharding) -> Any:
    """Inside `jax.jit`: every array of a tree lies so; nothing need divide its axes."""
    return jax.tree.map(lambda array: lax.with_sharding_constraint(array, sharding), tree)


def settled(mesh: Mesh, step: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inside `jax.jit`: a step's state lies as `of_state` says, and what it tells beside whole."""
    state, *told = step
    return constrain_state(mesh, state), *constrain(told, whole(mesh))


def constrain_state(mesh: Mesh, state: Any) -> Any:
    """Inside `jax.jit`: a state, or what has its shapes, lies as `of_state` says."""
    return jax.tree.map(
        lambda array: lax.with_sharding_constraint(array, of_state(mesh, array)), state
    )


def gathered(mesh: Mesh, params: Any) -> Any:
    """Inside `jax.jit`: parameters put together on every device; their gradients are cut again."""
    return constrain(constrain_state(mesh, params), whole(mesh))
