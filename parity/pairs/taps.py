"""The output of every module of a JAX model, by name, while it runs.

Inside `recording()` the modules of Flax NNX and Linen are recorded as they are called, under their
paths; any other code names a value by `tap(name, value)`. Outside, nothing is changed.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import flax.linen as nn
import flax.nnx as nnx
import jax

T = TypeVar("T")


class Recorder:
    """Outputs in order of completion.

    `perturbations` are added to the outputs of their names: the gradient by a perturbation of zeros
    is the gradient by that output.
    """

    def __init__(self, perturbations: Mapping[str, jax.Array] | None = None):
        self.outputs: dict[str, jax.Array] = {}
        self._perturbations = perturbations or {}
        self._paths: dict[int, str] = {}
        self._running: list[int] = []

    def record(self, name: str, value: Any) -> Any:
        """A module that is called again is NAME#2, NAME#3, ..."""
        if not isinstance(value, jax.Array):
            return value
        name = numbered(name, self.outputs)
        if name in self._perturbations:
            value = value + self._perturbations[name]
        self.outputs[name] = value
        return value

    def call_nnx(self, module: nnx.Module, call: Any, args: Any, kwargs: Any) -> Any:
        """`call(module, ...)`, recorded under the module's path in the outermost module."""
        if id(module) in self._running:  # super().__call__
            return call(module, *args, **kwargs)
        if not self._running:
            self._paths = {
                id(child): ".".join(map(str, path)) for path, child in nnx.iter_modules(module)
            }
        self._running.append(id(module))
        try:
            value = call(module, *args, **kwargs)
        finally:
            self._running.pop()
        path = self._paths.get(id(module), "")
        return self.record(path, value) if path else value

    def call_linen(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        """Linen's interceptor."""
        value = call(*args, **kwargs)
        path = ".".join(context.module.path)
        return self.record(path, value) if path and context.method_name == "__call__" else value


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
def recording(perturbations: Mapping[str, jax.Array] | None = None) -> Iterator[Recorder]:
    """Records what runs, or is traced, inside."""
    recorder = Recorder(perturbations)
    token = _recorder.set(recorder)
    patched = [(cls, cls.__dict__["__call__"]) for cls in _nnx_classes()]
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
        return recorder.call_nnx(self, call, args, kwargs)

    return __call__


def _nnx_classes() -> list[type]:
    """Every NNX module class there is that defines its own call."""
    found, left = [], [nnx.Module]
    while left:
        cls = left.pop()
        left += cls.__subclasses__()
        if "__call__" in cls.__dict__ and cls not in found:
            found.append(cls)
    return found
