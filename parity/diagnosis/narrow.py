"""JAX's model with all that it computes in a narrower precision inside computed in float64.

Where that agrees with PyTorch, the narrow arithmetic is the cause.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from parity.pairs.case import Case

NARROW = jnp.bfloat16, jnp.float16, jnp.float32
WIDE = jnp.dtype("float64")
INNER = "jaxpr", "call_jaxpr", "fun_jaxpr"
"""Where the equations of a call are, that is computed as if it were written out."""


class CannotWiden(Exception):
    """The model has equations (as a loop's) that are not computed in another precision."""


class Widened(Case):
    """A case in float64 whose `compiled` functions compute in that throughout."""

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`widened`, without jit."""
        return widened(function)


def widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with every narrower float in it replaced by float64, which JAX must have enabled.

    Raises:
        CannotWiden: if that is inside of a loop.
    """

    def computed(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        flat = _evaluated(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), flat)

    return computed


def _evaluated(jaxpr: Any, consts: Any, args: Any) -> list[Any]:
    held: dict[Any, Any] = {}

    def read(variable: Any) -> Any:
        literal = isinstance(variable, core.Literal)
        return _wide(variable.val if literal else held[variable])

    held.update(zip(jaxpr.constvars, consts, strict=True))
    held.update(zip(jaxpr.invars, args, strict=True))
    for equation in jaxpr.eqns:
        values = [read(variable) for variable in equation.invars]
        held.update(zip(equation.outvars, _computed(equation, values), strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _computed(equation: Any, values: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name == "reduce_precision":
        return values
    inner = next((params[key] for key in INNER if key in params), None)
    if name in ("scan", "while", "cond"):
        if any(_is_narrow(v.aval.dtype) for v in (*equation.invars, *equation.outvars)):
            raise CannotWiden
    elif inner is not None:
        consts = getattr(inner, "consts", ())
        return _evaluated(getattr(inner, "jaxpr", inner), consts, values)
    wide = {key: WIDE if _is_narrow(value) else value for key, value in params.items()}
    made = equation.primitive.get_bind_params(wide)
    more, bound = made if isinstance(made, tuple) else ((), made)  # until JAX 0.9 it is both
    out = equation.primitive.bind(*more, *values, **bound)
    return list(out) if equation.primitive.multiple_results else [out]


def _is_narrow(value: Any) -> bool:
    try:
        return jnp.dtype(value) in map(jnp.dtype, NARROW)
    except TypeError:
        return False


def _wide(value: Any) -> Any:
    return value.astype(WIDE) if _is_narrow(getattr(value, "dtype", None)) else value
