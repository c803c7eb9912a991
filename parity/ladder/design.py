"""Whether a framework computes in float32 inside of a float64 run, as many norms do by design."""

import contextlib
from typing import NamedTuple

import jax
import torch

from parity.ladder import arithmetic
from parity.ladder.rungs import forward
from parity.ladder.tolerance import FLOAT64_TOLERANCE, noise_multiple, relative_error
from parity.pairs.case import Case, around, precision
from parity.pairs.pair import Batch, Tensors


def gradient_equations(case: Case, state: Tensors, batch: Batch) -> list:
    """Every equation of JAX's gradient of the loss, inner ones too; of the loss without one."""
    with precision(case.dtype):
        trainable, others = case.pair.leaf_map.split(case.variables(state))
        made = case.jax_inputs(batch.inputs)
        for function in (jax.grad(case.loss, has_aux=True), case.loss):
            # A model may have no gradient, or not be traced at all; then nothing is known of it.
            with contextlib.suppress(Exception):
                return arithmetic.equations(
                    lambda t, o, x, f=function: f(t, o, x, batch.labels), trainable, others, made
                )
        return []


def noise_of(case: Case, state: Tensors, batch: Batch) -> float:
    """How much noisier one framework may be than the other: `noise_multiple` of JAX's sums."""
    return noise_multiple(arithmetic.longest_sum(gradient_equations(case, state, batch)))


class Inside(NamedTuple):
    """A module that computes in a narrower `dtype`, and in which framework."""

    module: str
    dtype: str
    where: str

    def __str__(self) -> str:
        return f"{self.module} {self.what}"

    @property
    def what(self) -> str:
        """The sentence of the module."""
        return f"computes in {self.dtype} inside, in {self.where}"


def of_the_model(case: Case, state: Tensors, batch: Batch) -> Inside | None:
    """The first module that departs where a framework computes in float32; None if none does."""
    sides = []
    dtype = arithmetic.narrow_in_jax(gradient_equations(case, state, batch))
    if dtype is not None:
        sides.append("JAX")
    noted: list[arithmetic.NarrowInTorch] = []

    def watch(_: torch.nn.Module) -> arithmetic.NarrowInTorch:
        noted.append(arithmetic.NarrowInTorch())
        return noted[-1]

    with around(watch):
        theirs = forward.theirs(case)(state, batch)
    if any(note.found for note in noted):
        sides.append("PyTorch")
    if not sides:
        return None
    with precision(case.dtype):
        ours = forward.ours(case)(state, batch)
    ours, theirs = forward.matched(case, ours, theirs, [])
    departing = (n for n in theirs if not relative_error(ours[n], theirs[n]) <= FLOAT64_TOLERANCE)
    name = next(departing, forward.OUTPUTS).partition(" in ")[0]
    name = "the model" if name.startswith(forward.OUTPUTS) else name
    return Inside(name, dtype or "float32", " and in ".join(sides))


def of_the_optimizer(case: Case, state: Tensors) -> str | None:
    """The same of the Optax transformation's update."""
    optimizer = case.pair.optimizer.jax
    with precision(case.dtype):
        params, _ = case.pair.leaf_map.split(case.variables(state))
        held = optimizer.init(params)
        dtype = arithmetic.narrow_in_jax(
            arithmetic.equations(optimizer.update, params, held, params)
        )
    return None if dtype is None else f"the Optax optimizer computes in {dtype} inside"
