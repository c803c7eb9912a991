"""The numeric rungs: what each framework computes from the same weights and batch, compared."""

import dataclasses
from collections.abc import Sequence

from parity.pair import Batch, Case, Pair, Tensors, precision
from parity.result import Comparison, ModuleError, Result, result
from parity.rungs import NUMERIC, forward
from parity.tolerance import (
    Float32,
    compare_float32,
    compare_float64,
    measure_float32,
    relative_error,
)


def climb(
    name: str,
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    device: str = "cpu",
    *,
    jit: bool = True,
) -> tuple[Result, Result]:
    """The results of the rung `name`, one of `NUMERIC`, in float64 and in float32.

    Args:
      state: the shared weights, a state_dict of float32 NumPy arrays.
      batches: of the same size. The first decides in float64; float32 goes on to the next ones
        while a tensor is too far off, for rounding may have decided a tie (`compare_float32`).
      device: PyTorch's; JAX computes on its default one.
      jit: compile the JAX side; else it runs operation by operation.
    """
    rung = NUMERIC[name]
    wide, narrow = (Case(pair, dtype, device, jit) for dtype in ("float64", "float32"))
    with precision("float64"):
        our_wide = rung.ours(wide)
    with precision("float32"):
        our_narrow = rung.ours(narrow)
    their_wide, their_narrow = rung.theirs(wide), rung.theirs(narrow)

    def measure(batch: Batch) -> tuple[Tensors, Tensors, dict[str, Float32]]:
        with precision("float64"):
            our_oracle = our_wide(state, batch)
        their_oracle = their_wide(state, batch)
        with precision("float32"):
            ours = our_narrow(state, batch)
        theirs = their_narrow(state, batch)
        if rung is forward:
            our_oracle, their_oracle = forward.common(our_oracle, their_oracle)
            ours, theirs = forward.common(ours, theirs)
        shared = [key for key in their_oracle if key in theirs]  # some are float64's alone
        figures = measure_float32(
            {key: ours[key] for key in shared},
            {key: theirs[key] for key in shared},
            {key: our_oracle[key] for key in shared},
            {key: their_oracle[key] for key in shared},
        )
        return our_oracle, their_oracle, figures

    our_oracle, their_oracle, figures = measure(batches[0])
    quieter = {key: min(found.our_noise, found.their_noise) for key, found in figures.items()}
    exact = compare_float64(our_oracle, their_oracle, quieter)
    measured = [figures]
    rounded = compare_float32(measured)
    while not rounded.passed and len(measured) < len(batches):
        measured.append(measure(batches[len(measured)])[2])
        rounded = compare_float32(measured)
    if rung is forward:
        exact = _with_modules(exact, our_oracle, their_oracle, figures)
    return (
        result(pair.name, name, "float64", exact),
        result(pair.name, name, "float32", rounded),
    )


def _with_modules(
    exact: Comparison, ours: Tensors, theirs: Tensors, figures: dict[str, Float32]
) -> Comparison:
    """With the figures of every module in train mode, in order of execution."""
    suffix = " in train mode"
    modules = tuple(
        ModuleError(key.removesuffix(suffix), relative_error(ours[key], theirs[key]), *figures[key])
        for key in theirs
        if key.endswith(suffix)
    )
    return dataclasses.replace(exact, modules=modules)
