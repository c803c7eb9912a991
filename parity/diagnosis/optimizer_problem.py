"""Parameters, shared gradients and what was observed, as flat vectors."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.pairs.pair import Tensors

THIN = 64
"""Elements of a tensor that are looked at first."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Tensors one after another: n numbers, of all elements or of some.

    Args:
        shapes: of the tensors, by name.
        parts: where each tensor is.
        sizes: of the tensors with all of their elements.
        starts: [starts, n], the initial parameters.
        gradients: [steps, n].
        norms: [steps, tensors], of the whole gradients.
        others: [steps], the norm of the gradients of tensors that are not here.
        observed: [starts, steps, n]; empty where nothing was.
    """

    shapes: dict[str, tuple[int, ...]]
    parts: tuple[slice, ...]
    sizes: np.ndarray
    starts: np.ndarray
    gradients: np.ndarray
    norms: np.ndarray
    others: np.ndarray
    observed: np.ndarray

    def named(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """A vector of all elements as tensors."""
        return {
            name: values[part].reshape(shape)
            for (name, shape), part in zip(self.shapes.items(), self.parts, strict=True)
        }

    def errors(self, made: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
        """The largest relative error of each tensor at any step, [tensors]; infinite if not finite.

        Args:
            made: [starts, steps, n].
            reference: the same; by default what was observed.
        """
        reference = self.observed if reference is None else reference
        found = []
        with np.errstate(all="ignore"):
            for part in self.parts:
                difference = np.abs(made[..., part] - reference[..., part]).max(-1, initial=0)
                scale = np.abs(reference[..., part]).max(-1, initial=0) + np.finfo(float).tiny
                worst = (difference / scale).max()
                found.append(worst if np.isfinite(worst) else np.inf)
        return np.array(found)

    def only(self, names: Sequence[str], count: int | None = None) -> "Problem":
        """Some tensors, of `count` elements each at most."""
        kept, parts, end = [], [], 0
        for name, part in zip(self.shapes, self.parts, strict=True):
            if name not in names:
                continue
            size = part.stop - part.start
            chosen = np.arange(size)
            if count is not None and size > count:
                chosen = np.unique(np.linspace(0, size - 1, count).astype(int))
            kept.append(part.start + chosen)
            parts.append(slice(end, end + len(chosen)))
            end += len(chosen)
        index = np.concatenate(kept) if kept else np.zeros(0, int)
        here = np.array([name in names for name in self.shapes])
        rest = (self.norms[:, ~here] ** 2).sum(1)
        return Problem(
            {name: shape for name, shape in self.shapes.items() if name in names},
            tuple(parts),
            self.sizes[here],
            self.starts[:, index],
            self.gradients[:, index],
            self.norms[:, here],
            np.sqrt(self.others**2 + rest),
            self.observed[..., index],
        )


def problem(
    params: Tensors | Sequence[Tensors],
    gradients: Sequence[Tensors],
    observed: Sequence[Tensors] | Sequence[Sequence[Tensors]] = (),
) -> Problem:
    """The problem of tensors by name.

    Args:
        params: the initial parameters, or several starts of them.
        gradients: of each step.
        observed: the parameters after each step, or those from each start.
    """
    starts = [params] if isinstance(params, Mapping) else list(params)
    runs: list[Any] = (
        [observed] if observed and isinstance(observed[0], Mapping) else list(observed)
    )
    shapes = {name: np.shape(value) for name, value in starts[0].items()}
    sizes = np.array([int(np.prod(shape)) for shape in shapes.values()])
    ends = np.cumsum(sizes)
    parts = tuple(slice(e - s, e) for s, e in zip(sizes.tolist(), ends.tolist(), strict=True))
    flat = np.stack([_flat(tensors, shapes) for tensors in gradients])
    found = [np.stack([_flat(step, shapes) for step in run]) for run in runs]
    return Problem(
        shapes,
        parts,
        sizes,
        np.stack([_flat(start, shapes) for start in starts]),
        flat,
        np.stack([np.sqrt((flat[:, part] ** 2).sum(1)) for part in parts], 1),
        np.zeros(len(flat)),
        np.stack(found) if found else np.zeros((0, len(flat), int(ends[-1]))),
    )


def _flat(tensors: Tensors, shapes: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(tensors[name], np.float64).ravel() for name in shapes])
