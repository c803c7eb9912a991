"""The notebook from start to end: its small CNN, its recipe, five epochs, and the test.

The clock of a training starts after the imports and holds compilation. It stands still while the
test accuracy is found after every epoch but the first, since the notebook tests once: the first
one's time, with its compilation, is that of the test.
"""

import dataclasses
import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parity.speed import load
from parity.speed.runner import Setup, load_arrays
from parity.speed.workloads import Task


@dataclasses.dataclass(frozen=True)
class EpochResult:
    """After an epoch, from 1: the clock's seconds, the mean loss, test accuracy in [0, 1]."""

    number: int
    seconds: float
    loss: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Training:
    """One variant's training in a fresh process.

    `seconds` is that of all epochs and one test, and `other_cores` what other processes used
    meanwhile, None if not known.
    """

    variant: str
    framework: str
    repeat: int
    import_seconds: float
    seconds: float
    epochs: tuple[EpochResult, ...]
    other_cores: float | None = None

    @property
    def invalid(self) -> str | None:
        """Why its seconds are not valid, or None."""
        return load.invalid(self.other_cores, self.seconds, 1)


class EpochClock:
    """Started by a training and told of its epochs."""

    def __init__(self) -> None:
        self.epochs: list[EpochResult] = []
        self.test_seconds = self._paused = self._started = 0.0

    def start(self) -> None:
        """Sets the clock going."""
        self._started = time.perf_counter()

    def epoch(self, loss: float, accuracy: Callable[[], float]) -> None:
        """Takes the time, and the accuracy while the clock stands still."""
        reached = time.perf_counter()
        found = accuracy()
        took = time.perf_counter() - reached
        seconds = reached - self._started - self._paused
        self._paused += took
        if not self.epochs:
            self.test_seconds = took
        self.epochs.append(EpochResult(len(self.epochs) + 1, seconds, loss, found))


class NotebookWorker:
    """What a worker does: one training."""

    def train(
        self, framework: str, settings: dict[str, Any], device: str, lr: float, batch_size: int,
        files: str,
    ) -> dict[str, Any]:  # fmt: skip
        """Trains on the arrays in the directory `files`."""
        from jax_impl.data.archive import Split

        started = time.perf_counter()
        module = "jax_side" if framework == "JAX" else "torch_side"
        side: Any = importlib.import_module(f"parity.speed.{module}")
        import_seconds = time.perf_counter() - started
        arrays = load_arrays(Path(files) / "notebook.npz")
        setup = Setup(
            Task("simple_cnn", batch_size, "train", "float32"),
            settings,
            device,
            lr,
            arrays["images"],
            arrays["labels"],
            arrays["orders"][:1, :batch_size],
            load_arrays(Path(files) / "weights-simple_cnn.npz"),
        )
        clock = EpochClock()
        test = Split(arrays["test_images"], arrays["test_labels"])
        side.train_notebook(setup, test, arrays["orders"], clock)
        return {
            "import_seconds": import_seconds,
            "seconds": clock.epochs[-1].seconds + clock.test_seconds,
            "epochs": [dataclasses.asdict(epoch) for epoch in clock.epochs],
        }


def to_training(
    variant: Any, repeat: int, found: dict[str, Any], other_cores: float | None
) -> Training:
    """What `NotebookWorker.train` returned."""
    return Training(
        variant.name,
        variant.framework,
        repeat,
        found["import_seconds"],
        found["seconds"],
        tuple(EpochResult(**epoch) for epoch in found["epochs"]),
        other_cores,
    )


def alternating(variants: Sequence[Any], repeats: int) -> list[tuple[Any, int]]:
    """A B, A B, ...: each variant once in every repeat, with the repeat's number."""
    return [(variant, repeat) for repeat in range(repeats) for variant in variants]
