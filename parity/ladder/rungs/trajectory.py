"""Both frameworks train side by side in float64, and the trained models are then compared.

An exact implementation of the same training differs by rounding that training itself amplifies,
and each framework rounds in its own way: PyTorch's BatchNorm on a CPU adds up a channel value after
value. So where the two are further apart than the plain bars, each trains again from weights moved
by one rounding, with the examples of every batch in another order, which leaves the mathematics
alone and rounds every sum anew. The two frameworks may differ by no more than `NOISE_MULTIPLE`
times what such a second run differs by from the first of its framework, or the plain bar where that
is more. Where a second run has left the first (`CHAOS`), nothing is compared any more.

Adam's first step, lr g / (|g| + eps), multiplies the rounding of a gradient near zero by up to
lr / eps, so that one second run may say too little by chance: a difference beyond its tolerance is
judged again by further second runs, up to `SECOND_RUNS` of each framework.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from parity.ladder.result import Comparison, Result, StepError, result
from parity.ladder.rounding import moved, moved_tree
from parity.ladder.tolerance import NOISE_MULTIPLE, relative_error
from parity.pairs.pair import Batch, Case, Pair, Tensors, precision

STEPS = 60
PARAMETERS_BAR, STATISTICS_BAR = 1e-10, 1e-11
CHAOS = 1e-4
SECOND_RUNS = 4
EVERY = 5
"""Steps between comparisons of a model of more than `SMALL` parameters; each step of a smaller."""
SMALL = 100_000


class Run(NamedTuple):
    """One training in one framework: a step on a batch gives its loss, a look the state_dict."""

    step: Callable[[Batch], float]
    look: Callable[[], Tensors]
    logits: Callable[[Batch], np.ndarray]


class Point(NamedTuple):
    """The differences after a step, each relative.

    Parameters and statistics between the frameworks, and the most by which a second run of either
    has differed from its first; 0 where there was none.
    """

    step: int
    parameters: float
    statistics: float
    own_parameters: float
    own_statistics: float
    worst: str


def run(
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    *,
    device: str = "cpu",
    steps: int = STEPS,
    jit: bool = True,
    narrow: bool = True,
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
    """
    wide = Case(pair, "float64", device, jit)
    with precision("float64"):
        stepper = wide.stepper()
    found = _side_by_side(wide, state, batches, stepper, steps, seed=None)
    if not all(each.passed for each in _judged(found)):
        found = _side_by_side(wide, state, batches, stepper, steps, seed=1)
    for seed in range(2, SECOND_RUNS + 1):
        if all(each.passed for each in _judged(found)) or not found.points[-1].parameters < CHAOS:
            break
        found = _widened(found, _side_by_side(wide, state, batches, stepper, steps, seed))
    in_float32 = _narrow(pair, state, batches, device, jit, found.points, narrow)
    series = _series(found.points, found.losses, in_float32)
    for each in _judged(found, series):
        rung = "eval_after_training" if each is found.evaluated else "trajectory"
        yield result(pair.name, rung, "float64", each)


class Trained(NamedTuple):
    """Training in both frameworks.

    Where they were compared, the losses of every step, and the trained models' outputs, unless
    PyTorch's training came to numbers that are none.
    """

    points: list[Point]
    losses: list[tuple[float, float]]
    evaluated: Comparison | None


def _side_by_side(
    case: Case, state: Tensors, batches: Sequence[Batch], stepper: Any, steps: int, seed: int | None
) -> Trained:
    """`seed` is of the second runs; None is without them, and ends beyond the plain bars."""
    ours, theirs = jax_run(case, state, stepper), torch_run(case, state)
    again: list[tuple[Run, Run]] = []
    if seed is not None:
        again.append((jax_run(case, state, stepper, seed), ours))
        again.append((torch_run(case, state, seed), theirs))
    reorder = _same_in_any_order(case, state, batches[0])
    points, losses, diverged = [], [], False
    for step in range(1, steps + 1):
        batch = batches[(step - 1) % len(batches)]
        losses.append((ours.step(batch), theirs.step(batch)))
        for second, _ in again:
            second.step(_reordered(batch, (step, seed or 0)) if reorder else batch)
        if step <= 2 or step == steps or step % _every(case.pair) == 0:
            mine, reference = ours.look(), theirs.look()
            diverged = not all(np.isfinite(value).all() for value in reference.values())
            if points and diverged:  # PyTorch's own training has no numbers any more
                break
            seconds = [(run.look(), mine if first is ours else reference) for run, first in again]
            points.append(_compare(case.pair, step, mine, reference, seconds))
            point = points[-1]
            if seed is None and not _within_the_bars(point):
                return Trained(points, losses, None)
            if not max(point.own_parameters, point.own_statistics) < CHAOS:
                break
            if not point.parameters < 1:  # nothing more to learn
                break
    evaluated = None
    if not diverged:
        evaluated = _evaluated(ours, theirs, again, batches, points[-1].step)
    return Trained(points, losses, evaluated)


def _within_the_bars(point: Point) -> bool:
    """Without statistics theirs is met."""
    return point.parameters <= PARAMETERS_BAR and not point.statistics > STATISTICS_BAR


def _widened(found: Trained, again: Trained) -> Trained:
    """`found`, judged by the second runs of both; up to where either was compared."""
    points = [
        point._replace(
            own_parameters=max(point.own_parameters, other.own_parameters),
            own_statistics=max(point.own_statistics, other.own_statistics),
        )
        for point, other in zip(found.points, again.points, strict=False)
    ]
    evaluated = found.evaluated
    if evaluated and again.evaluated and again.evaluated.tolerance > evaluated.tolerance:
        evaluated = again.evaluated
    return Trained(points, found.losses, evaluated)


def _judged(found: Trained, series: tuple[StepError, ...] = ()) -> list[Comparison]:
    """The parameters, the statistics if there are any, and the outputs."""
    judged = [_judge(found.points, "parameters", series)]
    if not all(math.isnan(point.statistics) for point in found.points):
        judged.append(_judge(found.points, "statistics", ()))
    return judged if found.evaluated is None else [*judged, found.evaluated]


def jax_run(case: Case, state: Tensors, stepper: Any, seed: int | None = None) -> Run:
    """The pair's `Case.stepper` in JAX; with a `seed`, from weights moved by one rounding."""
    leaf_map = case.pair.leaf_map
    start, step, variables_of = stepper
    with precision(case.dtype):
        variables = case.variables(state)
        if seed is not None:
            variables = moved_tree(variables, seed)
        held = [start(variables)]
        forward = case.compiled(lambda variables, inputs: case.apply(variables, inputs, False)[0])

    def advance(batch: Batch) -> float:
        with precision(case.dtype):
            held[0], loss = step(held[0], batch.images, batch.labels)
        return float(loss)

    def look() -> Tensors:
        return leaf_map.to_torch(jax.tree.leaves(variables_of(held[0])))

    def logits(batch: Batch) -> np.ndarray:
        with precision(case.dtype):
            return np.asarray(forward(variables_of(held[0]), batch.images))

    return Run(advance, look, logits)


def torch_run(case: Case, state: Tensors, seed: int | None = None) -> Run:
    """The notebook's training step; with a `seed`, from weights moved by one rounding."""
    module = case.torch_model(state)
    if seed is not None:
        for value in module.state_dict().values():
            if value.is_floating_point():
                again = moved(value.cpu().numpy(), np.random.default_rng(seed))
                value.copy_(torch.from_numpy(again))
    optimizer = case.pair.optimizer.torch(module.parameters())

    def advance(batch: Batch) -> float:
        module.train()
        inputs, labels = case.torch_batch(batch)
        optimizer.zero_grad()
        loss = case.pair.loss.torch(module(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def look() -> Tensors:
        return {name: value.cpu().numpy() for name, value in module.state_dict().items()}

    def logits(batch: Batch) -> np.ndarray:
        with torch.no_grad():
            return module.eval()(case.torch_batch(batch)[0]).cpu().numpy()

    return Run(advance, look, logits)


def _reordered(batch: Batch, seed: tuple[int, ...]) -> Batch:
    order = np.random.default_rng(seed).permutation(len(batch.images))
    return Batch(batch.images[order], batch.labels[order])


def _same_in_any_order(case: Case, state: Tensors, batch: Batch) -> bool:
    """Whether PyTorch's loss is a mean of the examples', and not one of their order."""
    module = case.torch_model(state)
    losses = []
    for given in (batch, _reordered(batch, (0,))):
        inputs, labels = case.torch_batch(given)
        with torch.no_grad():
            losses.append(case.pair.loss.torch(module(inputs), labels).item())
    return abs(losses[0] - losses[1]) <= CHAOS * abs(losses[0])


def _every(pair: Pair) -> int:
    size = sum(math.prod(shape) for shape in pair.parameters.values())
    return 1 if size <= SMALL else EVERY


def _compare(
    pair: Pair,
    step: int,
    ours: Tensors,
    theirs: Tensors,
    seconds: Sequence[tuple[Tensors, Tensors]],
) -> Point:
    """`seconds` pairs each second run with the first of its framework."""
    errors = {name: relative_error(ours[name], theirs[name]) for name in ours}
    own = {
        name: max(
            (relative_error(second[name], first[name]) for second, first in seconds), default=0.0
        )
        for name in ours
    }
    parameters = [name for name in ours if name in pair.parameters]
    others = [name for name in ours if name not in pair.parameters]

    def largest(of: dict[str, float], names: list[str]) -> float:
        return max((of[name] for name in names), default=math.nan)

    return Point(
        step,
        largest(errors, parameters),
        largest(errors, others),
        largest(own, parameters),
        largest(own, others),
        max(errors, key=errors.__getitem__),
    )


def _judge(points: list[Point], kind: str, series: tuple[StepError, ...]) -> Comparison:
    """The point that is furthest beyond its tolerance, or nearest to it."""
    bar = PARAMETERS_BAR if kind == "parameters" else STATISTICS_BAR
    own_so_far, judged = 0.0, []
    for point in points:
        own, measured = getattr(point, f"own_{kind}"), getattr(point, kind)
        if own < CHAOS:
            own_so_far = max(own_so_far, own)
            tolerance = max(bar, NOISE_MULTIPLE * own_so_far)
            judged.append((measured / tolerance, point, own))
        elif not judged or not math.isfinite(own):  # nothing was compared, or JAX has no numbers
            judged.append((math.inf, point, own))
    ratio, point, own = max(judged, key=lambda item: item[0])
    measured = getattr(point, kind)
    compared = judged[-1][1].step
    detail = f"largest against its tolerance at step {point.step} of {compared}, in {point.worst}"
    if own:
        detail += (
            f"; a second run, rounded otherwise, differs from its framework's first by {own:.1e} "
            "there"
        )
    tolerance = measured / ratio if 0 < ratio < math.inf else bar
    unit = f"relative difference of {kind} in training"
    return Comparison(ratio <= 1, measured, tolerance, unit, detail, steps=series)


def _evaluated(
    ours: Run,
    theirs: Run,
    seconds: Sequence[tuple[Run, Run]],
    batches: Sequence[Batch],
    step: int,
) -> Comparison:
    """Outputs in eval mode on every batch, and the classes they give."""

    def outputs(run: Run) -> np.ndarray:
        return np.concatenate([run.logits(batch) for batch in batches])

    first, second = outputs(ours), outputs(theirs)
    measured = relative_error(first, second)
    own = max(
        (relative_error(outputs(run), first if of is ours else second) for run, of in seconds),
        default=0.0,
    )
    tolerance = max(PARAMETERS_BAR, NOISE_MULTIPLE * own)
    detail = f"{len(first)} examples after {step} steps"
    if own:
        detail += f"; a second run differs by up to {own:.1e}"
    passed = measured <= tolerance < math.inf
    if first.ndim == 2 and first.shape == second.shape and np.isfinite(first).all():
        top = np.sort(second, axis=1)
        clear = top[:, -1] - top[:, -2] > 2 * tolerance * np.abs(second).max()
        same = first.argmax(1) == second.argmax(1)
        passed = passed and bool(same[clear].all())
        detail += f"; the same class for {int(same.sum())} of {len(same)}"
    unit = "relative difference of outputs in eval mode"
    return Comparison(passed, measured, tolerance, unit, detail)


def _narrow(
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    device: str,
    jit: bool,
    points: list[Point],
    wanted: bool,
) -> dict[int, float]:
    """By step, the parameters' relative difference in float32."""
    if not wanted:
        return {}
    case, found = Case(pair, "float32", device, jit), {}
    with precision(case.dtype):
        stepper = case.stepper()
    ours, theirs = jax_run(case, state, stepper), torch_run(case, state)
    steps = {point.step for point in points}
    for step in range(1, max(steps) + 1):
        batch = batches[(step - 1) % len(batches)]
        ours.step(batch)
        theirs.step(batch)
        if step in steps:
            first, second = ours.look(), theirs.look()
            found[step] = max(relative_error(first[n], second[n]) for n in pair.parameters)
    return found


def _series(
    points: list[Point], losses: list[tuple[float, float]], narrow: dict[int, float]
) -> tuple[StepError, ...]:
    return tuple(
        StepError(point.step, point.parameters, narrow.get(point.step), *losses[point.step - 1])
        for point in points
    )
