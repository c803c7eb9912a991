"""The distribution of every parameter's initial values, in JAX against PyTorch.

Each side draws from seeds of its own. What PyTorch does not draw must be equal number by number. Of
what it draws the two samples' means, deviations, distributions and largest values are compared, and
for matrices, kernels as (out, rest), the angles between rows and between columns and their norms:
an orthogonal matrix's are others than a normal one's. Two seeds must not give the same values, nor
two tensors of one seed. A correct pair fails with probability 1e-6 at most, over all tests.
"""

import math

import numpy as np

from parity.ladder import two_samples
from parity.ladder.draws import Drawn, Draws, draw
from parity.ladder.result import Comparison, Result, result
from parity.pairs.pair import Pair

FALSE_ALARM = 1e-6
EQUAL = 1e-5
"""What is not drawn is equal to so much of the tensor's largest value."""
SURE = 15.0
"""-log10 of the chance that two tensors are in one order, of those that are said to be."""


def run(pair: Pair, seed: int = 0) -> Result | None:
    """The rung's result; None for a pair that has no `init`."""
    if pair.init is None:
        return None
    return result(pair.name, "init", "float32", compare(*samples(pair, seed)))


def samples(pair: Pair, seed: int) -> tuple[Draws, Draws]:
    """Initial values of every parameter, of JAX and of PyTorch, from different seeds."""
    return draw(pair, seed)


def compare(ours: Draws, theirs: Draws) -> Comparison:
    """Passes when no test of any parameter is too unlikely."""
    found = {
        name: parameter_tests(drawn, theirs.parameters[name])
        for name, drawn in ours.parameters.items()
    }
    tests = sum(map(len, found.values()))
    worst = min(found, key=lambda name: min(found[name].values()))
    kind = min(found[worst], key=found[worst].__getitem__)
    p = found[worst][kind]
    detail = f"the {kind} of {worst}, {told(ours.parameters[worst])} in JAX"
    detail += f" and {told(theirs.parameters[worst])} in PyTorch"
    for first, second in shared_keys(ours, theirs):
        p, detail = 0.0, f"{second} is drawn with the key of {first}"
        break
    measured = -math.log10(max(p, 1e-300))
    tolerance = limit(tests)
    return Comparison(
        measured <= tolerance,
        measured,
        tolerance,
        "-log10 of the least p-value",
        f"most unlikely of {len(found)} parameters: {detail}",
    )


def limit(tests: int) -> float:
    """-log10 of the p-value that one of so many tests may have."""
    return -math.log10(FALSE_ALARM / max(tests, 1))


def told(drawn: Drawn) -> str:
    """Mean, standard deviation and largest magnitude in words."""
    values = drawn.random if drawn.varies.any() else drawn.first
    return f"{values.mean():.2e} +- {values.std():.2e} (largest {np.abs(values).max():.2e})"


def parameter_tests(ours: Drawn, theirs: Drawn) -> dict[str, float]:
    """p-values by name; 0 where what is not drawn differs, or is drawn."""
    if not np.isfinite(ours.values).all():
        return {"values": 0.0}
    loose = theirs.loose
    if not same_constants(ours, theirs):
        return {"constants": 0.0}
    if not loose.any():
        return {"constants": 1.0}
    if not ours.loose[loose].all():
        return {"seeds": 0.0}
    found = two_samples.tests(ours.random, theirs.random)
    for kind, values in theirs.structure.items():
        found[kind] = two_samples.distribution(ours.structure[kind], values)
    return found


def same_constants(ours: Drawn, theirs: Drawn) -> bool:
    """Whether all that PyTorch does not draw is constant in JAX, and the same."""
    fixed = ~theirs.loose
    if not fixed.any():
        return True
    largest = np.abs(theirs.first[fixed]).max()
    differences = np.abs(ours.first - theirs.first)[fixed]
    return not ours.varies[fixed].any() and bool((differences <= EQUAL * largest).all())


def shared_keys(ours: Draws, theirs: Draws) -> list[tuple[str, str]]:
    """Pairs of tensors of JAX whose numbers are in one order in every draw; PyTorch's are not.

    One key gives every shape the same first numbers, up to the distribution.
    """
    usual = {frozenset(pair) for pair in _in_one_order(theirs.heads)}
    found = _in_one_order({n: v for n, v in ours.heads.items() if n in ours.parameters})
    found = [pair for pair in found if frozenset(pair) not in usual]
    if found or usual:
        return found
    return _in_one_order({n: v for n, v in ours.heads.items() if n not in ours.parameters})


def _in_one_order(heads: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """(first, other) of the tensors whose first numbers are, as far as the shorter one goes."""
    found: dict[str, str] = {}
    drawn = {n: head for n, head in heads.items() if head.shape[1] > 1 and _is_drawn(head)}
    for length in sorted({head.shape[1] for head in drawn.values()}, reverse=True):
        draws = min(len(head) for head in drawn.values())
        if draws * math.lgamma(length + 1) / math.log(10) < SURE:
            continue
        seen: dict[bytes, str] = {}
        for name, head in drawn.items():
            if head.shape[1] < length:
                continue
            order = np.argsort(head[:, :length], axis=1, kind="stable").tobytes()
            first = seen.setdefault(order, name)
            if first != name and name not in found and found.get(first) != name:
                found[name] = first
    return [(first, other) for other, first in found.items()]


def _is_drawn(head: np.ndarray) -> bool:
    """Whether no two numbers of a draw are equal and, where there are several, draws differ."""
    distinct = all(len(np.unique(row)) == len(row) for row in head)
    return distinct and (len(head) == 1 or not (head == head[0]).all(1)[1:].any())
