"""What the samples mean: medians, and bootstrap intervals around them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 0


class Estimate(NamedTuple):
    """A median, and the interval that holds it with 95 % confidence."""

    median: float
    low: float
    high: float

    @property
    def told(self) -> str:
        """As a person reads it, and no number above 0 as 0."""
        return f"{figures(self.median)} ({figures(self.low)} to {figures(self.high)})"


def figures(value: float) -> str:
    """With two decimals, or two digits where these are none."""
    return f"{value:.2f}" if value >= 0.095 or not value else f"{value:.2g}"


def estimate(samples: Sequence[float]) -> Estimate:
    """The median of samples [n], n >= 1, with a percentile bootstrap interval.

    The resampling is seeded: the same samples give the same interval.
    """
    values = np.asarray(samples, np.float64)
    drawn = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    medians = np.median(values[drawn], axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Estimate(float(np.median(values)), float(low), float(high))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The median of ours / theirs, each of one round, with its interval.

    What slows the machine down for a while slows both of a round.
    """
    return estimate([a / b for a, b in zip(ours, theirs, strict=True)])


def quotient(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The median of ours over that of theirs, which need not be of the same rounds.

    The interval is of a bootstrap that resamples both.
    """
    rng = np.random.default_rng(SEED)

    def medians(samples: Sequence[float]) -> np.ndarray:
        values = np.asarray(samples, np.float64)
        return np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)

    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians(ours) / medians(theirs), [tail, 100 - tail])
    return Estimate(float(np.median(ours) / np.median(theirs)), float(low), float(high))
