"""The numeric rungs: what each framework computes from the same weights and batch, compared."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.ladder import design
from parity.ladder.bias_correction import FLOAT32, bias_correction, exact_correction
from parity.ladder.result import Comparison, ModuleError, Result, result
from parity.ladder.rounding import moved_arrays
from parity.ladder.rungs import NUMERIC, forward
from parity.ladder.tolerance import (
    DIFFERENCE_MULTIPLE,
    EPS,
    FLOAT32_EPS,
    FLOAT64_OF_FLOAT32,
    NOISE_MULTIPLE,
    SAME_IN_FLOAT32,
    Rounded,
    compare_float64,
    compare_rounded,
    measure_rounded,
    relative_error,
    scales_of,
)
from parity.pairs.case import Case, precision
from parity.pairs.examples import more_like
from parity.pairs.pair import Batch, Pair, Tensors
from parity.pairs.trees import rows, take

ROUNDING = 1e-10
"""The most, relative, that rounding makes of a sum of a million values in float64."""
FORMULA = 1e-5
"""A float64 difference beyond this is no matter of float32's rounding."""
BATCHES = 4
"""So many are drawn like the examples before a float32 difference counts."""

Both = Callable[[Tensors, Batch], tuple[Tensors, Tensors]]
"""What JAX and PyTorch compute of shared weights and a batch, under the same names."""


def climb(
    name: str,
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    device: str = "cpu",
    *,
    jit: bool = True,
    narrow: Sequence[str] = ("float32",),
    strict: bool = False,
    runs_in_float64: bool = True,
) -> list[Result]:
    """The results of the rung `name`, one of `NUMERIC`, in float64 and in each precision `narrow`.

    Args:
        name: of the rung, one of `NUMERIC`.
        pair: the two implementations.
        state: the shared weights, a state_dict of float32 NumPy arrays.
        batches: of the same size. The first decides in float64; a narrower precision goes on to the
            next ones, and to others drawn like the first, while a tensor is too far off, for
            rounding may have decided a tie (`compare_rounded`), and at last measures each
            framework's noise twice (`_noisier`).
        device: PyTorch's; JAX computes on its default one.
        jit: compile the JAX side; else it runs operation by operation.
        narrow: of "float32" and "bfloat16", float32 for the report's figures of every module.
        strict: that a framework computes in float32 inside of the float64 run is a difference.
        runs_in_float64: without, PyTorch's float64 run is the measure of JAX's noise too.
    """
    remarks: list[str] = []
    case = Case(pair, "float64", device, jit)
    wide = _sides(name, case, remarks) if runs_in_float64 else _torch_alone(name, case)
    oracles = [wide(state, batches[0])]
    ours, theirs = oracles[0]
    scales = scales_of(ours, theirs) if NUMERIC[name] is not forward else {}
    near = scales_of(ours, theirs, SAME_IN_FLOAT32) if scales else {}
    if near != scales and design.of_the_model(case, state, batches[0]) is not None:
        scales = near
    if name in ("optimizer", "batch_stats"):
        scales = _with_constants(scales, pair)
    multiple = functools.cache(lambda: design.noise_of(case, state, batches[0]))
    sides = {dtype: _sides(name, Case(pair, dtype, device, jit), []) for dtype in narrow}
    measured = {
        dtype: [_measure(oracles[0], both(state, batches[0]), dtype, scales)]
        for dtype, both in sides.items()
    }
    figures = measured.get("float32", [{}])[0]
    noise = {key: _resolved(f) for key, f in figures.items()}
    # Gradients by the inputs are float64's alone: as ill-conditioned as the others at worst.
    noise = dict.fromkeys(theirs, max(noise.values(), default=0.0)) | noise
    exact = compare_float64(ours, theirs, noise, scales)
    if exact.passed is False:
        own = _own_noise(wide, state, batches[0], oracles[0], scales)
        noise = {key: max(own.get(key, 0.0), noise.get(key, 0.0)) for key in theirs}
        exact = compare_float64(ours, theirs, noise, scales, multiple())
    displaced: set[str] = set()
    if exact.passed is False and NUMERIC[name] is forward:
        displaced = _displaced(ours, theirs, noise, multiple())
        kept = [key for key in theirs if key not in displaced]
        if displaced:
            remarks.append(_told(displaced))
            exact = compare_float64({k: ours[k] for k in kept}, {k: theirs[k] for k in kept}, noise)
    found: list[Result] = []
    for dtype, both in sides.items():
        measured[dtype][0] = {k: f for k, f in measured[dtype][0].items() if k not in displaced}
        comparison = compare_rounded(measured[dtype], dtype)
        if comparison.passed is False and (exact.passed is not False or exact.measured < FORMULA):
            comparison = _again(
                measured[dtype], wide, both, oracles, state, batches, dtype, scales, multiple()
            )
        found.append(result(pair.name, name, dtype, comparison))
    if name == "optimizer" and not strict:
        exact, *found = _without_bias_correction(exact, found, pair, state, batches[0], device, jit)
    if exact.passed is False and not strict and all(r.passed is not False for r in found[:1]):
        exact = _float32_by_design(
            name, exact, case, state, batches[0], oracles[0], figures, scales
        )
    if NUMERIC[name] is forward and figures:
        exact = _with_modules(exact, pair, ours, theirs, figures)
    exact = dataclasses.replace(exact, remarks=(*exact.remarks, *dict.fromkeys(remarks)))
    results = [result(pair.name, name, "float64", exact), *found]
    return [r for r in results if r.dtype == "float64" or r.dtype in narrow]


def _with_constants(scales: dict[str, float], pair: Pair) -> dict[str, float]:
    """At least the constants that the converter adds: a leaf of 1 + weight rounds like 1."""
    added = pair.leaf_map.constants
    return {
        key: max([scale, *(value for name, value in added.items() if name in key)])
        for key, scale in scales.items()
    }


def _resolved(figures: Rounded) -> float:
    """The quieter framework's noise, or what of the noisier one's float64 may show as well.

    A variance in one pass is noisy in float64 too, by as much: that is float32's to judge.
    """
    noises = figures.our_noise, figures.their_noise
    share = DIFFERENCE_MULTIPLE / NOISE_MULTIPLE * max(noises)
    return max(min(noises), share if math.isfinite(share) else 0.0)


def _torch_alone(name: str, case: Case) -> Both:
    """PyTorch's float64 tensors for both sides."""
    theirs = NUMERIC[name].theirs(case)

    def both(state: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        found = theirs(state, batch)
        return found, found

    return both


def _without_bias_correction(
    exact: Comparison,
    narrow: list[Result],
    pair: Pair,
    state: Tensors,
    batch: Batch,
    device: str,
    jit: bool,
) -> list[Any]:
    """The comparisons, passed where Optax with an exact bias correction passes."""
    made = []
    for each in (exact, *narrow):
        dtype = getattr(each, "dtype", "float64")
        if each.passed is False:
            case = Case(pair, dtype, device, jit)
            with bias_correction(exact_correction):
                found = _sides("optimizer", case, [])(state, batch)
                oracle = _sides("optimizer", Case(pair, "float64", device, jit), [])(state, batch)
            again = compare_float64(*found)
            if dtype != "float64":
                again = compare_rounded([_measure(oracle, found, dtype, {})], dtype)
            if again.passed:
                changes: dict[str, Any] = {
                    name: getattr(again, name) for name in ("passed", "measured", "tolerance")
                }
                remarks = (*each.remarks, FLOAT32)
                each = dataclasses.replace(each, **changes, detail=again.detail, remarks=remarks)
        made.append(each)
    return made


def _sides(name: str, case: Case, remarks: list[str]) -> Both:
    rung = NUMERIC[name]
    with precision(case.dtype):
        ours = rung.ours(case)
    theirs = rung.theirs(case)

    def both(state: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        with precision(case.dtype):
            our_tensors = ours(state, batch)
        their_tensors = theirs(state, batch)
        return rung.matched(case, our_tensors, their_tensors, remarks)

    return both


def _measure(
    oracle: tuple[Tensors, Tensors],
    found: tuple[Tensors, Tensors],
    dtype: str,
    scales: dict[str, float] | None = None,
) -> dict[str, Rounded]:
    shared = [key for key in oracle[1] if key in found[1]]  # some are float64's alone
    ours, theirs, our_oracle, their_oracle = (
        {key: tensors[key] for key in shared} for tensors in (*found, *oracle)
    )
    return measure_rounded(ours, theirs, our_oracle, their_oracle, dtype, scales)


def _again(
    measured: list[dict[str, Rounded]],
    wide: Both,
    both: Both,
    oracles: list[tuple[Tensors, Tensors]],
    state: Tensors,
    batches: Sequence[Batch],
    dtype: str,
    scales: dict[str, float],
    multiple: float,
) -> Comparison:
    """The comparison on further batches, and at last with each framework's noise measured twice."""
    comparison = compare_rounded(measured, dtype, multiple)
    given = list(batches)
    while comparison.passed is False and len(measured) < max(len(given), BATCHES):
        number = len(measured)
        if number == len(given):
            given.append(more_like(given[0], number))
        if len(oracles) == number:
            oracles.append(wide(state, given[number]))
        found = _measure(oracles[number], both(state, given[number]), dtype, scales)
        measured.append({key: found[key] for key in measured[0]})
        comparison = compare_rounded(measured, dtype, multiple)
    for seed in range(2):
        if comparison.passed is not False:
            break
        measured[:] = [
            _noisier(figures, oracle, both, state, batch, dtype, scales, seed)
            for figures, oracle, batch in zip(measured, oracles, given, strict=False)
        ]
        comparison = compare_rounded(measured, dtype, multiple)
    return comparison


def _noisier(
    figures: dict[str, Rounded],
    oracle: tuple[Tensors, Tensors],
    sides: Both,
    state: Tensors,
    batch: Batch,
    dtype: str,
    scales: dict[str, float] | None = None,
    seed: int = 0,
) -> dict[str, Rounded]:
    """The figures with each framework's noise the larger one of two runs.

    The second is from weights moved by one rounding: in a deep net some activation of every batch
    is within rounding of zero, and where one framework's falls on the other side by luck, so may
    the twin's.
    """
    weights = moved_arrays(state, np.random.default_rng(seed), EPS[dtype])
    second = _measure(oracle, sides(weights, batch), dtype, scales or {})
    return {
        name: found._replace(
            our_noise=max(found.our_noise, second[name].our_noise),
            their_noise=max(found.their_noise, second[name].their_noise),
        )
        for name, found in figures.items()
    }


def _own_noise(
    wide: Both,
    state: Tensors,
    batch: Batch,
    found: tuple[Tensors, Tensors],
    scales: dict[str, float] | None = None,
) -> dict[str, float]:
    """How far each framework comes from itself, the larger of the two, as noise in float32.

    That is when it computes again from weights moved by one rounding of float64, and with the
    examples in another order: a sum of many values hardly feels the first, and rounds otherwise by
    the second.
    """
    rng = np.random.default_rng(0)
    exact = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in state.items()}
    weights = moved_arrays(exact, rng)
    order = rng.permutation(rows(batch.inputs))
    moved = wide(weights, batch)
    turned = wide(weights, Batch(*(take(part, order, len(order)) for part in batch)))
    back, scales = np.argsort(order), scales or {}
    return {
        key: max(
            max(_response(a[key], b[key], None, s), _response(c[key], b[key], back, s))
            for a, c, b in zip(moved, turned, found, strict=True)
        )
        / FLOAT64_OF_FLOAT32
        for key in found[1]
        for s in [scales.get(key)]
    }


def _response(
    second: np.ndarray, first: np.ndarray, back: np.ndarray | None, scale: float | None = None
) -> float:
    """The relative error of a tensor's second computation against its first.

    Of a tensor of all examples, or of one that has their axis first and is put in order by `back`;
    none where it is no matter of rounding, as where the order changes the mathematics.
    """
    errors = [relative_error(second, first, scale)]
    if back is not None and second.shape[:1] == back.shape:
        errors.append(relative_error(second[back], first, scale))
    return min(errors) if min(errors) <= ROUNDING else 0.0


def _displaced(
    ours: Tensors, theirs: Tensors, noise: dict[str, float], multiple: float
) -> set[str]:
    """The inner tensors that depart where all outputs agree: a name may mean another place."""
    departing = set()
    for name in theirs:
        one = compare_float64({name: ours[name]}, {name: theirs[name]}, noise, None, multiple)
        if not one.passed and name.startswith(forward.OUTPUTS):
            return set()
        if not one.passed:
            departing.add(name)
    return departing


def _told(displaced: set[str]) -> str:
    names = sorted({name.partition(" in ")[0] for name in displaced})
    return (
        f"the outputs agree, and what both call {', '.join(names)} does not: it is not the same "
        "place in the two"
    )


def _float32_by_design(
    name: str,
    exact: Comparison,
    case: Case,
    state: Tensors,
    batch: Batch,
    found: tuple[Tensors, Tensors],
    figures: dict[str, Rounded],
    scales: dict[str, float],
) -> Comparison:
    """Passed where one side computes in float32 inside, and the difference is of that size."""
    if name == "optimizer":
        evidence = design.of_the_optimizer(case, state)
    else:
        evidence = design.of_the_model(case, state, batch)
    if evidence is None:
        return exact
    ours, theirs = found
    noises = {key: max(f.our_noise, f.their_noise, FLOAT32_EPS) for key, f in figures.items()}
    most = max(noises.values(), default=FLOAT32_EPS)  # of gradients by the inputs, as in `climb`
    worst: tuple[float, float, float] | None = None
    for key in theirs:
        error = relative_error(ours[key], theirs[key], scales.get(key))
        allowed = DIFFERENCE_MULTIPLE * noises.get(key, most)
        if worst is None or error / allowed > worst[0]:
            worst = error / allowed, error, allowed
    if worst is None or worst[0] > 1:
        return exact
    return dataclasses.replace(
        exact,
        passed=True,
        measured=worst[1],
        tolerance=worst[2],
        detail=f"to float32's rounding: {exact.detail}",
        remarks=(*exact.remarks, str(evidence)),
    )


def _with_modules(
    exact: Comparison, pair: Pair, ours: Tensors, theirs: Tensors, figures: dict[str, Rounded]
) -> Comparison:
    """With the figures of every module in train mode, in order of execution."""
    suffix = f" in {pair.modes[-1]} mode"
    modules = tuple(
        ModuleError(
            key.removesuffix(suffix), relative_error(ours[key], theirs[key]), *figures[key][:3]
        )
        for key in theirs
        if key.endswith(suffix) and key in figures
    )
    return dataclasses.replace(exact, modules=modules)
