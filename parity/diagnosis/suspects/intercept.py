"""Changing one call of PyTorch as a model runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from parity.diagnosis.suspects.by_function import HANDLERS
from parity.diagnosis.suspects.call import Call


class Intercept(TorchFunctionMode):
    """Numbers the calls of known functions, and puts `change(call)` in the place of one."""

    def __init__(self, index: int = -1, change: Callable[[Call], Any] | None = None):
        super().__init__()
        self.index, self.change, self.count = index, change, 0
        self.on_call: Callable[[int, Call], None] = lambda index, call: None

    def wanted(self, index: int) -> bool:
        """Whether the call of this number is to be changed."""
        return index == self.index

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name not in HANDLERS or not _floats(args):
            return func(*args, **kwargs)
        call, index = Call(name, func, tuple(args), kwargs), self.count
        self.count += 1
        self.on_call(index, call)
        if self.change is not None and self.wanted(index):
            return self.change(call)
        return func(*args, **kwargs)


def _floats(args: Any) -> bool:
    """Whether a call is of tensors of numbers: BatchNorm counts its batches by `add_`."""
    first = args[0] if args else None
    if isinstance(first, list | tuple):
        first = first[0] if first else None
    return isinstance(first, torch.Tensor) and first.is_floating_point()
