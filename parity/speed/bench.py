"""What a worker does: it holds one variant and times blocks of its steps."""

import importlib
import resource
import sys
import time
from pathlib import Path
from typing import Any

from parity.speed.runner import CHECKED, Runner, Setup, load_arrays
from parity.speed.workloads import Task

CLOSE = 0.2
"""A block whose time is off by this share of what was asked for is fitted again."""


class BenchWorker:
    """One variant of one task."""

    runner: Runner

    def start(
        self, maker: str, settings: dict[str, Any], task: dict[str, Any], device: str, lr: float,
        files: str,
    ) -> dict[str, Any]:  # fmt: skip
        """Builds the variant on the arrays in the directory `files` and takes its first steps.

        Returns:
            import_seconds: of the framework and this project's side of it.
            build_seconds: from arrays to a model and its data on the device.
            first_seconds: of the first call, with compilation; it takes first_steps steps.
            losses: of the first `CHECKED` steps.
        """
        started = time.perf_counter()
        module, _, function = maker.partition(":")
        make = getattr(importlib.import_module(module), function)
        imported = time.perf_counter()
        setup = load_setup(Task(**task), settings, device, lr, Path(files))
        self.base_bytes = peak_bytes()
        loaded = time.perf_counter()
        self.runner = make(setup)
        built = time.perf_counter()
        losses, seconds, first_steps = [], [], 0
        for found in self.runner.losses():
            seconds.append(time.perf_counter())
            first_steps = first_steps or len(found)
            losses += found
        return {
            "import_seconds": imported - started,
            "build_seconds": built - loaded,
            "first_seconds": seconds[0] - built,
            "first_steps": first_steps,
            "losses": losses[:CHECKED],
        }

    def fit(self, seconds: float) -> int:
        """The number of steps of a block of about so many seconds."""
        # What the first call compiled serves so many steps.
        probe = self.runner.fit(CHECKED)
        steps = self.runner.fit(max(1, round(probe * seconds / self.block(probe))))
        took = self.block(steps)
        if abs(took - seconds) > CLOSE * seconds:
            steps = self.runner.fit(max(1, round(steps * seconds / took)))
        return steps

    def block(self, steps: int) -> float:
        """Seconds of `steps` steps, until the device is done."""
        started = time.perf_counter()
        self.runner.advance(steps)
        return time.perf_counter() - started

    def block_after_others(self, steps: int) -> float:
        """`block`, after an untimed one.

        While other processes worked, their data filled the caches and the system, a virtual
        machine's host above all, took back memory that this one freed.
        """
        self.runner.advance(steps)
        return self.block(steps)

    def facts(self) -> dict[str, Any]:
        """Peak memory of this process, also before the variant was built, and `Runner.facts`."""
        return {
            "peak_bytes": peak_bytes(),
            "base_bytes": self.base_bytes,
            **self.runner.facts(),
        }


def load_setup(task: Task, settings: dict[str, Any], device: str, lr: float, files: Path) -> Setup:
    """A setup from the arrays that `prepare` saved."""
    data = load_arrays(files / "data.npz")
    order = load_arrays(files / "orders.npz")[str(task.batch_size)]
    weights = load_arrays(weights_path(files, task.model))
    return Setup(task, settings, device, lr, data["images"], data["labels"], order, weights)


def weights_path(files: Path, model: str) -> Path:
    """Where a model's initial weights are."""
    return files / f"weights-{model}.npz"


def peak_bytes() -> int:
    """The most memory that this process has had."""
    # Linux hands the peak that getrusage tells down from the process that started this one.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
