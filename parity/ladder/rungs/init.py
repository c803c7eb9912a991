"""The distribution of every parameter's initial values, in JAX against PyTorch.

Each side draws from seeds of its own. A parameter that is constant in PyTorch must be the same
constant; of the others the two samples' means, variances, distributions (two-sample Kolmogorov and
Smirnov) and, where PyTorch's is uniform, bounds are tested. A correct pair fails with probability
1e-6, over all tests of the rung.
"""

import math
from typing import Any

import jax
import numpy as np
import scipy.stats
import torch

from parity.ladder.result import Comparison, Result, result
from parity.pairs.pair import Pair, Tensors

FALSE_ALARM = 1e-6
VALUES, SEEDS, LARGEST = 4000, 8, 20_000
"""Values wanted of each parameter, the seeds that may be drawn for them, and the most tested."""


def run(pair: Pair, seed: int = 0) -> Result | None:
    """The rung's result; None for a pair that has no `init`."""
    if pair.init is None:
        return None
    ours, theirs = samples(pair, seed)
    return result(pair.name, "init", "float32", compare(ours, theirs))


def samples(pair: Pair, seed: int) -> tuple[Tensors, Tensors]:
    """Initial values of every parameter, [n], of JAX and of PyTorch, from different seeds."""
    assert pair.init is not None
    smallest = min(math.prod(shape) for shape in pair.parameters.values())
    seeds = min(SEEDS, -(-VALUES // smallest))
    ours, theirs = [], []
    for number in range(seeds):
        torch.manual_seed(2 * (seed + number))
        named = pair.make_torch().named_parameters()
        theirs.append({name: value.detach().numpy() for name, value in named})
        leaves = jax.tree.leaves(pair.init(2 * (seed + number) + 1))
        found = pair.leaf_map.to_torch(leaves)
        ours.append({name: found[name] for name in theirs[-1] if name in found})
    return _joined(ours), _joined(theirs)


def _joined(draws: list[Tensors]) -> Tensors:
    return {
        name: np.concatenate([draw[name].ravel()[: LARGEST // len(draws)] for draw in draws])
        for name in draws[0]
    }


def compare(ours: Tensors, theirs: Tensors) -> Comparison:
    """Passes when no test of any parameter is too unlikely."""
    least: dict[str, tuple[float, str]] = {}
    for name in ours:
        tests = parameter_tests(ours[name], theirs[name])
        kind = min(tests, key=tests.__getitem__)
        least[name] = tests[kind], kind
    worst = min(least, key=lambda name: least[name][0])
    p, kind = least[worst]
    tests = 4 * len(least)
    measured = -math.log10(max(p, 1e-300))
    tolerance = -math.log10(FALSE_ALARM / tests)
    return Comparison(
        measured <= tolerance,
        measured,
        tolerance,
        "-log10 of the least p-value",
        f"most unlikely of {len(least)} parameters: the {kind} of {worst}, "
        f"{told(ours[worst])} in JAX and {told(theirs[worst])} in PyTorch",
    )


def told(values: np.ndarray) -> str:
    """Mean, standard deviation and largest magnitude in words."""
    return f"{values.mean():.2e} +- {values.std():.2e} (largest {np.abs(values).max():.2e})"


def parameter_tests(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """p-values by name; 0 where a constant is wrong or a bound broken."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if not np.isfinite(ours).all():
        return {"values": 0.0}
    if not np.ptp(theirs):
        same = not np.ptp(ours) and ours[0] == theirs[0]
        return {"constant": float(same)}
    if not np.ptp(ours):
        return {"constant": 0.0}
    n = len(theirs)
    spread = theirs.std()
    fourth = float(((theirs - theirs.mean()) ** 4).mean() / spread**4)
    z_mean = (ours.mean() - theirs.mean()) / (spread * math.sqrt(2 / n))
    z_variance = (ours.var() / theirs.var() - 1) / math.sqrt(2 * max(fourth - 1, 0.1) / n)
    tests = {
        "mean": 2 * float(scipy.stats.norm.sf(abs(z_mean))),
        "variance": 2 * float(scipy.stats.norm.sf(abs(z_variance))) if n > 100 else 1.0,
        "distribution": same_distribution(ours, theirs),
    }
    if fourth < 2 and n > 100:  # uniform: the largest of n values is 1 / n short of the bound
        bounds = np.abs(ours).max(), np.abs(theirs).max()
        tests["bound"] = float(max(bounds) <= min(bounds) * (1 + 30 / n))
    return tests


def same_distribution(first: np.ndarray, second: np.ndarray) -> float:
    """The p-value of the two-sample Kolmogorov-Smirnov test."""
    found: Any = scipy.stats.ks_2samp(first, second, method="asymp")
    return float(found.pvalue)
