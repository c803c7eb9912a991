"""Both frameworks train side by side in float64, and the trained models are then compared.

An exact implementation of the same training differs by rounding that training itself amplifies,
and each framework rounds in its own way: PyTorch's BatchNorm on a CPU adds up a channel value after
value. So where the two are further apart than the plain bars, each trains again from weights moved
by one rounding, with the examples of every batch in another order, which leaves the mathematics
alone and rounds every sum anew. The two frameworks may differ by no more than `NOISE_MULTIPLE`
times what such a second run differs by from the first of its framework, or the plain bar where that
is more. PyTorch's second run is the measure: JAX's counts up to `NOISIER` times as much, for a step
that depends on the order of the examples leaves itself too, and that is no rounding. Where a second
run has left the first (`CHAOS`), nothing is compared any more, and the result says after how many
steps. What has a gradient that is zero but for rounding, in float32, Adam moves by that rounding
alone: it is held apart from the others to `DIFFERENCE_MULTIPLE` times the larger of what the second
runs differ by.

Adam's first step, lr g / (|g| + eps), multiplies the rounding of a gradient near zero by up to
lr / eps, so that one second run may say too little by chance: a difference beyond its tolerance is
judged again by further second runs, up to `SECOND_RUNS` of each framework.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jax_impl.errors import listed
from parity.ladder import arithmetic, design
from parity.ladder.result import Comparison, Result, StepError, nothing, result
from parity.ladder.rungs.points import (
    CHAOS,
    STATISTICS_BAR,
    UNIT,
    Point,
    compare,
    judge,
    judge_rounded,
)
from parity.ladder.rungs.runs import (
    PARAMETERS_BAR,
    Idle,
    Run,
    jax_run,
    only_rounded,
    reordered,
    same_in_any_order,
    torch_run,
)
from parity.ladder.rungs.trained_outputs import EVALUATED, evaluated
from parity.ladder.tolerance import FLOAT32_EPS, NOISE_MULTIPLE, relative_error
from parity.pairs.case import Case, precision
from parity.pairs.heap import trim
from parity.pairs.pair import Batch, Pair, Tensors

STEPS = 60
NOT_IDLE: Idle = {}
SECOND_RUNS = 4
EVERY = 5
"""Steps between comparisons of a model of more than `SMALL` parameters; each step of a smaller."""
SMALL = 100_000


def run(
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    *,
    device: str = "cpu",
    steps: int = STEPS,
    jit: bool = True,
    narrow: bool = True,
    strict: bool = False,
    dtype: str = "float64",
) -> Iterator[Result]:
    """The results of `trajectory` and of `eval_after_training`.

    Args:
        pair: the two implementations.
        state: float32 initial weights, a state_dict.
        batches: trained on in turn; the last one may be smaller.
        device: PyTorch's; JAX computes on its default one.
        steps: of training.
        jit: compile the JAX side; else it runs operation by operation.
        narrow: also train in float32, for the report: no tolerance is set on that.
        strict: that a framework computes in float32 inside of the float64 run is a difference.
        dtype: float32 where float64 is not wanted, or the JAX model does not run in it.
    """
    wide = Case(pair, dtype, device, jit)
    otherwise = pair.leaf_map.trains_otherwise
    if not pair.parameters:
        otherwise = "PyTorch's model has no parameter that is trained"
    if otherwise is not None:
        yield result(pair.name, "trajectory", dtype, nothing(UNIT, otherwise))
        return
    with precision(dtype):
        stepper = wide.stepper()
    eps, remarks, multiple, idle = None, (), NOISE_MULTIPLE, NOT_IDLE
    if dtype != "float64":
        eps, narrow, multiple = FLOAT32_EPS, False, design.noise_of(wide, state, batches[0])
        idle, remarks = _idle(wide, state, batches[0])
        found = _side_by_side(wide, state, batches, stepper, steps, 1, eps, multiple, idle)
    else:
        found = _side_by_side(wide, state, batches, stepper, steps, seed=None)
    if eps is None and not all(each.passed for each in _judged(found, steps)):
        remarks = () if strict else _float32_inside(wide, state, batches[0], stepper)
        eps = FLOAT32_EPS if remarks else None
        multiple = design.noise_of(wide, state, batches[0])
        if remarks:
            idle, more = _idle(wide, state, batches[0])
            remarks = (*remarks, *more)
        found = _side_by_side(wide, state, batches, stepper, steps, 1, eps, multiple, idle)
    for seed in range(2, SECOND_RUNS + 1):
        passed = all(each.passed for each in _judged(found, steps))
        if passed or not found.points[-1].parameters < CHAOS:
            break
        again = _side_by_side(wide, state, batches, stepper, steps, seed, eps, multiple, idle)
        found = _widened(found, again)
    own = found.points[0].own_parameters
    if dtype != "float64" and CHAOS <= own < math.inf:
        why = f"chaotic from the first step on: a second run in float32 differs by {own:.1e}"
        yield result(pair.name, "trajectory", dtype, nothing(UNIT, why, remarks))
        return
    in_float32 = _narrow(pair, state, batches, device, jit, found.points, narrow)
    series = _series(found.points, found.losses, in_float32)
    for each in _judged(found, steps, series):
        rung = "eval_after_training" if each.unit == EVALUATED else "trajectory"
        each = dataclasses.replace(each, remarks=(*each.remarks, *remarks))
        yield result(pair.name, rung, dtype, each)


def _idle(case: Case, state: Tensors, batch: Batch) -> tuple[Idle, tuple[str, ...]]:
    """What only rounding moves, and what is said of it."""
    idle = only_rounded(case, state, batch)
    texts = [name if idle[name].all() else f"a part of {name}" for name in sorted(idle)]
    what = "held apart in training, where the gradient is zero but for rounding"
    return idle, (f"{what}: {listed(texts, 4)}",) if idle else ()


def _float32_inside(case: Case, state: Tensors, batch: Batch, stepper: Any) -> tuple[str, ...]:
    """What says that a step computes in float32 inside."""
    found = [design.of_the_optimizer(case, state), design.of_the_model(case, state, batch)]
    if case.pair.jax_step is not None and not any(found):
        start, step, _ = stepper
        inside = None
        # A step that is no pure function of its arguments is not traced; then nothing is known.
        with precision(case.dtype), contextlib.suppress(Exception):
            held = start(case.variables(state))
            traced = arithmetic.equations(step, held, batch.inputs, batch.labels)
            inside = arithmetic.narrow_in_jax(traced)
        found.append(inside and f"the training step computes in {inside} inside, in JAX")
    return tuple(str(each) for each in found if each)


class Trained(NamedTuple):
    """Training in both frameworks.

    Where they were compared, the losses of every step, and the trained models' outputs, unless
    PyTorch's training came to numbers that are none.
    """

    points: list[Point]
    losses: list[tuple[float, float]]
    evaluated: Comparison | None
    multiple: float = NOISE_MULTIPLE
    eps: float = 0.0


def _side_by_side(
    case: Case,
    state: Tensors,
    batches: Sequence[Batch],
    stepper: Any,
    steps: int,
    seed: int | None,
    eps: float | None = None,
    multiple: float = NOISE_MULTIPLE,
    idle: Idle = NOT_IDLE,
) -> Trained:
    """`seed` is of the second runs; None is without them, and ends beyond the plain bars.

    What is `idle` is compared apart.
    """
    ours, theirs = jax_run(case, state, stepper), torch_run(case, state)
    again: list[tuple[Run, Run]] = []
    if seed is not None:
        again.append((jax_run(case, state, stepper, seed, eps), ours))
        again.append((torch_run(case, state, seed, eps), theirs))
    reorder = same_in_any_order(case, state, batches[0])
    points, losses, diverged = [], [], False
    for step in range(1, steps + 1):
        trim()  # four trainings at once
        batch = batches[(step - 1) % len(batches)]
        losses.append((ours.step(batch), theirs.step(batch)))
        for second, _ in again:
            second.step(reordered(batch, (step, seed or 0)) if reorder else batch)
        if step <= 2 or step == steps or step % _every(case.pair) == 0:
            mine, reference = ours.look(), theirs.look()
            diverged = not all(np.isfinite(value).all() for value in reference.values())
            if points and diverged:  # PyTorch's own training has no numbers any more
                break
            seconds = [run.look() for run, _ in again]
            points.append(compare(case.pair, step, mine, reference, seconds, idle))
            point = points[-1]
            if seed is None and not _within_the_bars(point):
                return Trained(points, losses, None)
            if not max(point.own_parameters, point.own_statistics) < CHAOS:
                break
            if not point.parameters < 1:  # nothing more to learn
                break
    outputs = None
    if not diverged:
        last = points[-1].step
        outputs = evaluated(case, ours, theirs, again, batches, last, multiple, eps or 0.0)
    return Trained(points, losses, outputs, multiple, eps or 0.0)


def _within_the_bars(point: Point) -> bool:
    """Without statistics theirs is met."""
    return point.parameters <= PARAMETERS_BAR and not point.statistics > STATISTICS_BAR


def _widened(found: Trained, again: Trained) -> Trained:
    """`found`, judged by the second runs of both; up to where either was compared."""
    points = [
        point._replace(
            own_parameters=max(point.own_parameters, other.own_parameters),
            own_statistics=max(point.own_statistics, other.own_statistics),
            own_rounded=max(point.own_rounded, other.own_rounded),
        )
        for point, other in zip(found.points, again.points, strict=False)
    ]
    evaluated = found.evaluated
    if evaluated and again.evaluated and again.evaluated.tolerance > evaluated.tolerance:
        evaluated = again.evaluated
    return found._replace(points=points, evaluated=evaluated)


def _judged(found: Trained, steps: int, series: tuple[StepError, ...] = ()) -> list[Comparison]:
    """The parameters, the statistics if there are any, and the outputs."""
    how = found.multiple, found.eps
    judged = [judge(found.points, "parameters", steps, series, *how)]
    if not all(math.isnan(point.statistics) for point in found.points):
        judged.append(judge(found.points, "statistics", steps, (), *how))
    if not math.isnan(found.points[0].rounded):
        judged.append(judge_rounded(found.points))
    return judged if found.evaluated is None else [*judged, found.evaluated]


def _every(pair: Pair) -> int:
    size = sum(math.prod(shape) for shape in pair.parameters.values())
    return 1 if size <= SMALL else EVERY


def _narrow(
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    device: str,
    jit: bool,
    points: list[Point],
    wanted: bool,
) -> dict[int, list[float]]:
    """By step, the parameters' relative differences in float32.

    Of the frameworks, of JAX from its second run and of PyTorch from its own.
    """
    if not wanted:
        return {}
    case, found = Case(pair, "float32", device, jit), {}
    with precision(case.dtype):
        stepper = case.stepper()
    ours, theirs = jax_run(case, state, stepper), torch_run(case, state)
    again = jax_run(case, state, stepper, 1, FLOAT32_EPS), torch_run(case, state, 1, FLOAT32_EPS)
    reorder = same_in_any_order(case, state, batches[0])
    steps = {point.step for point in points}
    for step in range(1, max(steps) + 1):
        trim()
        batch = batches[(step - 1) % len(batches)]
        for run in (ours, theirs):
            run.step(batch)
        for run in again:
            run.step(reordered(batch, (step, 1)) if reorder else batch)
        if step in steps:
            first, second = ours.look(), theirs.look()
            sides = (first, second), (first, again[0].look()), (second, again[1].look())
            found[step] = [_largest(pair, *looks) for looks in sides]
    return found


def _largest(pair: Pair, one: Tensors, other: Tensors) -> float:
    """The largest relative difference of a parameter."""
    errors = (relative_error(one[n], other[n]) for n in pair.parameters if n in one and n in other)
    return max(errors, default=math.nan)


def _series(
    points: list[Point], losses: list[tuple[float, float]], narrow: dict[int, list[float]]
) -> tuple[StepError, ...]:
    found = []
    for point in points:
        differs, *own = narrow.get(point.step, (None, None, None))
        found.append(
            StepError(point.step, point.parameters, differs, *losses[point.step - 1], *own)
        )
    return tuple(found)
