"""What is timed: a model, a batch size, a mode and a precision. Imports no framework."""

import dataclasses
from collections.abc import Sequence

from jax_impl.errors import InputError, shown
from parity.shell.options import ModeName, PrecisionName
from parity.shell.recipes import chosen_model

INFERENCE_BATCH = 256
LARGEST_BATCH = 2**20
"""Of images that take 12 GiB."""
IMAGE = (32, 32, 3)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model and its batch size in training, written MODEL@BATCH."""

    model: str
    batch_size: int
    precision: PrecisionName = "float32"

    def __str__(self) -> str:
        return f"{self.model}@{self.batch_size}"


@dataclasses.dataclass(frozen=True)
class Task:
    """What one variant after another is timed at."""

    model: str
    batch_size: int
    mode: ModeName
    precision: PrecisionName

    def __str__(self) -> str:
        precision = "" if self.precision == "float32" else f" {self.precision}"
        return f"{self.model}@{self.batch_size} {self.mode}{precision}"


ANYWHERE = (
    Workload("simple_cnn", 32),  # the notebook's
    Workload("simple_cnn", 256),
    Workload("resnet18", 16),  # the notebook's
    Workload("resnet18:stem=cifar", 128),
    Workload("resnet50", 32),
)
ON_A_GPU = (Workload("resnet18:stem=cifar", 512, "bf16"),)


def chosen_workloads(names: Sequence[str], gpu: bool) -> list[Workload]:
    """The workloads of these names; of none, the standard ones for the device.

    Raises:
        InputError: a name that is no MODEL@BATCH.
    """
    known = {str(workload): workload for workload in (*ANYWHERE, *ON_A_GPU)}
    if not names:
        return [*ANYWHERE, *(ON_A_GPU if gpu else ())]
    return list(dict.fromkeys(known.get(name) or _parsed(name, known) for name in names))


def _parsed(name: str, known: Sequence[str] | dict[str, Workload]) -> Workload:
    model, sign, size = name.rpartition("@")
    digits = size.isascii() and size.isdecimal() and len(size) < 9
    if not (sign and model and digits and 1 < int(size) <= LARGEST_BATCH):
        raise InputError(
            f"--workloads {shown(name)!r} is not MODEL@BATCH with a batch of 2 to "
            f"{LARGEST_BATCH:,}; the standard ones are {', '.join(known)}"
        )
    return Workload(str(chosen_model(model)), int(size))


def tasks(
    workloads: Sequence[Workload], modes: Sequence[ModeName], precision: PrecisionName | None
) -> list[Task]:
    """Every workload in every mode; two workloads of one model have the same inference.

    Args:
        workloads: models, with their batch sizes in training and their precisions.
        modes: of "train" and "inference".
        precision: in place of the workloads' own.
    """
    found = [
        Task(
            workload.model,
            workload.batch_size if mode == "train" else INFERENCE_BATCH,
            mode,
            precision or workload.precision,
        )
        for workload in workloads
        for mode in modes
    ]
    return list(dict.fromkeys(found))
