"""Whether two samples are of one distribution, whatever that is.

A sample is an array [draws, n]: n numbers of each of several independent draws, which within a draw
may depend on one another, as an orthogonal matrix's do. All tests are of ranks, so their p-values
need no distribution; `dependence` says by how much a draw's own dependence spreads them.
"""

import math

import numpy as np
import scipy.stats

DRAWS = 4
"""From so many draws their dependence is estimated."""

EXTREMES = 64
"""Of the largest magnitudes of both samples together, those whose sides are counted."""


def tests(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """The p-values of equal mean, deviation, distribution and largest values."""
    spread = dependence(theirs)
    first, second = ours.ravel(), theirs.ravel()
    middle = np.median(np.concatenate([first, second]))
    far = np.abs(first - middle), np.abs(second - middle)
    return {
        "mean": ranked(first, second, spread),
        "deviation": ranked(*far, spread),
        "distribution": distribution(ours, theirs),
        "largest values": extremes(*far, spread),
    }


def distribution(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Kolmogorov's and Smirnov's test, by Wei and Dudley's bound, which holds for any size."""
    return smirnov(ours.ravel(), theirs.ravel()) ** (1 / dependence(theirs))


def smirnov(first: np.ndarray, second: np.ndarray) -> float:
    """The same of two samples [n] of independent numbers."""
    points = np.concatenate([first, second])
    points.sort()
    shares = [
        np.searchsorted(np.sort(sample), points, side="right") / len(sample)
        for sample in (first, second)
    ]
    distance = np.abs(shares[0] - shares[1]).max()
    size = len(first) * len(second) / len(points)
    return min(1.0, 2.17 * math.exp(-2 * size * distance**2))


def ranked(first: np.ndarray, second: np.ndarray, spread: float = 1.0) -> float:
    """Mann's and Whitney's test of two samples [n]."""
    n, m = len(first), len(second)
    ranks = scipy.stats.rankdata(np.concatenate([first, second]))
    variance = n * m / (n + m) * ranks.var(ddof=1)
    if not variance:
        return 1.0
    z = (ranks[:n].sum() - n * ranks.mean()) / math.sqrt(spread * variance)
    return 2 * float(scipy.stats.norm.sf(abs(z)))


def extremes(first: np.ndarray, second: np.ndarray, spread: float = 1.0) -> float:
    """How unlikely it is that the largest of both are of one side so often."""
    n, m = len(first), len(second)
    count = min(EXTREMES, n, m)
    both = np.concatenate([first, second])
    order = np.argsort(-both, kind="stable")
    least = both[order[count - 1]]
    if (both == least).sum() > 1:  # ties: only what is above them
        order = order[: int((both > least).sum())]
    count = min(count, len(order))
    held = int((order[:count] < n).sum())
    law = scipy.stats.hypergeom(n + m, n, count)
    p = min(1.0, 2 * float(min(law.cdf(held), law.sf(held - 1))))
    return p ** (1 / spread)


def dependence(sample: np.ndarray) -> float:
    """How many numbers count as one: the variance between draws over that of independent ones.

    The largest such ratio of the shares of a draw below nine quantiles; 1 at least.
    """
    draws, n = sample.shape
    if draws < DRAWS or n < 2:
        return 1.0
    ratios = [1.0]
    for level in np.quantile(sample, np.arange(1, 10) / 10):
        shares = (sample <= level).mean(1)
        share = shares.mean()
        if 0 < share < 1:
            ratios.append(shares.var(ddof=1) * n / (share * (1 - share)))
    return float(max(ratios))
