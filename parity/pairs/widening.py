"""A user's PyTorch loss in another precision than its own weights of classes."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from parity.pairs.trees import leaves


def widened(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], torch.Tensor]:
    """The loss, whose calls are given floating tensors of the widest dtype among them."""

    def called(outputs: Any, labels: Any) -> torch.Tensor:
        with Widening():
            return loss(outputs, labels)

    return called


class Widening(TorchFunctionMode):
    """Repeats a call that fails on mixed floating dtypes with all in the widest of them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with contextlib.suppress(RuntimeError, IndexError):
            return func(*args, **kwargs)
        dtypes = {x.dtype for x in _tensors((args, kwargs)) if x.is_floating_point()}
        if len(dtypes) < 2:
            return func(*args, **kwargs)
        widest = max(dtypes, key=lambda dtype: torch.finfo(dtype).bits)

        def cast(x: Any) -> Any:
            floating = isinstance(x, torch.Tensor) and x.is_floating_point()
            return x.to(widest) if floating else x

        return func(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    yield from (leaf for leaf in leaves(tree).values() if isinstance(leaf, torch.Tensor))
