"""Whole trainings in float64 beside each other, and what rounding alone makes of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from parity.ladder.result import Comparison, nothing
from parity.ladder.rungs.points import CHAOS
from parity.ladder.rungs.runs import PARAMETERS_BAR, own_noise
from parity.ladder.tolerance import NOISE_MULTIPLE

Parts = Mapping[str, np.ndarray]
"""What a training comes to, by names for the reader."""
LOSS = "the loss of batch {}"


def losses_of(losses: np.ndarray) -> Parts:
    """Of each batch, as parts."""
    return {LOSS.format(number): loss for number, loss in enumerate(losses, 1)}


def compare(
    unit: str, ours: Parts, theirs: Parts, again: Sequence[tuple[Parts, Parts]] = ()
) -> Comparison:
    """The largest difference beside its tolerance: the plain bar, or what second trainings say.

    `again` are those of both, from weights moved by one rounding. What such a one has left by
    `CHAOS` is not compared.
    """
    if ours.keys() != theirs.keys():
        return Comparison(False, np.inf, 0.0, unit, "the frameworks made other numbers of steps")
    found, left = [], 0
    so_far = 0.0  # a loss is moved by all that was before it
    for name, value in theirs.items():
        noise = [own_noise(apart(a[name], ours[name]), apart(b[name], value)) for a, b in again]
        own = max(noise, default=0.0)
        if name.startswith(LOSS.format("")):
            own = so_far = max(own, so_far)
        if own > CHAOS:
            left += 1
            continue
        tolerance = max(PARAMETERS_BAR, NOISE_MULTIPLE * own)
        found.append((apart(ours[name], value), tolerance, name))
    if not found:
        return nothing(unit, "chaotic from the first batch on")
    measured, tolerance, worst = max(found, key=lambda each: each[0] / each[1])
    detail = f"largest against its tolerance: {worst}"
    if again:
        detail += "; second trainings of both, rounded otherwise, allow it"
    if left:
        detail += f"; not compared: {left} of {len(theirs)} parts, which are chaotic"
    return Comparison(measured <= tolerance, measured, tolerance, unit, detail)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Relative to the largest value of `other`; infinite where one is no number."""
    scale = float(np.abs(other).max()) or 1.0
    return float(np.nan_to_num(np.abs(one - other).max() / scale, nan=np.inf))
