"""What a variant is given and what it must do."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from parity.speed.workloads import Task

CHECKED = 3
"""Steps whose losses are compared."""

ROWS = 100
"""Batches of an order, which blocks go round and round."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """A task, and the same data, batches and initial weights for every variant.

    Args:
        settings: of the variant.
        device: "cpu" or "gpu".
        lr: of the recipe's Adam.
        images: uint8 [n, 32, 32, 3], all of a training split.
        labels: int32 [n], of the same.
        order: int32 [ROWS, batch_size], indices of the images of each batch.
        weights: a state_dict of float32 arrays.
    """

    task: Task
    settings: Mapping[str, Any]
    device: str
    lr: float
    images: np.ndarray
    labels: np.ndarray
    order: np.ndarray
    weights: Mapping[str, np.ndarray]


class Runner(Protocol):
    """A variant that is ready to run, from the shared weights on."""

    def losses(self) -> Iterator[list[float]]:
        """The mean losses of the first batches while it trains on them.

        In inference the `logits_norm` of each. Those of one call at a time, until they are
        `CHECKED` or more. The first call compiles.
        """
        ...

    def fit(self, steps: int) -> int:
        """The number of steps nearest to `steps` that it can time; compiles what that needs."""
        ...

    def advance(self, steps: int) -> None:
        """Takes `steps` steps, a number that `fit` gave, and returns when the device is done."""
        ...

    def facts(self) -> dict[str, Any]:
        """`threads`, `compile_seconds` and `device_peak_bytes`, None where they are not known."""
        ...


def logits_norm(logits: np.ndarray) -> float:
    """What stands for a loss in inference: a norm of logits [n, classes], in float64.

    Rows and classes have weights of their own, so that none can be taken for another. The loss of
    initial weights, whose logits are small, would hardly tell a wrong one.
    """
    rows, classes = np.shape(logits)
    projected = np.asarray(logits, np.float64) @ np.arange(1.0, classes + 1)
    return float(np.sqrt(np.mean((projected * np.linspace(1.0, 2.0, rows)) ** 2)))


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz without compression."""
    with path.open("wb") as file:
        np.savez(file, **dict(arrays))  # pyright: ignore[reportArgumentType]


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
