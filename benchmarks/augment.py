"""What augmentation inside the step costs: its steps against plain ones, in JAX, on this machine.

    python benchmarks/augment.py

The same net trains plainly, with crop and flip drawn as PyTorch draws them, with them drawn on the
device, and with a cutout as well: compiled epochs, in blocks, in turns. It wants a quiet machine.
Writes augment.json, after every round, and augment.md beside this file.
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np

from benchmarks.epoch_blocks import blocks
from jax_impl.data.augmentation import NOTHING, Augmentation
from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.model import from_spec
from jax_impl.torch_random.generator import Generator
from jax_impl.torch_random.loader import augmentation_draws
from jax_impl.training import optim
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.precision import set_precision
from jax_impl.training.state import create_state
from parity.shell import cli
from parity.shell.environment import describe
from parity.shell.files import to_json, write_whole
from parity.speed.statistics import estimate, ratio
from parity.speed.workloads import chosen_workloads

ROOT = Path(__file__).resolve().parents[1]
IMAGES, BAR = 10_000, 1.05
BOTH, ALL = Augmentation(crop=4, flip=True), Augmentation(crop=4, flip=True, cutout=16)
WAYS: dict[str, tuple[Augmentation, bool]] = {
    "plain": (NOTHING, False),
    "crop and flip, PyTorch's draws": (BOTH, True),
    "crop and flip, JAX's draws": (BOTH, False),
    "crop, flip and cutout, JAX's draws": (ALL, False),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Times augmented steps against plain ones."""

    workloads: tuple[str, ...] = ("simple_cnn@32", "resnet18@16")
    """MODEL@BATCH"""

    rounds: int = 12
    """blocks of each way"""

    seconds: float = 1.0
    """of a block, about"""

    out: Path = ROOT / "benchmarks"
    """directory for augment.json and augment.md"""


def main(options: Options) -> None:
    """Measures, prints and writes."""
    if options.rounds < 1 or not 0 < options.seconds <= 3600:
        raise InputError("--rounds and --seconds: give 1 or more, and seconds above 0")
    workloads = chosen_workloads(options.workloads, gpu=False)
    options.out.mkdir(parents=True, exist_ok=True)
    device = jax.devices()[0]
    set_precision("float32", device.platform)
    environment = describe("cpu") | {
        "command": "python benchmarks/augment.py",
        "jax device": device.device_kind,
    }
    content = {"environment": environment, "samples": {}}
    for workload in workloads:
        timed = {way: trainer(workload, *how) for way, how in WAYS.items()}
        steps = {}
        for way, block in timed.items():
            block(100)  # compiles
            steps[way] = max(1, round(options.seconds / block(100))) * 100
        samples = content["samples"][str(workload)] = {way: [] for way in WAYS}
        for turn in range(options.rounds):
            for way in list(WAYS)[:: 1 if turn % 2 else -1]:
                samples[way].append(timed[way](steps[way]) / steps[way])
            write_whole(options.out / "augment.json", (to_json(content, indent=2) + "\n").encode())
    text = to_markdown(content)
    write_whole(options.out / "augment.md", text.encode())
    print(text)


def trainer(workload: Any, augmentation: Augmentation, by_torch: bool) -> Callable:
    """Seconds of so many steps."""
    model, optimizer = from_spec(registry.parse(workload.model)), optim.adam()
    epoch = make_train_epoch(model, optimizer, workload.batch_size, None, augmentation)
    rng, generator = np.random.default_rng(0), Generator(0)

    def visit(steps: int) -> tuple[Any, ...]:
        count = steps * workload.batch_size
        order = rng.integers(0, IMAGES, count)
        if not (augmentation and by_torch):
            return (order,)
        crop = augmentation.crop
        return order, augmentation_draws(generator, count, crop=crop, flip=True)

    return blocks(epoch, create_state(model.init(0), optimizer), IMAGES, visit)


def to_markdown(content: dict[str, Any]) -> str:
    """A row for each way of each workload."""
    environment = content["environment"]
    lines = [
        "# Augmentation inside the step",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {environment['cores']} cores; JAX on {environment['jax device']}",
        f"- bar: {BAR:.2f} times a plain step",
        "",
        "| training | way | ms a step | times a plain step | 95 % |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for (workload, samples), way in itertools.product(content["samples"].items(), WAYS):
        step, times = estimate(samples[way]), ratio(samples[way], samples["plain"])
        lines.append(
            f"| `{workload}` | {way} | {1e3 * step.median:.2f} | {times.median:.3f} | "
            f"{times.low:.3f} to {times.high:.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
