"""What several trainings say together: means with intervals, and whether two are the same."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

Values = Sequence[float] | np.ndarray
CONFIDENCE = 0.95
ALPHA = 0.05
"""Of each of the two one-sided tests, as Schuirmann has it."""


@dataclasses.dataclass(frozen=True)
class Mean:
    """Of independent numbers.

    Args:
        n: how many.
        mean: of them.
        deviation: of one, NaN of a single one.
        low: the end of the interval of 95 % by Student's t, NaN of a single one.
        high: its other end.
    """

    n: int
    mean: float
    deviation: float
    low: float
    high: float


def mean_of(values: Values) -> Mean:
    """The mean of one or more numbers, and where it lies (Student 1908)."""
    found = np.asarray(values, np.float64)
    n, mean = len(found), float(found.mean())
    if n == 1:
        return Mean(1, mean, math.nan, math.nan, math.nan)
    deviation = float(found.std(ddof=1))
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return Mean(n, mean, deviation, mean - reach, mean + reach)


@dataclasses.dataclass(frozen=True)
class Equality:
    """Whether the differences of pairs have a mean of zero, but for a margin.

    Args:
        n: pairs.
        mean: of the differences.
        deviation: of one.
        margin: differences that are smaller do not count.
        low: the end of the interval of 90 %, which within the margin proves equality at 5 %.
        high: its other end.
        p: the larger of the two one-sided tests' p-values.
    """

    n: int
    mean: float
    deviation: float
    margin: float
    low: float
    high: float
    p: float

    @property
    def equal(self) -> bool:
        """Whether it is proved."""
        return self.p <= ALPHA

    @property
    def needed(self) -> int:
        """Pairs that prove it with a probability of 0.9, if the true mean is zero."""
        return needed(self.deviation, self.margin)


def equality(differences: Values, margin: float) -> Equality:
    """The paired two one-sided tests (Schuirmann 1987, https://doi.org/10.1007/BF01068419).

    Args:
        differences: of two or more pairs.
        margin: above zero, in the same unit.
    """
    found = np.asarray(differences, np.float64)
    n, mean, deviation = len(found), float(found.mean()), float(found.std(ddof=1))
    error = deviation / math.sqrt(n)
    reach = float(scipy.stats.t.ppf(1 - ALPHA, n - 1)) * error
    if error:
        t = scipy.stats.t
        p = max(float(t.sf((margin + x) / error, n - 1)) for x in (mean, -mean))
    else:
        p = 0.0 if abs(mean) < margin else 1.0
    return Equality(n, mean, deviation, margin, mean - reach, mean + reach, p)


def needed(deviation: float, margin: float, power: float = 0.9, most: int = 10_000) -> int:
    """Pairs that prove equality with a probability of `power` if the true mean is zero.

    By the normal approximation of the power, 2 P(t < margin / error - t(1 - alpha)) - 1, with
    Student's distribution in place of the normal one; `most` where that is not enough.
    """
    for n in range(2, most):
        error = deviation / math.sqrt(n)
        if not error:
            return n
        critical = scipy.stats.t.ppf(1 - ALPHA, n - 1)
        if 2 * scipy.stats.t.cdf(margin / error - critical, n - 1) - 1 >= power:
            return n
    return most


def prediction_p(value: float, sample: Values) -> float:
    """P-value that a single value is of the distribution of a sample, if that is normal.

    Two-sided, by the prediction interval: (value - mean) / (deviation sqrt(1 + 1/n)) has Student's
    distribution of n - 1 degrees.
    """
    told = mean_of(sample)
    error = told.deviation * math.sqrt(1 + 1 / told.n)
    if not error:
        return 1.0 if value == told.mean else 0.0
    return 2 * float(scipy.stats.t.sf(abs(value - told.mean) / error, told.n - 1))
