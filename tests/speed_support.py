"""What the tests of `parity speed` are made of."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from jax_impl.models import registry
from parity.shell.options import ModeName, PrecisionName, SpeedOptions
from parity.speed.bench import weights_path
from parity.speed.prepare import order
from parity.speed.results import SpeedReport, TaskResult
from parity.speed.rounds import Block, Timing
from parity.speed.runner import Setup, save_arrays
from parity.speed.variants import FrameworkName, Variant
from parity.speed.workloads import Task

TINY = "simple_cnn:channels=4,8:hidden=16"
NARROW = "resnet18:width=4"
TASK = Task("simple_cnn", 4, "train", "float32")
ODD = "speed_variants:Odd"


def fake(name: str, framework: FrameworkName = "JAX", **settings) -> Variant:
    settings = {"losses": [1.0, 2.0, 3.0], **settings}
    return Variant(framework, name, "speed_variants:make_fake", settings)


def timing(framework: FrameworkName, variant, throughputs, task=TASK, **fields) -> Timing:
    blocks = tuple(Block(task.batch_size / value, 1, 0.0) for value in throughputs)
    fields = {"warm_up": (1.0, 1.0), "first_seconds": 1.0, "first_steps": 1} | fields
    return Timing(task, framework, variant, blocks=blocks, **fields)


def report_of(*results: TaskResult, **fields) -> SpeedReport:
    environment = {
        "command": "c", "commit": "a", "python": "3", "platform": "p", "cpu": "c", "cores": 2,
        "device": "cpu", "precision": "p", "packages": {"jax": "1"},
        "variables": {"OMP_NUM_THREADS": "2"},
    }  # fmt: skip
    data, options = {"name": "digits", "reason": "data: digits"}, dataclasses.asdict(SpeedOptions())
    return SpeedReport(environment, data, options, 0.0, results, **fields)


def gone(pid: int) -> bool:
    """Whether a process ends within a few seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def save_setup(path: Path, model: str, weights, batch_size: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, 64).astype(np.int32)
    save_arrays(path / "data.npz", {"images": images, "labels": labels})
    save_arrays(path / "orders.npz", {str(batch_size): order(64, batch_size, 0)})
    save_arrays(weights_path(path, model), weights)


def setup_of(
    model: str, mode: ModeName, precision: PrecisionName = "float32", batch_size=4
) -> Setup:
    from jax_impl.models.model import from_spec
    from parity.pairs.weights import to_arrays

    made = from_spec(registry.parse(model))
    rng = np.random.default_rng(0)
    return Setup(
        Task(model, batch_size, mode, precision),
        {},
        "cpu",
        1e-3,
        rng.integers(0, 256, (64, 32, 32, 3), np.uint8),
        rng.integers(0, 10, 64).astype(np.int32),
        order(64, batch_size, 0),
        to_arrays(made.init(0), made),
    )
