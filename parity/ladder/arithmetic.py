"""What a computation does in JAX and in PyTorch: its longest sum, and whether float32 is in it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch.overrides import TorchFunctionMode

FLOAT32_INSIDE = "hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_"
"""Functions of PyTorch's whose constants are float32 in float64 too."""

NARROW = "float32", "bfloat16", "float16"


def equations(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Every equation of the function's jaxpr, those of inner ones too."""
    # A jitted function with options of the compiler cannot be traced inside of another.
    trace = getattr(function, "trace", None)
    made = jax.make_jaxpr(function)(*args) if trace is None else trace(*args).jaxpr
    return list(_walk(made.jaxpr))


def _walk(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _walk(inner)


def longest_sum(found: list[Any]) -> int:
    """The most terms that one number is a sum of in these equations."""
    return max((_terms(equation) for equation in found), default=1)


def _terms(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    shapes: list[Any] = [getattr(v.aval, "shape", ()) for v in equation.invars]
    if name == "reduce_sum":
        return math.prod(shapes[0][axis] for axis in params["axes"])
    if name == "dot_general":
        ((axes, _), _) = params["dimension_numbers"]
        return math.prod(shapes[0][axis] for axis in axes)
    if name == "conv_general_dilated":
        spec = params["dimension_numbers"].rhs_spec
        return math.prod(shapes[1][axis] for axis in spec[1:])
    if name in ("cumsum", "reduce_window_sum"):
        return max(shapes[0], default=1)
    return 1


def narrow_in_jax(found: list[Any]) -> str | None:
    """The narrower float that these equations of a float64 computation compute in; None if none."""
    for equation in found:
        wide = any(_dtype(v) == jnp.float64 for v in equation.invars)
        for variable in equation.outvars:
            dtype = _dtype(variable)
            # Narrowing, or arithmetic that starts from integers, as a count of steps.
            if dtype is not None and dtype.name in NARROW and (wide or _dtype_is_integer(equation)):
                return dtype.name
    return None


def _dtype(variable: Any) -> Any:
    return getattr(getattr(variable, "aval", None), "dtype", None)


def _dtype_is_integer(equation: Any) -> bool:
    dtypes = [_dtype(v) for v in equation.invars]
    return bool(dtypes) and all(d is not None and jnp.issubdtype(d, jnp.integer) for d in dtypes)


class NarrowInTorch(TorchFunctionMode):
    """Notes in `found` the functions of a float64 computation that give a narrower float."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        dtype = out.dtype if isinstance(out, torch.Tensor) else None
        if name in FLOAT32_INSIDE or (dtype in (torch.float32, torch.bfloat16, torch.float16)):
            self.found.append(name)
        return out
