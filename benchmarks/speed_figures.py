"""README's figures of speed, and what all of its figures are made with."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError, one_line

ROOT = Path(__file__).resolve().parents[1]


def load(name: str) -> dict[str, Any]:
    """A result under benchmarks/, by its path without the ending."""
    path = ROOT / "benchmarks" / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {one_line(error)}") from error


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], right: Iterable[int] = ()) -> str:
    """A Markdown table; the columns `right` hold numbers."""
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def indented(lines: Iterable[str]) -> str:
    """As a page shows what is printed."""
    return "\n".join(f"    {each}" for each in lines)


def wrapped(text: str, width: int = 100) -> str:
    """Lines of a page, broken between words."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if len(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def speed() -> str:
    """Every task of training and inference on two cores."""
    return ratios([*load("speed/speed")["tasks"], *load("speed/inference/speed")["tasks"]])


def xeon() -> str:
    """The trainings on another machine."""
    return ratios(load("speed/xeon/speed")["tasks"])


def ratios(tasks: Iterable[dict[str, Any]]) -> str:
    """A row a task."""
    head = (
        "workload",
        "JAX, images/s",
        "PyTorch, images/s",
        "JAX / PyTorch, 95 %",
        "to the notebook's eager code",
    )
    rows = []
    for task in tasks:
        ours, theirs = (best(task, framework) for framework in ("JAX", "PyTorch"))
        ratio, eager = task["jax_to_best"], task["jax_to_eager"]
        rows.append(
            (
                f"{task['mode']} `{task['model']}`, batch {task['batch_size']}",
                f"{ours:,.0f}",
                f"{theirs:,.0f}",
                f"{ratio['median']:.2f}, {ratio['low']:.2f} to {ratio['high']:.2f}",
                f"{eager['median']:.2f}",
            )
        )
    return table(head, rows, right=(1, 2, 4))


def lowerings() -> str:
    """Images a second of this project's code, and without each part of it."""
    names = "scan", "every_weight", "im2col", "stock", "stock_jit"
    rows = []
    for task in load("speed/lowerings/speed")["tasks"]:
        speeds = {row["variant"]: row["images_per_second"]["median"] for row in task["timings"]}
        workload = f"{task['mode']} `{task['model']}`, batch {task['batch_size']}"
        rows.append((workload, *(f"{speeds[name]:,.0f}" for name in names)))
    head = ("images/s", *(f"`{name}`" for name in names))
    return table(head, rows, right=range(1, len(head)))


def level() -> str:
    """The tasks in which PyTorch's best is near JAX's."""

    def ratio(name: str, mode: str) -> str:
        (task,) = (
            task
            for task in load(f"speed/{name}")["tasks"]
            if task["model"] == "resnet18:stem=cifar" and task["mode"] == mode
        )
        found = task["jax_to_best"]
        return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"

    return wrapped(
        f"Training `resnet18` with the cifar stem at batch 128 is {ratio('speed', 'train')} of "
        "`torch.compile`'s throughput in the [run of all](../benchmarks/speed/speed.md), "
        f"{ratio('cifar/speed', 'train')} in [one with four "
        "variants](../benchmarks/speed/cifar/speed.md), and "
        f"{ratio('xeon/speed', 'train')} on the [Xeon](../benchmarks/speed/xeon/speed.md), of an "
        f"earlier version; in inference it is {ratio('inference/speed', 'inference')} of "
        "`torch.compile` with [frozen weights](../benchmarks/speed/inference/speed.md). Most of "
        "that step is products, and those of Winograd's kernel gradient with 64 channels run far "
        "below the machine's rate."
    )


def best(task: dict[str, Any], framework: str) -> float:
    """Images a second of the framework's best variant."""
    name = task["best"][framework]
    return next(
        timing["images_per_second"]["median"]
        for timing in task["timings"]
        if (timing["framework"], timing["variant"]) == (framework, name)
    )


def again() -> str:
    """The second run of the closest task, and the notebook from start to end."""
    ratio = load("speed/cifar/speed")["tasks"][0]["jax_to_best"]
    seconds = {
        (run["framework"], run["variant"]): run["seconds"]
        for run in load("speed/notebook/speed")["notebook"]
    }
    theirs = [value for (framework, _), value in seconds.items() if framework == "PyTorch"]
    return wrapped(
        "The cifar stem at batch 128 is close: `torch.compile` varies between runs, and another, "
        f"against eager and two forms of it, gave {ratio['median']:.2f} ({ratio['low']:.2f} to "
        f"{ratio['high']:.2f}) ([run](../benchmarks/speed/cifar/speed.md)). The notebook's five "
        "epochs of the small CNN and its test, compilation included, take "
        f"{seconds['JAX', 'scan']:.1f} s in JAX, {min(theirs):.1f} s in PyTorch at its best and "
        f"{seconds['PyTorch', 'eager']:.1f} s by eager code, one run each "
        "([run](../benchmarks/speed/notebook/speed.md))."
    )


def timed(folder: str, step: str) -> tuple[str, str, str]:
    """A GPU's task."""
    task = load(f"gpu/speed/{folder}/speed")["tasks"][0]
    model, precision = task["model"], {"bf16": ", bfloat16"}.get(task["precision"], "")
    ratio, name = task["jax_to_best"], task["best"]["PyTorch"]
    return (
        f"train `{model}`, batch {task['batch_size']}{precision}, images/s",
        f"`benchmarks/gpu.sh speed-{step}`",
        f"JAX {best(task, 'JAX'):,.0f}, PyTorch's best tried, `{name}`, "
        f"{best(task, 'PyTorch'):,.0f}: {ratio['median']:.2f}, {ratio['low']:.2f} to "
        f"{ratio['high']:.2f}; to the notebook's eager code {task['jax_to_eager']['median']:.1f}",
    )
