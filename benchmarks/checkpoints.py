"""What checkpoints cost a training, measured within it.

    python benchmarks/checkpoints.py

Trains a net in JAX with a checkpoint after every epoch, in this process. Counted are the seconds
that the training waits for a checkpoint (copying the state, and the one before that is still being
written), and what writing takes from it in the background: the processor seconds of a save of the
same state, all threads together, measured alone after the training, as a share of the cores. Their
sum is set against the seconds of the epochs. Whole runs with and without checkpoints, set against
each other, say less: they differ by more than this from one minute to the next.
Writes checkpoints.json, after every training, and checkpoints.md beside this file.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jax_impl.errors import InputError
from jax_impl.models import registry
from parity.shell import cli
from parity.shell.environment import describe
from parity.shell.files import to_json, write_whole
from parity.shell.train_options import TrainOptions

ROOT = Path(__file__).resolve().parents[1]
BAR = 0.02
ALONE = 3
"""Saves that are measured alone."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures what checkpoints take of a training."""

    models: tuple[str, ...] = ("simple_cnn", "resnet18")
    """what is trained, by the notebook's recipe"""

    epochs: int = 1
    """of each training"""

    rounds: int = 2
    """trainings of each net"""

    out: Path = ROOT / "benchmarks"
    """directory for checkpoints.json and checkpoints.md"""


def main(options: Options) -> None:
    """Measures, prints and writes."""
    if min(options.rounds, options.epochs) < 1:
        raise InputError("--rounds and --epochs: give 1 or more")
    for model in options.models:
        registry.parse(model)
    options.out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "environment": describe("cpu") | {"command": "python benchmarks/checkpoints.py"},
        "epochs": options.epochs,
        "samples": {model: [] for model in options.models},
    }
    for _ in range(options.rounds):
        for model in options.models:
            content["samples"][model].append(measured(model, options.epochs))
            path = options.out / "checkpoints.json"
            write_whole(path, (to_json(content, indent=2) + "\n").encode())
    text = to_markdown(content)
    write_whole(options.out / "checkpoints.md", text.encode())
    print(text)


def measured(model: str, epochs: int) -> dict[str, float]:
    """Of one training: seconds of its epochs, waited for checkpoints, and of a save alone."""
    from parity.commands import jax_training, train_jax

    taken = {"waited": 0.0, "processor": 0.0, "saves": 0.0}

    class Timed(jax_training.Checkpoints):
        """Counts what the training's own thread spends in here."""

        def save(self, step: int, state: Any, progress: Any, metric: float | None = None) -> None:
            began = time.perf_counter()
            super().save(step, state, progress, metric)
            taken["waited"] += time.perf_counter() - began
            taken["saves"] += 1
            self.last = step, state, progress, metric

        def close(self) -> None:
            began = time.perf_counter()
            super().wait()
            taken["waited"] += time.perf_counter() - began
            step, state, progress, metric = self.last
            for number in range(1, ALONE + 1):
                began = time.process_time()
                super().save(step + number, state, {**progress, "step": step + number}, metric)
                super().wait()
                taken["processor"] += (time.process_time() - began) / ALONE
            super().close()

    plain, jax_training.Checkpoints = jax_training.Checkpoints, Timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            train_jax.run(TrainOptions(model=model, epochs=epochs, out=run, device="cpu"))
            rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    finally:
        jax_training.Checkpoints = plain
    return {"epochs": sum(row.get("seconds", 0) for row in rows), **taken}


def share(sample: dict[str, float], cores: int) -> float:
    """Of the epochs' seconds."""
    background = sample["saves"] * sample["processor"] / cores
    return (sample["waited"] + background) / sample["epochs"]


def to_markdown(content: dict[str, Any]) -> str:
    """A row for each net."""
    environment, cores = content["environment"], content["environment"]["cores"]
    lines = [
        "# What checkpoints cost",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {cores} cores; in JAX, a checkpoint after each of "
        f"{content['epochs']} epochs by the notebook's recipe",
        f"- bar: {BAR:.0%} of the epochs' seconds",
        "",
        "| training | an epoch, s | waits for a checkpoint, s | processor seconds of a save | "
        "share of the epochs, each training |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for model, samples in content["samples"].items():
        epoch, waited, processor = (
            statistics.median(value)
            for value in (
                [each["epochs"] / content["epochs"] for each in samples],
                [each["waited"] / each["saves"] for each in samples],
                [each["processor"] for each in samples],
            )
        )
        shares = ", ".join(f"{share(each, cores):.2%}" for each in samples)
        lines.append(f"| `{model}` | {epoch:.1f} | {waited:.3f} | {processor:.3f} | {shares} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
