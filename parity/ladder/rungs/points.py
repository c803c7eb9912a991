"""How far two trainings are apart after a step, and how far they may be."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from parity.ladder.result import Comparison, StepError
from parity.ladder.rungs.runs import PARAMETERS_BAR, Idle, only, own_noise, without
from parity.ladder.tolerance import DIFFERENCE_MULTIPLE, relative_error
from parity.pairs.leafmap import COPY
from parity.pairs.pair import Pair, Tensors

STATISTICS_BAR = 1e-11
CHAOS = 1e-4
UNIT = "relative difference of parameters in training"
ROUNDED = f"{UNIT} that rounding alone moves"


class Point(NamedTuple):
    """The differences after a step, each relative.

    Parameters and statistics between the frameworks, and the most by which a second run of either
    has differed from its first; 0 where there was none; of each the tensor that is furthest off.
    `rounded` is what rounding alone moves.
    """

    step: int
    parameters: float
    statistics: float
    own_parameters: float
    own_statistics: float
    worst_parameters: str
    worst_statistics: str
    rounded: float = math.nan
    own_rounded: float = 0.0
    worst_rounded: str = ""


def compare(
    pair: Pair, step: int, ours: Tensors, theirs: Tensors, seconds: Sequence[Tensors], idle: Idle
) -> Point:
    """`seconds` are JAX's and PyTorch's second runs, or none."""
    point = _compare_moved(
        pair,
        step,
        without(idle, ours),
        without(idle, theirs),
        [without(idle, second) for second in seconds],
    )
    scales = {name: float(np.abs(theirs[name]).max()) for name in idle}

    def apart(one: Tensors, other: Tensors) -> dict[str, float]:
        twins = only(idle, other)
        found = {}
        for name, value in only(idle, one).items():
            base = name.partition(COPY)[0]
            found[name] = relative_error(value, twins.get(name, twins[base]), scales[base])
        return found

    errors = apart(ours, theirs)
    if not errors:
        return point
    own = [*apart(seconds[0], ours).values(), *apart(seconds[1], theirs).values()]
    worst = max(errors, key=errors.__getitem__)
    return point._replace(rounded=errors[worst], own_rounded=max(own), worst_rounded=worst)


def _compare_moved(
    pair: Pair, step: int, ours: Tensors, theirs: Tensors, seconds: Sequence[Tensors]
) -> Point:
    twins = {name: theirs[base] for name in ours if (base := name.partition(COPY)[0]) in theirs}
    errors = {name: relative_error(ours[name], twins[name]) for name in twins}
    own = dict.fromkeys(twins, 0.0)
    if seconds:
        own = {
            name: own_noise(
                relative_error(seconds[0][name], ours[name]),
                relative_error(seconds[1][name.partition(COPY)[0]], twins[name]),
            )
            for name in twins
        }
    parameters = [name for name in twins if name.partition(COPY)[0] in pair.parameters]
    others = [name for name in twins if name not in parameters]

    def largest(of: dict[str, float], names: list[str]) -> float:
        return max((of[name] for name in names), default=math.nan)

    return Point(
        step,
        largest(errors, parameters),
        largest(errors, others),
        largest(own, parameters),
        largest(own, others),
        max(parameters, key=errors.__getitem__, default="nothing"),
        max(others, key=errors.__getitem__, default="nothing"),
    )


def judge(
    points: list[Point],
    kind: str,
    steps: int,
    series: tuple[StepError, ...],
    multiple: float,
    eps: float,
) -> Comparison:
    """The point that is furthest beyond its tolerance, or nearest to it.

    Each step rounds a weight by up to eps / 2, in either framework its own way, and where the step
    multiplies by a rounded 1 - lr decay the same way each time, of which second runs say nothing.
    """
    bar = PARAMETERS_BAR if kind == "parameters" else STATISTICS_BAR
    own_so_far, judged = 0.0, []
    for point in points:
        own, measured = getattr(point, f"own_{kind}"), getattr(point, kind)
        if own < CHAOS:
            own_so_far = max(own_so_far, own)
            tolerance = max(bar, multiple * own_so_far, point.step * eps)
            judged.append((measured / tolerance, point, own))
        elif not judged or not math.isfinite(own):  # nothing was compared, or JAX has no numbers
            judged.append((math.inf, point, own))
    ratio, point, own = max(judged, key=lambda item: item[0])
    measured = getattr(point, kind)
    compared = judged[-1][1].step
    detail = f"largest against its tolerance at step {point.step} of {compared}"
    detail += f", in {getattr(point, f'worst_{kind}')}"
    if own:
        detail += (
            f"; a second run, rounded otherwise, differs from its framework's first by {own:.1e} "
            "there"
        )
    tolerance = measured / ratio if 0 < ratio < math.inf else bar
    unit = f"relative difference of {kind} in training"
    remarks = ()
    if compared < steps and ratio <= 1:
        remarks = (f"compared for {compared} of {steps} steps: chaotic after",)
    return Comparison(ratio <= 1, measured, tolerance, unit, detail, steps=series, remarks=remarks)


def judge_rounded(points: list[Point]) -> Comparison:
    """The same of what rounding alone moves, as far as that does not take it anywhere."""
    own_so_far, judged = 0.0, []
    for point in points:
        own_so_far = max(own_so_far, point.own_rounded)
        if not own_so_far < 1 and judged:
            break
        tolerance = max(PARAMETERS_BAR, DIFFERENCE_MULTIPLE * own_so_far)
        judged.append((point.rounded / tolerance, tolerance, point))
    ratio, tolerance, point = max(judged, key=lambda item: item[0])
    detail = (
        f"largest against its tolerance at step {point.step}, in {point.worst_rounded}, whose "
        f"gradient is zero but for rounding; second runs differ by up to {point.own_rounded:.1e}"
    )
    return Comparison(ratio <= 1, point.rounded, tolerance, ROUNDED, detail)
