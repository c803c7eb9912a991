"""The numeric rungs: what each framework computes from the same weights and batch, compared."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from parity.ladder.result import Comparison, ModuleError, Result, result
from parity.ladder.rounding import moved_arrays
from parity.ladder.rungs import NUMERIC, forward
from parity.ladder.tolerance import (
    EPS,
    FLOAT64_OF_FLOAT32,
    Rounded,
    compare_float64,
    compare_rounded,
    measure_rounded,
    relative_error,
)
from parity.pairs.pair import Batch, Case, Pair, Tensors, precision

ROUNDING = 1e-10
"""The most, relative, that rounding makes of a sum of a million values in float64."""


def climb(
    name: str,
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    device: str = "cpu",
    *,
    jit: bool = True,
    narrow: Sequence[str] = ("float32",),
) -> list[Result]:
    """The results of the rung `name`, one of `NUMERIC`, in float64 and in each precision `narrow`.

    Args:
        name: of the rung, one of `NUMERIC`.
        pair: the two implementations.
        state: the shared weights, a state_dict of float32 NumPy arrays.
        batches: of the same size. The first decides in float64; a narrower precision goes on to the
            next ones while a tensor is too far off, for rounding may have decided a tie
            (`compare_rounded`), and at last measures each framework's noise twice (`_noisier`).
        device: PyTorch's; JAX computes on its default one.
        jit: compile the JAX side; else it runs operation by operation.
        narrow: of "float32" and "bfloat16", float32 for the report's figures of every module.
    """
    wide = _sides(name, Case(pair, "float64", device, jit))
    oracles = [wide(state, batches[0])]
    found: list[Result] = []
    figures: dict[str, Rounded] = {}
    for dtype in narrow:
        sides = _sides(name, Case(pair, dtype, device, jit))
        measured = [_measure(oracles[0], sides(state, batches[0]), dtype)]
        comparison = compare_rounded(measured, dtype)
        while not comparison.passed and len(measured) < len(batches):
            batch = batches[len(measured)]
            if len(oracles) == len(measured):
                oracles.append(wide(state, batch))
            measured.append(_measure(oracles[len(measured)], sides(state, batch), dtype))
            comparison = compare_rounded(measured, dtype)
        if not comparison.passed:
            again = [
                _noisier(figures, oracle, sides, state, batch, dtype)
                for figures, oracle, batch in zip(measured, oracles, batches, strict=True)
            ]
            comparison = compare_rounded(again, dtype)
        if dtype == "float32":
            figures = measured[0]
        found.append(result(pair.name, name, dtype, comparison))
    ours, theirs = oracles[0]
    quieter = {key: min(f.our_noise, f.their_noise) for key, f in figures.items()}
    exact = compare_float64(ours, theirs, quieter)
    if not exact.passed:
        own = _own_noise(wide, state, batches[0], oracles[0])
        noise = {key: max(value, quieter.get(key, 0.0)) for key, value in own.items()}
        exact = compare_float64(ours, theirs, noise)
    if NUMERIC[name] is forward and figures:
        exact = _with_modules(exact, ours, theirs, figures)
    return [result(pair.name, name, "float64", exact), *found]


def _sides(name: str, case: Case) -> Callable[[Tensors, Batch], tuple[Tensors, Tensors]]:
    """What JAX and PyTorch compute of shared weights and a batch."""
    rung = NUMERIC[name]
    with precision(case.dtype):
        ours = rung.ours(case)
    theirs = rung.theirs(case)

    def both(state: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        with precision(case.dtype):
            our_tensors = ours(state, batch)
        their_tensors = theirs(state, batch)
        if rung is forward:
            return forward.common(our_tensors, their_tensors)
        return our_tensors, their_tensors

    return both


def _measure(
    oracle: tuple[Tensors, Tensors], found: tuple[Tensors, Tensors], dtype: str
) -> dict[str, Rounded]:
    shared = [key for key in oracle[1] if key in found[1]]  # some are float64's alone
    ours, theirs, our_oracle, their_oracle = (
        {key: tensors[key] for key in shared} for tensors in (*found, *oracle)
    )
    return measure_rounded(ours, theirs, our_oracle, their_oracle, dtype)


def _noisier(
    figures: dict[str, Rounded],
    oracle: tuple[Tensors, Tensors],
    sides: Callable[[Tensors, Batch], tuple[Tensors, Tensors]],
    state: Tensors,
    batch: Batch,
    dtype: str,
) -> dict[str, Rounded]:
    """The figures with each framework's noise the larger one of two runs.

    The second is from weights moved by one rounding: in a deep net some activation of every batch
    is within rounding of zero, and where one framework's falls on the other side by luck, so may
    the twin's.
    """
    weights = moved_arrays(state, np.random.default_rng(0), EPS[dtype])
    second = _measure(oracle, sides(weights, batch), dtype)
    return {
        name: found._replace(
            our_noise=max(found.our_noise, second[name].our_noise),
            their_noise=max(found.their_noise, second[name].their_noise),
        )
        for name, found in figures.items()
    }


def _own_noise(
    wide: Callable[[Tensors, Batch], tuple[Tensors, Tensors]],
    state: Tensors,
    batch: Batch,
    found: tuple[Tensors, Tensors],
) -> dict[str, float]:
    """How far each framework comes from itself, the larger of the two, as noise in float32.

    That is when it computes again from weights moved by one rounding of float64, with the examples
    in another order: a sum of many values hardly feels the first, and rounds otherwise by the
    second.
    """
    rng = np.random.default_rng(0)
    exact = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in state.items()}
    weights = moved_arrays(exact, rng)
    order = rng.permutation(len(batch.images))
    again = wide(weights, Batch(batch.images[order], batch.labels[order]))
    back = np.argsort(order)
    return {
        key: max(_response(a[key], b[key], back) for a, b in zip(again, found, strict=True))
        / FLOAT64_OF_FLOAT32
        for key in found[1]
    }


def _response(second: np.ndarray, first: np.ndarray, back: np.ndarray) -> float:
    """The relative error of a tensor's second computation against its first.

    Of a tensor of all examples, or of one that has their axis first and is put in order by `back`;
    none where it is no matter of rounding, as where the order changes the mathematics.
    """
    errors = [relative_error(second, first)]
    if second.shape[:1] == back.shape:
        errors.append(relative_error(second[back], first))
    return min(errors) if min(errors) <= ROUNDING else 0.0


def _with_modules(
    exact: Comparison, ours: Tensors, theirs: Tensors, figures: dict[str, Rounded]
) -> Comparison:
    """With the figures of every module in train mode, in order of execution."""
    suffix = " in train mode"
    modules = tuple(
        ModuleError(
            key.removesuffix(suffix), relative_error(ours[key], theirs[key]), *figures[key][:3]
        )
        for key in theirs
        if key.endswith(suffix)
    )
    return dataclasses.replace(exact, modules=modules)
