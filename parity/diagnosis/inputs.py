"""Inputs that depart: what preprocessing tends to get wrong."""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from parity.diagnosis.common import SAME, said
from parity.diagnosis.preprocessing import explain_numbers, explain_whole
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import inputs
from parity.ladder.rungs.gradients import input_name
from parity.ladder.tolerance import relative_error
from parity.pairs.case import Case
from parity.pairs.pair import Batch, Tensors
from parity.pairs.trees import leaves

NEAR = 1e-6
"""Relative: constants may have been rounded to float32."""


def find(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    """The inputs' diagnosis, of the first that departs; None where they agree."""
    del state
    ours, theirs = inputs.both(case, batch)
    errors = {name: _error(ours[name], theirs[name]) for name in theirs}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return None
    first = departing[0]
    cause = _exchanged(ours, theirs, departing)
    if cause is None:
        raw = {input_name(path): np.asarray(leaf) for path, leaf in leaves(batch.inputs).items()}
        cause = explain(ours[first], theirs[first], raw.get(first))
    found = said(first, errors[first], cause=cause, what="values")
    if len(departing) == 1:
        return found
    others = ", ".join(departing[1:])
    return dataclasses.replace(found, text=f"{found.text} Also departing: {others}.")


def explain(ours: np.ndarray, theirs: np.ndarray, raw: np.ndarray | None) -> str | None:
    """What was made of PyTorch's array to give JAX's.

    Args:
        ours: JAX's input in PyTorch's layout.
        theirs: PyTorch's.
        raw: what both were made of, where it is known.
    """
    if ours.shape != theirs.shape:
        return _shapes(ours, theirs)
    if theirs.dtype.kind in "iub":
        return explain_whole(ours, theirs)
    return explain_numbers(ours, theirs, raw)


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The relative error of two arrays, whose infinite values may be equal."""
    if ours.shape == theirs.shape and ours.dtype.kind == theirs.dtype.kind == "f":
        finite = np.isfinite(theirs)
        if np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
            return relative_error(np.where(finite, ours, 0), np.where(finite, theirs, 0))
    return relative_error(ours, theirs)


def _exchanged(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], departing: list[str]
) -> str | None:
    """Whether two inputs stand in each other's place."""
    for a, b in itertools.combinations(departing, 2):
        if _error(ours[a], theirs[b]) <= NEAR and _error(ours[b], theirs[a]) <= NEAR:
            return f"{a} and {b} are exchanged"
    return None


def _shapes(ours: np.ndarray, theirs: np.ndarray) -> str:
    """What the shapes and the values tell."""
    text = f"the shape is {ours.shape} and not {theirs.shape}"
    if ours.ndim == theirs.ndim and sorted(ours.shape) == sorted(theirs.shape):
        moved = _axes_of(ours, theirs)
        if moved is not None:
            return f"{text}: the axes are in the order {', '.join(map(str, moved))}"
    if theirs.dtype.kind in "iu" and ours.shape[:-1] == theirs.shape:
        if np.array_equal(ours.argmax(-1), theirs) and np.allclose(ours.sum(-1), 1):
            return f"{text}: the numbers are one-hot vectors"
    if ours.size == theirs.size and _error(ours.reshape(theirs.shape), theirs) <= NEAR:
        return f"{text}: the values are the same"
    if ours.ndim == theirs.ndim and all(a <= b for a, b in zip(ours.shape, theirs.shape)):  # noqa: B905
        part = theirs[tuple(slice(length) for length in ours.shape)]
        if _error(ours, part) <= NEAR:
            return f"{text}: it is cut off"
    return text


def _axes_of(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, ...] | None:
    for axes in itertools.permutations(range(theirs.ndim)):
        moved = theirs.transpose(axes)
        if moved.shape == ours.shape and _error(ours, moved) <= NEAR:
            return axes
    return None
