"""Initial values of both sides from many seeds, and what is kept of each draw."""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from jax import tree_util

from parity.pairs.fixed_leaves import hidden
from parity.pairs.pair import Pair

VALUES, LARGEST = 2000, 20_000
"""Numbers wanted of each parameter, and the most that are tested."""

LEAST, MOST, SECONDS = 8, 128, 2.5
"""Draws: the fewest and the most of them, and the time for more than the fewest."""

BLOCK = 12
"""Twice as many rows of a matrix, and columns, are compared with one another."""

HEAD = 64
"""Numbers by which tensors drawn with one key are found."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What is kept of a parameter's initial values in all draws.

    Args:
        first: all of the first draw, of the parameter's shape.
        varies: which of them another draw changed.
        values: [draws, n], of the positions `places`, a random part of the flat tensor.
        places: [n].
        structure: by name, [draws, m]: cosines and norms of rows and of columns.
    """

    first: np.ndarray
    varies: np.ndarray
    values: np.ndarray
    places: np.ndarray
    structure: dict[str, np.ndarray]

    @property
    def random(self) -> np.ndarray:
        """[draws, n]: the values of the positions that vary, at most `LARGEST` in all."""
        kept = self.values[:, self.loose.ravel()[self.places]]
        return kept[:, : max(LARGEST // len(kept), 1)]

    @property
    def loose(self) -> np.ndarray:
        """Which entries are drawn: also those whose one value others take now and then."""
        fixed = ~self.varies
        if fixed.any() and self.varies.any():
            drawn = self.values[:, self.varies.ravel()[self.places]]
            for value in np.unique(self.first[fixed])[:10]:
                if drawn.size and (drawn == value).mean() > 0.01:
                    fixed = fixed & (self.first != value)
        return ~fixed


@dataclasses.dataclass(frozen=True)
class Draws:
    """All parameters by name in PyTorch's layout, and the first numbers [draws, n] of tensors.

    The latter in PyTorch's layout under the parameter's name, and of JAX's leaves under theirs.
    """

    parameters: dict[str, Drawn]
    heads: dict[str, np.ndarray]


class Keeper:
    """Takes one draw after another."""

    def __init__(self):
        self._first: dict[str, np.ndarray] = {}
        self._varies: dict[str, np.ndarray] = {}
        self._places: dict[str, np.ndarray] = {}
        self._values: dict[str, list[np.ndarray]] = {}
        self._structure: dict[str, list[dict[str, np.ndarray]]] = {}
        self._heads: dict[str, list[np.ndarray]] = {}

    def add(self, tensors: dict[str, np.ndarray], leaves: dict[str, np.ndarray]) -> None:
        """A draw's parameters, and the leaves that they came in."""
        for name, value in tensors.items():
            value = np.asarray(value, np.float32)
            if name not in self._first:
                self._first[name] = np.array(value)
                self._varies[name] = np.zeros(value.shape, bool)
                places = np.random.default_rng(0).permutation(value.size)
                self._places[name] = places[: LARGEST // LEAST]
            self._varies[name] |= value != self._first[name]
            kept = value.ravel()[self._places[name]]
            self._values.setdefault(name, []).append(kept)
            self._structure.setdefault(name, []).append(structure(value))
        for name, value in (leaves | tensors).items():
            self._heads.setdefault(name, []).append(np.array(np.ravel(value)[:HEAD]))

    @property
    def smallest(self) -> int:
        """The size of the smallest parameter that varies."""
        sizes = [int(v.sum()) for v in self._varies.values() if v.any()]
        return min(sizes, default=VALUES)

    def draws(self) -> Draws:
        """All that was added."""
        found = {
            name: Drawn(
                first,
                self._varies[name],
                np.stack(self._values[name]),
                self._places[name],
                {
                    kind: np.stack([draw[kind] for draw in self._structure[name]])
                    for kind in self._structure[name][0]
                },
            )
            for name, first in self._first.items()
        }
        return Draws(found, {name: np.stack(heads) for name, heads in self._heads.items()})


def draw(pair: Pair, seed: int) -> tuple[Draws, Draws]:
    """JAX's and PyTorch's, from different seeds; as many as the smallest parameter needs."""
    ours, theirs, started = Keeper(), Keeper(), time.monotonic()
    for number in range(MOST):
        first, second = _both(pair, 2 * (seed + number))
        ours.add({name: v for name, v in first[0].items() if name in second}, first[1])
        theirs.add(second, {})
        drawn = number + 1
        if drawn < LEAST:
            continue
        wanted = VALUES / max(min(ours.smallest, theirs.smallest), 1)
        if drawn >= wanted or time.monotonic() - started > SECONDS:
            break
    return ours.draws(), _single(theirs.draws())


def _both(pair: Pair, seed: int) -> tuple[Any, dict[str, np.ndarray]]:
    """JAX's parameters and leaves, and PyTorch's parameters."""
    assert pair.init is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        named = pair.make_torch().named_parameters()
        theirs = {name: value.detach().float().numpy() for name, value in named}
    variables = hidden(pair.init(seed + 1))
    flat = tree_util.tree_flatten_with_path(variables)[0]
    leaves = {f"leaf {tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in flat}
    return (pair.leaf_map.to_torch(jax.tree.leaves(variables)), leaves), theirs


def _single(draws: Draws) -> Draws:
    """The first draw alone where all are one: a module that is copied, or that sets the seed."""
    found = draws.parameters
    if any(d.varies.any() for d in found.values()) or not any(
        np.ptp(d.first) for d in found.values()
    ):
        return draws
    return Draws(
        {
            name: dataclasses.replace(
                d,
                varies=np.full(d.varies.shape, bool(np.ptp(d.first))),
                values=d.values[:1],
                structure={kind: values[:1] for kind, values in d.structure.items()},
            )
            for name, d in found.items()
        },
        {name: head[:1] for name, head in draws.heads.items()},
    )


def structure(value: np.ndarray) -> dict[str, np.ndarray]:
    """How rows, and columns, of (first axis, rest) lie to one another, of some of them.

    Cosines of pairs, and norms over their root mean square, to four decimals: an orthogonal
    matrix's are 0 and 1 up to rounding.
    """
    if value.ndim < 2 or min(value.shape[0], math.prod(value.shape[1:])) < 2:
        return {}
    matrix = value.reshape(value.shape[0], -1)
    return dict(_of_rows(matrix, "rows")) | dict(_of_rows(matrix.T, "columns"))


def _of_rows(matrix: np.ndarray, what: str) -> Iterator[tuple[str, np.ndarray]]:
    half = len(matrix) // 2
    chosen = np.arange(min(BLOCK, half))
    rows = matrix[np.concatenate([chosen, chosen + half])].astype(np.float64)
    norms = np.linalg.norm(rows, axis=1)
    root = math.sqrt(float((norms**2).mean())) or 1.0
    cosines = (rows @ rows.T) / np.maximum(np.outer(norms, norms), 1e-300)
    yield f"cosines of {what}", np.round(cosines[np.triu_indices(len(rows), 1)], 4) + 0.0
    yield f"norms of {what}", np.round(norms / root, 4)
