"""What a converter does with every number of a state_dict, found by sending numbers through it.

Each number is sent as the digits of its place, base 128: small integers, which every floating-point
type down to bfloat16 holds exactly. A leaf that is a factor times moved numbers plus a constant, or
the sum of two such, is recognised; of any other it is only known that it is made otherwise.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parity.pairs.budget import Budget

_BASE = 128
_SECONDS = 20.0
"""For looking into leaves that are made of several entries."""
_EXACT = 2e-2
"""How near a number in bfloat16 is to its exact value, of 1, after scaling by a factor."""

_OTHERWISE = "makes it of several entries, or changes its numbers"

Entries = dict[str, np.ndarray]


class Term(NamedTuple):
    """`factor` times the numbers at `indices`, int64 of the leaf's shape, of the state_dict."""

    indices: np.ndarray
    factor: np.ndarray


class Found(NamedTuple):
    """A leaf: the sum of its `terms` and `constant`, or made otherwise, which `problem` tells."""

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    constant: np.ndarray
    problem: str | None = None


def probe(
    convert: Callable[[Entries], list[Any]],
    state: Mapping[str, np.ndarray],
    offsets: Mapping[str, int],
    parameters: frozenset[str],
) -> tuple[list[Found], list[tuple[bool, bool]]]:
    """What every leaf holds, and whether it depends on (parameters, other entries)."""
    total = sum(value.size for value in state.values())
    digits = max(1, math.ceil(math.log(total + 1, _BASE)))

    def send(number: Callable[[str], np.ndarray | float]) -> list[np.ndarray]:
        entries = {
            name: np.broadcast_to(np.asarray(number(name)), value.shape).astype(value.dtype)
            for name, value in state.items()
        }
        # Zeros and whole numbers are no weights: a division by their norm is none of the user's.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [numbers(leaf) for leaf in convert(entries)]

    def places(name: str) -> np.ndarray:
        value = state[name]
        return np.arange(1, value.size + 1).reshape(value.shape) + offsets[name]

    def sent_alone(names: frozenset[str]) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
        ones = send(lambda name: float(name in names))
        numbered = [
            send(lambda name, d=d: places(name) // _BASE**d % _BASE if name in names else 0)
            for d in range(digits)
        ]
        return ones, numbered

    rng = np.random.default_rng(0)
    drawn = {name: rng.uniform(0.5, 1.5, value.shape) for name, value in state.items()}
    random = {name: drawn[name].astype(value.dtype) for name, value in state.items()}
    zeros, everything = send(lambda name: 0.0), frozenset(state)
    ones, numbered = sent_alone(everything)
    sample = send(lambda name: random[name])
    turned = {n: -v if v.dtype.kind == "f" else v for n, v in random.items()}
    negative = send(lambda name: turned[name])
    moved = send(lambda name: random[name] * (2 if name in parameters else 1))
    others = send(lambda name: random[name] * (1 if name in parameters else 2))
    # What depends on signs moves nothing, though it may seem to of positive numbers.
    tried = ((_joined(random), sample), (_joined(turned), negative))
    found: list[Found] = []
    for i, constant in enumerate(zeros):
        terms = _term(constant, ones[i], [d[i] for d in numbered], total)
        whole = Found(constant.shape, terms or (), constant)
        fits = terms is not None and all(_agrees(whole, flat, s[i]) for flat, s in tried)
        found.append(whole if fits else Found(constant.shape, (), constant, _OTHERWISE))
    _look_into(found, sent_alone, zeros, tried, state, total)
    depends = [
        (not _same(a, b), not _same(a, c)) for a, b, c in zip(sample, moved, others, strict=True)
    ]
    return found, depends


def numbers(leaf: Any) -> np.ndarray:
    """A leaf as float64; of a random key its data."""
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf, np.float64)


def _joined(entries: Entries) -> np.ndarray:
    parts = [value.ravel().astype(np.float64) for value in entries.values()]
    return np.concatenate(parts) if parts else np.empty(0)


def _term(
    constant: np.ndarray, ones: np.ndarray, numbered: list[np.ndarray], total: int
) -> tuple[Term, ...] | None:
    """The one term of a leaf; () if it is constant, None if it is made otherwise."""
    if not (np.isfinite(constant).all() and np.isfinite(ones).all()):
        return None
    factor = ones - constant
    if not factor.any() and all(_same(constant, leaf) for leaf in numbered):
        return ()
    if constant.size == 0:
        return (Term(np.zeros(constant.shape, np.int64), np.ones(constant.shape)),)
    if not factor.all():
        return None
    place = np.zeros(constant.shape, np.int64)
    for power, leaf in enumerate(numbered):
        digit = (leaf - constant) / factor
        whole = np.rint(digit)
        if not np.isfinite(digit).all() or (np.abs(digit - whole) > _EXACT * 8).any():
            return None
        place += whole.astype(np.int64) * _BASE**power
    if place.min() < 1 or place.max() > total:
        return None
    return (Term(place - 1, factor),)


def _agrees(found: Found, flat: np.ndarray, sample: np.ndarray) -> bool:
    """Whether the terms give what the converter makes of random numbers."""
    value = found.constant + sum(
        (term.factor * flat[term.indices] for term in found.terms), np.zeros(found.shape)
    )
    return _same(value, sample, _EXACT)


def _same(a: np.ndarray, b: np.ndarray, tolerance: float = 0.0) -> bool:
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    return bool((np.abs(a - b) <= tolerance * np.maximum(np.abs(b), 1)).all())


def _look_into(
    found: list[Found],
    sent_alone: Callable[[frozenset[str]], tuple[list[np.ndarray], list[list[np.ndarray]]]],
    zeros: list[np.ndarray],
    tried: Sequence[tuple[np.ndarray, list[np.ndarray]]],
    state: Mapping[str, np.ndarray],
    total: int,
) -> None:
    """Finds sums of several entries, one entry after the other, while there is time."""
    wanted = [i for i, leaf in enumerate(found) if leaf.problem]
    budget = Budget(_SECONDS)
    parts: dict[int, list[Term]] = {i: [] for i in wanted}
    for name in state if wanted else ():
        if not budget.left:
            return
        ones, numbered = sent_alone(frozenset({name}))
        for i in wanted:
            if np.isfinite(ones[i]).all() and (ones[i] != zeros[i]).any():
                parts[i] += _term(zeros[i], ones[i], [d[i] for d in numbered], total) or ()
    for i, terms in parts.items():
        leaf = Found(found[i].shape, tuple(terms), zeros[i])
        if terms and all(_agrees(leaf, flat, sample[i]) for flat, sample in tried):
            found[i] = leaf
