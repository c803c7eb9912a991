"""Checks that a PyTorch model and its JAX twin are the same: outputs, training, accuracy.

`parity.check(parity.Pair(...))` climbs the ladder on a pair of your own.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.checking import NotTheSame, check
    from parity.pair import Batch, Loss, Optimizer, Pair, create_pair, named_optimizer
    from parity.taps import tap

__all__ = [
    "Batch",
    "Loss",
    "NotTheSame",
    "Optimizer",
    "Pair",
    "check",
    "create_pair",
    "named_optimizer",
    "tap",
]

_HOMES = {"check": "checking", "NotTheSame": "checking", "tap": "taps"}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and no framework before that."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'pair')}"), name)
