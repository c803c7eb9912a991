"""The small CNN by the notebook's recipe on CIFAR-10: several seeds in both frameworks.

    python benchmarks/accuracy.py --seeds 0 1 2

For each seed both frameworks start from the same weights and see the same batches. Takes about
eight minutes a seed on two CPU cores; writes accuracy.json and accuracy.md beside this file.
"""

import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jax_impl.errors import InputError
from parity.report import markdown
from parity.shell import cli
from parity.shell.files import to_json, write_whole

HERE = Path(__file__).resolve().parent
RANGE = (0.72, 0.76)
"""Mean test accuracy; the notebook's single run gave 0.7422."""

MEANS_WITHIN = 0.01
LOSSES_WITHIN = 0.05


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains the small CNN from several seeds in both frameworks."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """of the initial weights and the batches"""

    data_dir: Path | None = None
    """where prepared CIFAR-10 lies; by default $PARITY_DATA_DIR or the user's cache directory"""

    out: Path = HERE
    """directory for accuracy.json and accuracy.md"""


def main(options: Options) -> int:
    """Returns 0 if the bars are met, 1 if not."""
    import jax_impl.data.datasets
    import torch_ref.data
    from parity.ladder.rungs import accuracy
    from parity.pairs.pair import create_pair
    from parity.shell import data_choice
    from parity.shell.console import Console
    from parity.shell.environment import choose_device, describe, pin_precision

    if not options.seeds:
        raise InputError("--seeds needs at least one number")
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    device = choose_device("auto")
    pin_precision()
    choice = data_choice.resolve("cifar10", options.data_dir, console.line)
    console.line(choice.reason)
    directory = jax_impl.data.datasets.data_directory(options.data_dir)
    ours = jax_impl.data.datasets.load_dataset("cifar10", directory)
    theirs = torch_ref.data.load("cifar10", directory)
    pair = create_pair("simple_cnn")
    environment = describe(device)
    environment["command"] = " ".join(["python benchmarks/accuracy.py", *sys.argv[1:]])
    runs, summary, text = list[dict[str, Any]](), {}, ""
    for seed in options.seeds:
        outcome = accuracy.run(
            pair,
            pair.model.init(seed),
            ours,
            theirs,
            seed=seed,
            budget=0,
            full=True,
            device=device,
            console=console,
        )
        runs += [{"seed": seed, **dataclasses.asdict(training)} for training in outcome.trainings]
        summary = summarise(runs)  # of the seeds so far: a run that is stopped loses nothing
        content = {"environment": environment, "summary": summary, "runs": runs}
        text = to_markdown(environment, summary, runs)
        write_whole(options.out / "accuracy.json", (to_json(content, indent=2) + "\n").encode())
        write_whole(options.out / "accuracy.md", text.encode())
    console.line(text)
    return 0 if summary["passed"] else 1


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means, the largest difference of two epoch losses, and whether the bars are met."""
    by_framework = {
        framework: [run for run in runs if run["framework"] == framework]
        for framework in ("JAX", "PyTorch")
    }
    means = {
        framework: statistics.mean(run["accuracy"] for run in found)
        for framework, found in by_framework.items()
    }
    difference = max(
        abs(ours - theirs) / theirs
        for first, second in zip(*by_framework.values(), strict=True)
        for ours, theirs in zip(first["losses"], second["losses"], strict=True)
    )
    passed = (
        all(RANGE[0] <= mean <= RANGE[1] for mean in means.values())
        and abs(means["JAX"] - means["PyTorch"]) <= MEANS_WITHIN
        and difference <= LOSSES_WITHIN
    )
    return {"mean_accuracy": means, "largest_loss_difference": difference, "passed": passed}


def to_markdown(
    environment: dict[str, Any], summary: dict[str, Any], runs: list[dict[str, Any]]
) -> str:
    """A row a run, and the bars."""
    means = summary["mean_accuracy"]
    difference = 100 * abs(means["JAX"] - means["PyTorch"])
    lines = [
        "# The small CNN on CIFAR-10, several seeds",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['device']}; {environment['cpu']}, {environment['cores']} cores",
        f"- mean accuracy {100 * means['JAX']:.2f} % in JAX, {100 * means['PyTorch']:.2f} % in "
        f"PyTorch (bar: 72 to 76 %), {difference:.2f} points apart (bar: 1)",
        f"- epoch losses differ by at most {100 * summary['largest_loss_difference']:.2f} % "
        "(bar: 5 %)",
        f"- **{'PASSED' if summary['passed'] else 'FAILED'}**",
        "",
        *markdown.trainings(runs),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
