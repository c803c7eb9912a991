"""How a user's JAX function is called: its argument for the mode, and what it returns."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as linen
import jax

from jax_impl.errors import InputError
from parity.pairs.fixed_leaves import hidden

NAMES = ("train", "training", "is_training", "deterministic", "use_running_average", "inference")
"""Of an argument that tells the mode, in the order in which they are looked for."""
INVERTED = {"deterministic", "use_running_average", "inference", "eval", "is_eval"}
"""Those that are true in eval mode."""


class Mode(NamedTuple):
    """The argument that tells the mode, and whether it is true in eval mode."""

    name: str
    inverted: bool

    def argument(self, train: bool) -> dict[str, bool]:
        """As a keyword argument."""
        return {self.name: train != self.inverted}


def mode_of(function: Callable[..., Any], name: str | None, pair: str) -> Mode | None:
    """The argument of `function` that tells the mode: `name`, or one of `NAMES` that it takes.

    Raises:
        InputError: it takes no argument `name`.
    """
    taken, any_keyword = _taken(function)
    if name is not None:
        if name not in taken and not any_keyword:
            raise InputError(
                f"{pair}: mode={name!r}, but jax_apply takes only {', '.join(taken) or 'nothing'}"
            )
        return Mode(name, name in INVERTED)
    found = next((each for each in NAMES if each in taken), None)
    return None if found is None else Mode(found, found in INVERTED)


def _taken(function: Callable[..., Any]) -> tuple[list[str], bool]:
    """Names of the arguments, and whether any keyword is taken; of Linen's `apply` the net's."""
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    owner = getattr(plain, "__self__", None)
    if isinstance(owner, linen.Module) and getattr(plain, "__name__", "") == "apply":
        plain = type(owner).__call__
    parameters = inspect.signature(plain).parameters.values()
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in fixed]
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def split_updates(returned: Any, variables: Any, updates: bool | None) -> tuple[Any, Any]:
    """(outputs, variables with updated statistics) of what a JAX function returned.

    With `updates` it returns both, without never; None takes the second of two for variables where
    it has the structure of those given, or of some of their collections.
    """
    if updates is False or type(returned) is not tuple or len(returned) != 2:
        return returned, variables
    outputs, second = returned
    if _alike(second, variables):
        return outputs, second
    if isinstance(second, Mapping) and isinstance(variables, Mapping):
        shared = [key for key in second if key in variables]
        if shared and all(_alike(second[key], variables[key]) for key in shared):
            return outputs, {**variables, **{key: second[key] for key in shared}}
    if updates:
        return outputs, second
    return returned, variables


def _alike(a: Any, b: Any) -> bool:
    first, second = (jax.tree_util.tree_flatten_with_path(hidden(tree))[0] for tree in (a, b))
    if len(first) != len(second) or (len(first) == 1 and not first[0][0]):
        return False

    def names(path: Any) -> list[str]:  # a FrozenDict has other keys than a dict
        return [str(getattr(key, "key", getattr(key, "name", key))) for key in path]

    return all(
        names(p) == names(q) and jax.numpy.shape(x) == jax.numpy.shape(y)
        for (p, x), (q, y) in zip(first, second, strict=True)
    )
