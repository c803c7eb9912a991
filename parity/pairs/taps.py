"""The output of every module of a JAX model, by name, while it runs.

Inside `recording()` the modules of Flax NNX, Linen and Equinox are recorded as they are called,
under their paths; any other code names a value by `tap(name, value)`. Outside, nothing is changed.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
from jax._src import core  # which trace a value belongs to is public nowhere

from parity.pairs.trees import leaves, map_arrays

T = TypeVar("T")


class Recorder:
    """Outputs in order of completion.

    `perturbations` are added to the outputs of their names: the gradient by a perturbation of zeros
    is the gradient by that output. What runs inside of `jax.checkpoint`, `scan`, a nested `jit` or
    another transformation with a trace of its own is not recorded; under `vmap` it is, with the
    mapped axis first, or without it where that is one long.
    """

    def __init__(
        self,
        perturbations: Mapping[str, jax.Array] | None = None,
        names: Mapping[str, str] | None = None,
    ):
        self._names = names or {}
        self.outputs: dict[str, jax.Array] = {}
        self._perturbations = perturbations or {}
        self._paths: dict[int, str] = {}
        self._running: list[int] = []
        self._traces = _with_parents(core.trace_ctx.trace)

    def record(self, name: str, value: Any) -> Any:
        """A module that is called again is NAME#2, NAME#3, ...

        Of several outputs the first is NAME, the others NAME[1], NAME[2], ...
        """
        if isinstance(value, jax.Array):
            return self._keep(name, value)
        arrays = list(leaves(value).values()) if isinstance(value, tuple | list | dict) else []
        if not arrays or not all(isinstance(array, jax.Array) for array in arrays):
            return value
        kept = iter(
            self._keep(f"{name}[{i}]" if i else name, array) for i, array in enumerate(arrays)
        )
        return map_arrays(lambda _: next(kept), value)

    def _keep(self, name: str, value: jax.Array) -> jax.Array:
        outer, wrap = self._outer(value)
        if outer is None:
            return value
        name = numbered(name, self.outputs)
        if name in self._perturbations:
            outer = outer + self._perturbations[name]
            value = wrap(outer)
        self.outputs[name] = outer
        return value

    def _outer(self, value: Any) -> tuple[Any, Callable[[Any], Any]]:
        """The value outside of every `vmap`, and the way back; (None, ...) where it has none."""
        trace = getattr(value, "_trace", None)
        if trace is None or any(trace is known for known in self._traces):
            return value, lambda outer: outer
        if type(value).__name__ != "BatchTracer" or not isinstance(value.batch_dim, int):
            return None, lambda outer: outer
        outer, wrap = self._outer(value.val)
        if outer is None:
            return None, wrap
        depth = outer.ndim - value.val.ndim
        moved = jnp.moveaxis(outer, value.batch_dim + depth, depth)
        alone = moved.shape[depth] == 1  # an axis that is there for its name, as of one device
        moved = moved.squeeze(depth) if alone else moved

        def back(changed: Any) -> Any:
            inner = wrap(jnp.expand_dims(changed, depth) if alone else changed)
            return type(value)(trace, inner, 0, getattr(value, "source_info", None))

        return moved, back

    def call_module(self, module: Any, call: Any, args: Any, kwargs: Any) -> Any:
        """`call(module, ...)`, recorded under the module's path in the outermost module."""
        if id(module) in self._running:  # super().__call__
            return call(module, *args, **kwargs)
        if not self._running:
            self._paths = _paths(module)
        self._running.append(id(module))
        try:
            value = call(module, *args, **kwargs)
        finally:
            self._running.pop()
        path = self._paths.get(id(module), "")
        return self._record_module(path, value) if path else value

    def call_linen(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        """Linen's interceptor."""
        value = call(*args, **kwargs)
        path = ".".join(context.module.path)
        called = path and context.method_name == "__call__"
        return self._record_module(path, value) if called else value

    def _record_module(self, path: str, value: Any) -> Any:
        return self.record(self._names.get(path, path), value)


_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def tap(name: str, value: T) -> T:
    """`value`, which a recording keeps under `name`; for models that are plain functions."""
    recorder = _recorder.get()
    return value if recorder is None else recorder.record(name, value)


def numbered(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, or NAME#n for its n-th use."""
    if name not in taken:
        return name
    count = 2
    while f"{name}#{count}" in taken:
        count += 1
    return f"{name}#{count}"


@contextlib.contextmanager
def recording(
    perturbations: Mapping[str, jax.Array] | None = None, names: Mapping[str, str] | None = None
) -> Iterator[Recorder]:
    """Records what runs, or is traced, inside; modules of these paths under the other `names`."""
    recorder = Recorder(perturbations, names)
    token = _recorder.set(recorder)
    patched = [(cls, cls.__dict__["__call__"]) for cls in _module_classes()]
    try:
        for cls, call in patched:
            cls.__call__ = _recorded(call)
        with nn.intercept_methods(recorder.call_linen):
            yield recorder
    finally:
        for cls, call in patched:
            cls.__call__ = call
        _recorder.reset(token)


def _recorded(call: Any) -> Any:
    def __call__(self, *args, **kwargs):
        recorder = _recorder.get()
        if recorder is None:
            return call(self, *args, **kwargs)
        return recorder.call_module(self, call, args, kwargs)

    return __call__


def _with_parents(trace: Any) -> list[Any]:
    found = []
    while trace is not None:
        found.append(trace)
        trace = getattr(trace, "parent_trace", None)
    return found


def _paths(module: Any) -> dict[int, str]:
    """The path of every module in the outermost one, an NNX module or an Equinox one."""
    if isinstance(module, nnx.Module):
        return {id(child): ".".join(map(str, path)) for path, child in nnx.iter_modules(module)}
    found: dict[int, str] = {}

    def walk(value: Any, path: str) -> None:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found.setdefault(id(value), path)
            children = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        elif isinstance(value, tuple | list | dict):
            children = value if isinstance(value, dict) else dict(enumerate(value))
        else:
            return
        for name, child in children.items():
            walk(child, f"{path}.{name}" if path else str(name))

    walk(module, "")
    return found


def _module_classes() -> list[type]:
    """Every NNX or Equinox module class there is that defines its own call."""
    equinox = sys.modules.get("equinox")
    found, left = [], [nnx.Module, *([equinox.Module] if equinox else [])]
    while left:
        cls = left.pop()
        left += cls.__subclasses__()
        if "__call__" in cls.__dict__ and cls not in found:
            found.append(cls)
    return found
