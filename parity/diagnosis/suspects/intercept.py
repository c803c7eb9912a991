"""Changing one call of PyTorch as a model runs."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from parity.diagnosis.suspects.backward import DETACHED
from parity.diagnosis.suspects.by_function import HANDLERS
from parity.diagnosis.suspects.call import Call

OURS = "parity."
"""What our own hooks do with a model's tensors, such as detach them, is no call of the model.

Nor is PyTorch's own use of `.data`, as when a parameter is copied.
"""


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
        name, kwargs = name_of(func), kwargs or {}
        if name not in HANDLERS or not _numbers((*args, *kwargs.values())):
            return func(*args, **kwargs)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith(OURS) or (name in DETACHED and caller.startswith("torch.")):
            return func(*args, **kwargs)
        call, index = Call(name, func, tuple(args), kwargs), self.count
        self.count += 1
        self.on_call(index, call)
        if self.change is not None and self.wanted(index):
            return self.change(call)
        return func(*args, **kwargs)


def name_of(function: Any) -> str:
    """The name of a function that a mode sees; of a property (`x.data`), with a dot before it."""
    name = getattr(function, "__name__", "")
    if name == "__get__":
        return "." + getattr(getattr(function, "__self__", None), "__name__", "")
    return "threshold" if name == "_threshold" else name


def _numbers(values: Any) -> bool:
    """Whether a call has tensors of numbers or of masks: BatchNorm counts its batches by `add_`."""
    for value in values:
        if isinstance(value, list | tuple):
            if _numbers(value):
                return True
        elif isinstance(value, torch.Tensor):
            if value.is_floating_point() or value.dtype == torch.bool:
                return True
    return False
