"""Reshaping, parts, products and arithmetic: one suspect gives what a faulty port gives."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from faults import Fault, array, one_suspect
from legal_calls import L, M, S, V, X, draw
from torch.nn import functional as F

SQUARE, OTHER = draw(2, 5, 5), draw(2, 5, 5, seed=1)


def shape_faults() -> Iterator[tuple[Any, ...]]:
    x = array(X)
    yield (
        lambda: X.flatten(1),
        lambda: x.transpose(0, 2, 3, 1).reshape(2, -1),
        "flattened h, w, c and not c, h, w",
    )
    yield lambda: L.flatten(1), lambda: array(L).swapaxes(1, 2).reshape(2, -1), "order 2, 1"
    yield (
        lambda: V.flatten(1),
        lambda: array(V).transpose(0, 2, 3, 4, 1).reshape(2, -1),
        "merged in the order 2, 3, 4, 1",
    )
    yield (
        lambda: S.reshape(2, 5, 2, 4),
        lambda: array(S).reshape(2, 5, 4, 2).swapaxes(2, 3),
        "axis 2 is split 4, 2 and not 2, 4",
    )
    joint = draw(2, 5, 24)
    yield (
        lambda: joint.view(2, 5, 3, 2, 4),
        lambda: array(joint).reshape(2, 5, 2, 3, 4).transpose(0, 1, 3, 2, 4),
        "split 2, 3, 4 and not 3, 2, 4",
    )
    yield (
        lambda: joint.view(2, 5, 3, 2, 4),
        lambda: array(joint).reshape(2, 5, 2, 4, 3).transpose(0, 1, 4, 2, 3),
        "split 2, 4, 3 and not 3, 2, 4",
    )
    heads = draw(2, 3, 5, 4)
    yield (
        lambda: heads.transpose(1, 2),
        lambda: array(heads).reshape(2, 5, 3, 4),
        "by a reshape and not by a transposition",
    )
    yield lambda: SQUARE.transpose(1, 2), lambda: array(SQUARE) * 1, "the transposition is missing"
    windows = draw(2, 4, 6, 3)
    yield (
        lambda: windows.view(2, 2, 2, 3, 2, 3),
        lambda: array(windows).reshape(2, 2, 2, 2, 3, 3).transpose(0, 2, 1, 4, 3, 5),
        "every axis is split in the other order",
    )
    shuffled = draw(2, 8, 3, 3)
    blocks = array(shuffled).reshape(2, 2, 2, 2, 3, 3)  # [n, r, r, c, h, w]
    yield (
        lambda: F.pixel_shuffle(shuffled, 2),
        lambda: blocks.transpose(0, 3, 4, 1, 5, 2).reshape(2, 2, 6, 6),
        "r, r, c (TensorFlow's)",
    )
    yield (
        lambda: F.pixel_unshuffle(X, 2),
        lambda: x.reshape(2, 4, 4, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(2, 16, 4, 3),
        "r, r, c (TensorFlow's)",
    )
    six = draw(2, 6, 2, 2)
    yield (
        lambda: F.channel_shuffle(six, 2),
        lambda: array(six).reshape(2, 3, 2, 2, 2).swapaxes(1, 2).reshape(six.shape),
        "shuffled the other way",
    )
    patches = array(F.unfold(X, (3, 2))).reshape(2, 4, 3, 2, -1)
    yield (
        lambda: F.unfold(X, (3, 2)),
        lambda: patches.transpose(0, 2, 3, 1, 4).reshape(2, 24, -1),
        "in the order h, w, c",
    )
    yield lambda: S.repeat_interleave(2, 1), lambda: np.tile(array(S), (1, 2, 1)), "tiled"
    yield lambda: S.repeat(1, 2, 1), lambda: np.repeat(array(S), 2, 1), "repeated and not tiled"


def part_faults() -> Iterator[tuple[Any, ...]]:
    a, b, c = (draw(2, 3, seed=i) for i in range(3))
    cat = lambda: torch.cat([a, b, c], 1)  # noqa: E731
    yield cat, lambda: np.concatenate([c, b, a], 1), "in the other order"
    yield cat, lambda: np.concatenate([b, a, c], 1), "parts 1 and 2 are exchanged"
    yield cat, lambda: np.stack([a, b, c], 2).reshape(2, 9), "interleaved"
    yield lambda: torch.stack([a, b], 1), lambda: np.stack([a, b], 2), "along axis 2 and not 1"
    both = draw(2, 6)
    yield (
        lambda: both.chunk(2, 1),
        lambda: (array(both)[:, 3:], array(both)[:, :3]),
        "in the order 2, 1",
    )
    yield lambda: both.chunk(2, 1), lambda: (array(both)[:, ::2],), "each takes every n-th"
    yield (
        lambda: torch.roll(X, (-1, -2), (2, 3)),
        lambda: np.roll(array(X), (1, 2), (2, 3)),
        "rolled the other way",
    )
    yield lambda: X.flip(2), lambda: np.flip(array(X), 3), "axis 3 alone"
    yield lambda: S[:, -1], lambda: array(S)[:, 0], "the first along axis 1"
    yield lambda: S[:, 0], lambda: array(S).mean(1), "the average along axis 1"
    yield lambda: S.cumsum(1), lambda: np.cumsum(array(S), 1) - array(S), "exclusive"
    yield lambda: S.cumsum(1), lambda: np.cumsum(array(S)[:, ::-1], 1)[:, ::-1], "the other end"
    mask, rows, square = M > 0, array(M), array(SQUARE)
    yield (
        lambda: M.masked_fill(mask, -9.0),
        lambda: np.where(mask, rows, -9),
        "mask is inverted",
    )
    some = mask & torch.tensor([[False], *[[True]] * (len(M) - 1)])
    yield (
        lambda: M.masked_fill(some, -np.inf),
        lambda: np.where(some, rows, np.finfo(np.float64).min),
        "mask is inverted",
    )
    yield lambda: torch.where(mask, M, 0.0), lambda: np.where(mask, 0, rows), "inverted"
    yield (
        lambda: torch.tril(SQUARE),
        lambda: np.tril(square, -1),
        "the diagonal is -1 and not 0",
    )
    yield lambda: torch.triu(SQUARE, 1), lambda: np.tril(square, 1), "the other one"


def product_faults() -> Iterator[tuple[Any, ...]]:
    a, b, w = array(SQUARE), array(OTHER), draw(3, 8)
    yield lambda: SQUARE @ OTHER, lambda: a @ b.swapaxes(1, 2), "the second operand"
    yield lambda: torch.bmm(SQUARE, OTHER), lambda: a.swapaxes(1, 2) @ b, "the first operand"
    yield lambda: SQUARE @ OTHER, lambda: b @ a, "exchanged"
    yield lambda: SQUARE @ OTHER, lambda: a @ b / 5**0.5, "divided by the root"
    yield (
        lambda: torch.einsum("bij,bjk->bik", SQUARE, OTHER),
        lambda: jnp.einsum("bij,bkj->bik", a, b),
        "j and k of operand 2",
    )
    yield (
        lambda: F.linear(S, w),
        lambda: array(S) @ array(w).reshape(8, 3),
        "by a reshape and not by a transposition",
    )
    yield (
        lambda: F.cosine_similarity(M, M.flip(0)),
        lambda: (array(M) * array(M)[::-1]).sum(1),
        "the vectors are not normalised",
    )
    yield (
        lambda: torch.cdist(M, M[:3]),
        lambda: ((array(M)[:, None] - array(M)[None, :3]) ** 2).sum(-1),
        "squared",
    )


def arithmetic_faults() -> Iterator[tuple[Any, ...]]:
    a, b = array(X), array(X.flip(0))
    relu = lambda t: np.maximum(t, 0)  # noqa: E731
    add = lambda: X + X.flip(0)  # noqa: E731
    for port, part in (
        (lambda: a * 1, "the shortcut is missing"),
        (lambda: relu(a) + b, "the ReLU comes before the addition"),
        (lambda: a + relu(b), "the shortcut is activated before"),
        (lambda: relu(a) + relu(b), "both summands are activated"),
        (lambda: (a + b) / 2, "averaged"),
        (lambda: (a + b) / 2**0.5, "the root of two"),
        (lambda: a + 0.1 * b, "the second summand is scaled by 0.1"),
    ):
        yield add, port, part, "add"
    positions = lambda: S + S[:1]  # noqa: E731
    s, row = array(S), array(S)[:1]
    cut = np.arange(row.shape[1])[:, None]
    for port, part in (
        (lambda: s + np.roll(row, 1, 1), "shifted by one position, later"),
        (lambda: s + np.roll(row, -1, 1), "shifted by one position, earlier"),
        (lambda: s + row * (cut > 0), "the first position of the second summand"),
        (lambda: s + row * (cut < len(cut) - 1), "the last position of the second summand"),
        (lambda: s + row[:, ::-1], "in the other order"),
    ):
        yield positions, port, part, "add"
    positive, var = draw(2, 5).abs(), array(draw(2, 5).abs())
    eps = lambda: positive + 1e-5  # noqa: E731
    yield eps, lambda: var + 1e-6, "eps is 1e-06 and not 1e-05"
    yield eps, lambda: (np.sqrt(var) + 1e-5) ** 2, "outside the root and not under it"
    yield eps, lambda: np.sqrt(var**2 + 1e-5), "under the root and not outside it"
    yield lambda: S * 0.5, lambda: array(S) * 1, "missing: the factor 0.5"
    yield lambda: S * 8**-0.5, lambda: array(S) / 8, "done twice"
    yield lambda: S * M, lambda: array(S) * (1 + array(M)), "1 + the second"
    yield lambda: S / 8**0.5, lambda: array(S) / 8, "the square of the divisor"
    yield lambda: 1 - S, lambda: array(S) - 1, "the two are exchanged"
    yield lambda: S**2, lambda: abs(array(S)), "the magnitude"
    yield lambda: positive.rsqrt(), lambda: np.sqrt(var), "the root in the place"
    yield lambda: S.var(-1), lambda: array(S).var(-1), "the biased one"
    yield lambda: S.var(-1, correction=0), lambda: array(S).var(-1, ddof=1), "the unbiased one"
    yield lambda: S.std(1, False), lambda: array(S).var(1), "the variance in the place"
    yield lambda: X.mean((2, 3)), lambda: a.max((2, 3)), "the maximum in the place"
    yield lambda: S.mean(1), lambda: array(S).sum(1), "the sum in the place"
    yield lambda: S.norm(dim=-1), lambda: (array(S) ** 2).sum(-1), "squared"
    yield lambda: S.sum(1), lambda: array(S).sum(2), "over axis 2 and not 1"


GROUPS = shape_faults, part_faults, product_faults, arithmetic_faults
FAULTS = [Fault(*fault) for group in GROUPS for fault in group()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.part)
def test_one_suspect_gives_what_a_faulty_port_gives(fault):
    one_suspect(fault)
