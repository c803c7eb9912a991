"""Where what is traced will run, and what XLA needs to be told there."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import cache

import jax
import jax.numpy as jnp
from jax import lax

IN_PLACE = "xla_cpu_copy_insertion_use_region_analysis"
_TRACED_FOR: ContextVar[tuple[str, ...] | None] = ContextVar("traced_for", default=None)


@contextlib.contextmanager
def tracing_for(platforms: Sequence[str]) -> Iterator[None]:
    """What is traced inside will run on each of these, as "cpu", "cuda" and "tpu".

    Where they are several, or none of them a CPU, it is what runs anywhere, with a batch of any
    size too; of a CPU alone what is fast there, which depends on the batch's size.
    """
    token = _TRACED_FOR.set(tuple(platforms))
    try:
        yield
    finally:
        _TRACED_FOR.reset(token)


def on_cpu() -> bool:
    """Whether what is traced now will run on the CPU alone.

    By `tracing_for`, else by JAX's configuration.
    """
    if (platforms := _TRACED_FOR.get()) is not None:
        return platforms == ("cpu",)
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if device is None:
        return jax.default_backend() == "cpu"
    return getattr(device, "platform", device) == "cpu"


def kept(array: jax.Array) -> jax.Array:
    """The same array, in memory.

    Else XLA on a CPU computes it again, from all that it comes from, for each of its readers. That
    a branch is never taken it does not see.
    """
    if not on_cpu():
        return array
    width = 8 * array.dtype.itemsize
    first = array[(0,) * array.ndim]
    ones = lax.population_count(lax.bitcast_convert_type(first, jnp.dtype(f"uint{width}")))
    return lax.cond(ones > width, lambda x: -x, lambda x: x, array)


def compiler_options() -> dict[str, bool]:
    """For `jax.jit`: on a CPU a step's weights are then not copied first.

    XLA sees by them that a step may update its weights in place.
    """
    return {IN_PLACE: True} if on_cpu() and _takes(IN_PLACE) else {}


@cache
def _takes(option: str) -> bool:
    """Whether this XLA has the option: they come and go."""
    try:
        jax.jit(lambda: 0, compiler_options={option: True}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
