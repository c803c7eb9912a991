"""What a test of a trained model comes to: numbers, lines and JSON. Imports no framework."""

import dataclasses
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from jax_impl.errors import shown

Z = 1.959963984540054
"""Standard errors that hold a normal value with probability 0.95."""
WORST = 10
"""Errors that are told one by one."""
NO_CLASS = -1
_NAME, _SHORT = 10, 4
"""Letters of a class's name in the table, and at the head of a column."""


class Error(NamedTuple):
    """An image that was classified wrong, by its place: class, predicted class, probability."""

    image: int
    true: int
    predicted: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Of n images.

    Args:
        classes: names, by label.
        labels: int [n].
        log_probabilities: float [n, classes], natural logarithms. Where one is NaN the image has
            no class, and is classified wrong.
    """

    classes: Sequence[str]
    labels: np.ndarray
    log_probabilities: np.ndarray

    @cached_property
    def predicted(self) -> np.ndarray:
        """Labels, int [n]; `NO_CLASS` for an image whose logits are no numbers."""
        found = self.log_probabilities.argmax(-1)
        return np.where(np.isnan(self.log_probabilities).any(-1), NO_CLASS, found)

    @property
    def without_class(self) -> int:
        """Images whose logits are no numbers."""
        return int((self.predicted == NO_CLASS).sum())

    @property
    def right(self) -> int:
        """Images that were classified right."""
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.right / len(self.labels)

    @property
    def loss(self) -> float:
        """Mean cross entropy, in nats; NaN where an image has no class."""
        return -float(self.log_probabilities[np.arange(len(self.labels)), self.labels].mean())

    @cached_property
    def confusion(self) -> np.ndarray:
        """Images by class and predicted class, int [classes, classes]."""
        found = np.zeros((len(self.classes),) * 2, np.int64)
        there = self.predicted != NO_CLASS
        np.add.at(found, (self.labels[there], self.predicted[there]), 1)
        return found

    @cached_property
    def sizes(self) -> np.ndarray:
        """Images of each class, int [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def errors(self, most: int = WORST) -> list[Error]:
        """Those with the largest probability of the predicted class, the largest first."""
        rows = np.arange(len(self.labels))
        sure = self.log_probabilities[rows, np.maximum(self.predicted, 0)]
        wrong = np.flatnonzero((self.predicted != self.labels) & (self.predicted != NO_CLASS))
        order = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
        return [
            Error(int(i), int(self.labels[i]), int(self.predicted[i]), math.exp(sure[i]))
            for i in order
        ]

    def lines(self) -> list[str]:
        """For a terminal of 80 columns."""
        low, high = wilson(self.right, len(self.labels))
        found = [
            f"accuracy: {100 * self.accuracy:.2f} %, 95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f} % ({self.right:,} of {len(self.labels):,} images)",
            f"loss: {self.loss:.4f}",
        ]
        if self.without_class:
            found.append(
                f"WARNING: the logits of {self.without_class:,} images are no numbers; they count "
                "as wrong"
            )
        return [*found, *self.table()]

    def table(self) -> list[str]:
        """Images by class (rows) and predicted class (columns), and the share that is right."""
        names = [shown(name, _NAME) for name in self.classes]
        width = max(5, len(str(self.confusion.max())) + 1)
        heads = "".join(f"{name[:_SHORT]:>{width}}" for name in names)
        rows = [f"{'':{_NAME}}{heads}{'right':>9}"]
        for label, name in enumerate(names):
            counts = "".join(f"{count:>{width}}" for count in self.confusion[label])
            right, size = int(self.confusion[label, label]), int(self.sizes[label])
            share = f"{100 * right / size:.1f} %" if size else "none"
            rows.append(f"{name:{_NAME}}{counts}{share:>9}")
        return ["class (rows) and predicted class (columns), images:", *rows]

    def as_json(self) -> dict[str, Any]:
        """Accuracies in [0, 1], with their 95 % intervals; the loss in nats."""
        by_class = []
        for label, name in enumerate(self.classes):
            right, size = int(self.confusion[label, label]), int(self.sizes[label])
            found = {"name": name, "images": size, "right": right}
            if size:
                found |= {"accuracy": right / size, "interval": wilson(right, size)}
            by_class.append(found)
        errors = [
            {
                "image": error.image,
                "class": self.classes[error.true],
                "predicted": self.classes[error.predicted],
                "probability": error.probability,
            }
            for error in self.errors()
        ]
        return {
            "images": len(self.labels),
            "right": self.right,
            "accuracy": self.accuracy,
            "interval": wilson(self.right, len(self.labels)),
            "loss": self.loss,
            "without_class": self.without_class,
            "classes": by_class,
            "confusion": self.confusion.tolist(),
            "surest_errors": errors,
        }


def wilson(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in [0, 1] (1927, https://doi.org/10.2307/2276774)."""
    share, z2 = right / of, Z * Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    reach = Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - reach), min(1.0, middle + reach)
