"""What checkpoints cost: trainings that save after every epoch against ones that do not.

    python benchmarks/checkpoints.py

The same command trains the same net with --checkpoint-every 1 and 0, each run a process of its
own, in turns. Compared is the whole run from its line that names the run directory on: compiling,
epochs, evaluations and the last save; starting Python is not in it. It wants a quiet machine.
Writes checkpoints.json, after every run, and checkpoints.md beside this file.
"""

import dataclasses
import json
import os
import subprocess
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
from parity.speed.statistics import estimate, ratio

ROOT = Path(__file__).resolve().parents[1]
BAR = 1.02
WAYS = {"none": "0", "after every epoch": "1"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Times trainings with checkpoints against trainings without."""

    model: str = "simple_cnn"
    """what is trained, by the notebook's recipe"""

    framework: str = "jax"
    """or torch"""

    epochs: int = 3
    """of each training"""

    rounds: int = 5
    """trainings of each way"""

    out: Path = ROOT / "benchmarks"
    """directory for checkpoints.json and checkpoints.md"""


def main(options: Options) -> None:
    """Measures, prints and writes."""
    if min(options.rounds, options.epochs) < 1:
        raise InputError("--rounds and --epochs: give 1 or more")
    if options.framework not in ("jax", "torch"):
        raise InputError(f"--framework {options.framework}: give jax or torch")
    registry.parse(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "environment": describe("cpu") | {"command": "python benchmarks/checkpoints.py"},
        "model": options.model,
        "framework": options.framework,
        "epochs": options.epochs,
        "samples": {way: [] for way in WAYS},
    }
    for turn in range(options.rounds):
        for way in list(WAYS)[:: 1 if turn % 2 else -1]:
            content["samples"][way].append(timed(options, WAYS[way]))
            path = options.out / "checkpoints.json"
            write_whole(path, (to_json(content, indent=2) + "\n").encode())
    text = to_markdown(content)
    write_whole(options.out / "checkpoints.md", text.encode())
    print(text)


def timed(options: Options, every: str) -> dict[str, float]:
    """Of one training: of its epochs alone, and from its first line to the end of its process."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "parity", "train", "--model", options.model]
        command += ["--framework", options.framework, "--epochs", str(options.epochs)]
        command += ["--checkpoint-every", every, "--out", str(run), "--device", "cpu"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        began = 0.0
        for line in process.stdout:
            if "run directory" in line:
                began = time.perf_counter()
        if process.wait():
            raise InputError(f"{' '.join(command)} ended with status {process.returncode}")
        seconds = time.perf_counter() - began
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {"epochs": sum(row.get("seconds", 0) for row in rows), "whole": seconds}


def to_markdown(content: dict[str, Any]) -> str:
    """A row for each way."""
    environment, samples = content["environment"], content["samples"]
    lines = [
        "# What checkpoints cost",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {environment['cores']} cores",
        f"- {content['model']} in {content['framework']}, {content['epochs']} epochs",
        f"- bar: {BAR:.2f} times a training without",
        "",
        "| checkpoints | seconds of the epochs | of the whole run | times without | 95 % |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    whole = {way: [each["whole"] for each in runs] for way, runs in samples.items()}
    for way, runs in samples.items():
        epochs = estimate([each["epochs"] for each in runs])
        times = ratio(whole[way], whole["none"])
        lines.append(
            f"| {way} | {epochs.median:.1f} | {estimate(whole[way]).median:.1f} | "
            f"{times.median:.3f} | {times.low:.3f} to {times.high:.3f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
