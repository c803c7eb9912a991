"""Checks that a PyTorch model and its JAX twin are the same: outputs, training, accuracy.

`parity.check(parity.Pair(...))` climbs the ladder on a pair of your own. Every public name is here,
and its framework is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax_impl.errors import InputError as InputError
    from parity.checking import NotTheSame as NotTheSame
    from parity.checking import check as check
    from parity.ladder.result import Result as Result
    from parity.pairs.pair import Batch as Batch
    from parity.pairs.pair import Loss as Loss
    from parity.pairs.pair import Optimizer as Optimizer
    from parity.pairs.pair import Outputs as Outputs
    from parity.pairs.pair import Pair as Pair
    from parity.pairs.pair import create_pair as create_pair
    from parity.pairs.pair import named_optimizer as named_optimizer
    from parity.pairs.taps import tap as tap
    from parity.pairs.weights import to_flax as to_flax
    from parity.pairs.weights import to_torch as to_torch

_HOMES = {
    "Batch": "parity.pairs.pair",
    "InputError": "jax_impl.errors",
    "Loss": "parity.pairs.pair",
    "NotTheSame": "parity.checking",
    "Optimizer": "parity.pairs.pair",
    "Outputs": "parity.pairs.pair",
    "Pair": "parity.pairs.pair",
    "Result": "parity.ladder.result",
    "check": "parity.checking",
    "create_pair": "parity.pairs.pair",
    "named_optimizer": "parity.pairs.pair",
    "tap": "parity.pairs.taps",
    "to_flax": "parity.pairs.weights",
    "to_torch": "parity.pairs.weights",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and nothing before that."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
