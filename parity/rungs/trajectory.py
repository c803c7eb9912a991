"""Both frameworks train side by side in float64, and the trained models are then compared.

An exact implementation of the same training differs by rounding that training itself amplifies:
JAX trains a second time from weights moved by one rounding, and the two frameworks may differ by
no more than `NOISE_MULTIPLE` times what that second run differs by, or the plain bar where that is
less. Where the second run has left the first (`CHAOS`), nothing is compared any more.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.pair import Batch, Case, Pair, Tensors, precision
from parity.result import Comparison, Result, StepError, result
from parity.tolerance import NOISE_MULTIPLE, relative_error

STEPS = 60
PARAMETERS_BAR, STATISTICS_BAR = 1e-10, 1e-11
CHAOS = 1e-4
EVERY = 5
"""Steps between comparisons of a model of more than `SMALL` parameters; each step of a smaller."""
SMALL = 100_000


class Run(NamedTuple):
    """One training in one framework: a step on a batch gives its loss, a look the state_dict."""

    step: Callable[[Batch], float]
    look: Callable[[], Tensors]
    logits: Callable[[Batch], np.ndarray]


class Point(NamedTuple):
    """After a step, each relative: parameters and statistics between the frameworks, and the same
    between JAX and JAX from weights moved by one rounding."""

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
      state: float32 initial weights, a state_dict.
      batches: trained on in turn; the last one may be smaller.
      narrow: also train in float32, for the report: no tolerance is set on that.
    """
    wide = Case(pair, "float64", device, jit)
    with precision("float64"):
        stepper = wide.stepper()
    ours, theirs = jax_run(wide, state, stepper), torch_run(wide, state)
    replica = jax_run(wide, state, stepper, seed=1)
    points, losses, diverged = [], [], False
    for step in range(1, steps + 1):
        batch = batches[(step - 1) % len(batches)]
        losses.append((ours.step(batch), theirs.step(batch)))
        replica.step(batch)
        if step <= 2 or step == steps or step % _every(pair) == 0:
            reference = theirs.look()
            diverged = not all(np.isfinite(value).all() for value in reference.values())
            if points and diverged:  # PyTorch's own training has no numbers any more
                break
            points.append(_compare(pair, step, ours.look(), reference, replica.look()))
            point = points[-1]
            if not max(point.own_parameters, point.own_statistics) < CHAOS:
                break
            if not point.parameters < 1:  # nothing more to learn
                break
    series = _series(points, losses, _narrow(pair, state, batches, device, jit, points, narrow))
    yield result(pair.name, "trajectory", "float64", _judge(points, "parameters", series))
    if not all(math.isnan(point.statistics) for point in points):
        yield result(pair.name, "trajectory", "float64", _judge(points, "statistics", ()))
    if not diverged:
        evaluated = _evaluated(ours, theirs, replica, batches, points[-1].step)
        yield result(pair.name, "eval_after_training", "float64", evaluated)


def jax_run(case: Case, state: Tensors, stepper: Any, seed: int | None = None) -> Run:
    """The pair's `Case.stepper` in JAX; with a `seed`, from weights moved by one rounding."""
    leaf_map = case.pair.leaf_map
    start, step, variables_of = stepper
    with precision(case.dtype):
        variables = case.variables(state)
        if seed is not None:
            variables = _moved(variables, seed)
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


def torch_run(case: Case, state: Tensors) -> Run:
    """The notebook's training step."""
    module = case.torch_model(state)
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


def _moved(variables: Any, seed: int) -> Any:
    """Every float moved by at most one rounding."""
    rng = np.random.default_rng(seed)

    def move(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        eps = float(jnp.finfo(leaf.dtype).eps)
        return jnp.asarray(
            np.asarray(leaf) * (1 + eps * rng.uniform(-1, 1, leaf.shape)), leaf.dtype
        )

    return jax.tree.map(move, variables)


def _every(pair: Pair) -> int:
    size = sum(math.prod(shape) for shape in pair.parameters.values())
    return 1 if size <= SMALL else EVERY


def _compare(pair: Pair, step: int, ours: Tensors, theirs: Tensors, replica: Tensors) -> Point:
    errors = {name: relative_error(ours[name], theirs[name]) for name in ours}
    own = {name: relative_error(replica[name], ours[name]) for name in ours}
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
    detail = (
        f"largest against its tolerance at step {point.step} of {compared}, in {point.worst}; "
        f"a second run of JAX from weights moved by one rounding differs by {own:.1e} there"
    )
    tolerance = measured / ratio if 0 < ratio < math.inf else bar
    unit = f"relative difference of {kind} in training"
    return Comparison(ratio <= 1, measured, tolerance, unit, detail, steps=series)


def _evaluated(ours: Run, theirs: Run, replica: Run, batches: Sequence[Batch], step: int):
    """Outputs in eval mode on every batch, and the classes they give."""
    first, second, third = (
        np.concatenate([run.logits(batch) for batch in batches]) for run in (ours, theirs, replica)
    )
    measured, own = relative_error(first, second), relative_error(third, first)
    tolerance = max(PARAMETERS_BAR, NOISE_MULTIPLE * own)
    detail = f"{len(first)} examples after {step} steps; a second run of JAX differs by {own:.1e}"
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
