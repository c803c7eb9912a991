"""What trainings whose run directories are kept under benchmarks/training came to."""

import json
from typing import Any

from benchmarks.speed_figures import ROOT, indented, load, wrapped
from parity.report.evaluation import wilson
from parity.report.training_log import accuracy_line, epoch_line


def training() -> str:
    """What a training prints, in part."""
    *epochs, last = metrics("training/resnet20_short")
    lines = [epoch_line(row) for row in epochs]
    return indented([*lines[:2], "...", *lines[-1:], accuracy_line(last["test_accuracy"])])


def trained() -> str:
    """What the project's own short recipe comes to, as a sentence."""
    name = "training/resnet20_short"
    *epochs, last = metrics(name)
    config = load(f"{name}/config")
    low, high = wilson(round(last["test_accuracy"] * 10_000), 10_000)
    hours = sum(row["seconds"] for row in epochs) / 3600
    mirrored = load(f"{name}/mirrored")
    return wrapped(
        f"`resnet20_short` is {config['model']} ({config['parameters']:,} parameters) trained for "
        f"{config['epochs']} epochs: test accuracy {100 * last['test_accuracy']:.2f} % (95 % "
        f"interval of the 10,000 images: {100 * low:.1f} to {100 * high:.1f} %), with the mirror "
        f"images' logits added {100 * mirrored['accuracy']:.2f} % "
        "(`parity evaluate RUN --mirror`). One run, in "
        f"{hours:.1f} hours on two cores that also had other work "
        f"([run](benchmarks/{name}/metrics.jsonl))."
    )


def metrics(name: str) -> list[dict[str, Any]]:
    """The rows of a training whose folder is kept under benchmarks."""
    text = (ROOT / "benchmarks" / name / "metrics.jsonl").read_text()
    return [json.loads(row) for row in text.splitlines()]
