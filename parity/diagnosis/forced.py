"""Every PyTorch module given what JAX's had: each shows its own departure and no other's.

The model runs with the output of every module that both sides name replaced, after it was computed,
by JAX's (teacher forcing); on the way back the gradient by it is replaced by JAX's too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from parity.diagnosis.sites import Site, observed
from parity.ladder.rungs.forward import output_name
from parity.pairs.case import Case
from parity.pairs.pair import Tensors, to_numpy
from parity.pairs.taps import numbered
from parity.pairs.trees import leaves, map_arrays


class Event(NamedTuple):
    """A module's completion: what it computed, and the calls since the one before was replaced.

    `earlier` are all calls before those.
    """

    name: str
    value: np.ndarray
    sites: tuple[Site, ...]
    earlier: tuple[Site, ...]


class Stop(Exception):
    """What was to be computed is."""


class Forcing:
    """Hooks of one run."""

    def __init__(
        self,
        targets: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray] | None = None,
        until: str | None = None,
    ):
        self.targets, self.cotangents, self.until = targets, cotangents, until
        self.events: list[Event] = []
        self.arrived: Tensors = {}
        self._seen: dict[str, None] = {}
        self._start = 0

    def complete(self, name: str, value: torch.Tensor, watches: list[Any]) -> torch.Tensor:
        """Notes a completion, and gives what takes its place."""
        unique = numbered(name, self._seen)
        self._seen[unique] = None
        if unique not in self.targets:
            return value
        sites = watches[-1].sites if watches else []
        made = tuple(sites[self._start :]), tuple(sites[: self._start])
        self.events.append(Event(unique, to_numpy(value), *made))
        self._start = len(sites)
        if unique == self.until:
            raise Stop
        target = torch.as_tensor(np.array(self.targets[unique])).to(value)
        if target.shape != value.shape:
            return value
        if self.cotangents is None or not value.requires_grad:
            return target
        return _Replace.apply(value, target, self.cotangents.get(unique), self.arrived, unique)  # type: ignore[return-value]


class _Replace(torch.autograd.Function):
    """The target in the place of a value; the cotangent in the place of its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Any, target: Any, cotangent: Any, arrived: Any, name: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.cotangent, ctx.arrived, ctx.name = cotangent, arrived, name
        return target.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.arrived[ctx.name] = to_numpy(gradient)
        if ctx.cotangent is not None and ctx.cotangent.shape == tuple(gradient.shape):
            gradient = torch.as_tensor(np.array(ctx.cotangent)).to(gradient)
        return gradient, None, None, None, None


def run(case: Case, module: torch.nn.Module, inputs: Any, forcing: Forcing) -> Any:
    """The outputs of the model, forced too; None where it was stopped before."""
    with observed() as watches:
        return _run(case, module, inputs, forcing, watches)


def _run(
    case: Case, module: torch.nn.Module, inputs: Any, forcing: Forcing, watches: list[Any]
) -> Any:

    def keep(name: str):
        def hook(_module, _inputs, output):
            arrays = list(leaves(output).values())
            made = iter(
                [
                    forcing.complete(f"{name}[{i}]" if i else name, value, watches)
                    for i, value in enumerate(arrays)
                ]
            )
            return map_arrays(lambda _: next(made), output)

        return hook

    children = [(name, child) for name, child in module.named_modules() if name]
    handles = [child.register_forward_hook(keep(name)) for name, child in children]
    try:
        outputs = case.torch_call(module, inputs)
        return _outputs(outputs, forcing, watches)
    except Stop:
        return None
    finally:
        for handle in handles:
            handle.remove()


def _outputs(outputs: Any, forcing: Forcing, watches: list[Any]) -> Any:
    made = iter(
        [
            forcing.complete(output_name(path), value, watches)
            for path, value in leaves(outputs).items()
        ]
    )
    return map_arrays(lambda _: next(made), outputs)


def in_mode(tensors: Tensors, mode: str) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a mode, by the name of the module or output alone."""
    suffix = f" in {mode} mode"
    for name, value in tensors.items():
        if name.endswith(suffix):
            yield name.removesuffix(suffix), value
