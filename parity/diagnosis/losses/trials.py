"""PyTorch's loss of several fixed outputs, with changes tried until it gives JAX's values."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from parity.diagnosis.losses.calls import Changing, LossCall, Suspect
from parity.ladder.rungs.loss import cloned
from parity.ladder.tolerance import relative_error
from parity.pairs.pair import to_numpy
from parity.pairs.trees import filled, leaves
from parity.pairs.widening import widened

ERRORS = RuntimeError, ValueError, TypeError, IndexError, AssertionError, KeyError, AttributeError
"""What a suspect that does not fit a loss raises."""


class Before(NamedTuple):
    """A change of what the loss is given: (outputs, labels) -> (outputs, labels)."""

    text: str
    change: Callable[[Any, Any], tuple[Any, Any]]


class Trial(NamedTuple):
    """Changes made together: of calls by number, and of what the loss is given."""

    text: str
    calls: tuple[tuple[int, Suspect], ...] = ()
    before: tuple[Before, ...] = ()

    def and_(self, other: "Trial") -> "Trial":
        """Both trials' changes."""
        text = f"{self.text}; and {other.text}"
        return Trial(text, self.calls + other.calls, self.before + other.before)


@dataclasses.dataclass(frozen=True)
class Question:
    """JAX's values of a loss of several fixed outputs, which PyTorch's loss is to be changed to.

    Args:
        loss: PyTorch's, (outputs, labels) -> tensor.
        outputs: fixed ones, as PyTorch's loss takes them.
        ours: JAX's loss of each.
        labels: as PyTorch's loss takes them.
        examples: their number.
        tolerance: relative, within which values are the same.
        always: a trial whose changes are made too.
    """

    loss: Callable[[Any, Any], Any]
    outputs: Sequence[Any]
    ours: Sequence[np.ndarray]
    labels: Any
    examples: int
    tolerance: float = 1e-9
    always: Trial = Trial("")

    def after(self, trial: Trial) -> "Question":
        """The same question, with the trial's changes made in every other one's."""
        return dataclasses.replace(self, always=trial)

    def value(self, trial: Trial, place: int) -> np.ndarray | None:
        """PyTorch's loss of outputs number `place` with the trial's changes; None if it fails."""
        outputs, labels = cloned(self.outputs[place]), self.labels
        trial = self.always.and_(trial)
        changes: dict[int, list[Suspect]] = {}
        for index, suspect in trial.calls:
            changes.setdefault(index, []).append(suspect)
        with contextlib.suppress(*ERRORS), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for before in trial.before:
                outputs, labels = before.change(outputs, labels)

            def changed(outputs: Any, labels: Any) -> Any:
                with Changing(self.examples, changes):
                    return self.loss(outputs, labels)

            return to_numpy(widened(changed)(outputs, labels))
        return None

    def same(self, value: np.ndarray | None, place: int) -> bool:
        """Whether a value is JAX's of the outputs number `place`."""
        return value is not None and relative_error(self.ours[place], value) <= self.tolerance

    def fits(self, trial: Trial) -> bool:
        """Whether the trial gives JAX's value of every one of the outputs, and they differ."""
        places = range(len(self.outputs))
        return self.telling and all(self.same(self.value(trial, i), i) for i in places)

    @property
    def telling(self) -> bool:
        """Whether JAX's values are of at least three kinds, so that agreement is no accident."""
        distinct = {float(np.sum(value)) for value in self.ours}
        return len(distinct) >= 3

    def factor(self, trial: Trial) -> float | None:
        """The number that the trial's values are to be multiplied by to be JAX's."""
        if not self.telling:
            return None
        first = self.value(trial, 0)
        if first is None or not np.isfinite(first).all() or not np.sum(first):
            return None
        factor = float(np.sum(self.ours[0]) / np.sum(first))
        for place in range(len(self.outputs)):
            value = first if place == 0 else self.value(trial, place)
            if value is None or not self.same(factor * value, place):
                return None
        return factor

    def called(self) -> tuple[list[LossCall], list[Any]]:
        """The calls that the loss of the first outputs makes, and their results."""
        mode = Changing(self.examples, keep=True)

        def seen(outputs: Any, labels: Any) -> Any:
            with mode:
                return self.loss(outputs, labels)

        with torch.no_grad():
            widened(seen)(cloned(self.outputs[0]), self.labels)
        return mode.calls, mode.results


def probes(outputs: Any, examples: int) -> list[Any]:
    """Outputs, and three others made of them: rows in another order, and smaller numbers."""

    def made(factor: float, order: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        return filled(
            outputs,
            {
                path: order(leaf) * factor
                for path, leaf in leaves(outputs).items()
                if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
            },
        )

    def rolled(x: torch.Tensor, shift: int) -> torch.Tensor:
        rows = x.ndim > 0 and len(x) == examples and examples > 1
        return x.roll(shift, 0 if rows else -1) if x.ndim else x

    return [
        outputs,
        made(1.0, lambda x: rolled(x, 1)),
        made(0.5, lambda x: x),
        made(0.75, lambda x: rolled(x, -1)),
    ]
