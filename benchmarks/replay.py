"""Same seed, same run: JAX replays `torch.manual_seed(seed)` and the notebook's training.

    python benchmarks/replay.py

Nothing but the seed is shared. The small CNN on CIFAR-10 by the notebook's recipe: the losses of
the first steps in float64, then whole trainings in float32 from each seed, with the steps' first
losses, epoch losses and test accuracies; what training itself makes of a rounding, by JAX against
JAX from weights moved by one: the first losses `REPLICAS` times for each seed, the epoch losses
once for the first seed; and the seconds that the draws take on one core. Writes replay.json and
replay.md beside this file.
"""

import dataclasses
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed_figures import load
from jax_impl.errors import InputError
from parity.report import markdown
from parity.shell import cli
from parity.shell.files import to_json, write_whole

HERE = Path(__file__).resolve().parent
FIRST = 20
REPLICAS = 20
MOVED = "JAX, weights moved by one rounding"
SECONDS = {"init of resnet152, s": 6.0, "randperm(50,000), s": 0.05}
"""On one core; the other bars follow from rounding and from chance."""
WISHES = {
    "first losses": 1e-4, "epoch losses": 0.02, "points a seed": 1.5, "points in the mean": 0.8,
}  # fmt: skip
"""How near the two were meant to be, before it was known how far rounding takes them."""
TEST_IMAGES = 10_000


@dataclasses.dataclass(frozen=True)
class Options:
    """Replays the notebook's small CNN from several seeds."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """what torch.manual_seed would be given"""

    steps: int = 200
    """in float64, of the first seed"""

    data_dir: Path | None = None
    """where prepared CIFAR-10 lies; by default $PARITY_DATA_DIR or the user's cache directory"""

    out: Path = HERE
    """directory for replay.json and replay.md"""

    judge: bool = False
    """only judge again what replay.json has, without training"""


def main(options: Options) -> int:
    """Returns 0 if the bars are met, 1 if not."""
    import jax_impl.data.datasets
    import torch_ref.data
    from parity.ladder.rungs import replay
    from parity.pairs.pair import create_pair
    from parity.shell import data_choice
    from parity.shell.environment import choose_device, describe, pin_precision

    if not options.seeds:
        raise InputError("--seeds needs at least one number")
    if options.steps < 1:
        raise InputError(f"--steps is {options.steps}: give 1 or more")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.judge:
        content = load("replay")
        return _judged(content, options.out)
    device = choose_device("auto")
    pin_precision()
    choice = data_choice.resolve("cifar10", options.data_dir, print)
    print(choice.reason)
    directory = jax_impl.data.datasets.data_directory(options.data_dir)
    ours = jax_impl.data.datasets.load_dataset("cifar10", directory)
    theirs = torch_ref.data.load("cifar10", directory)
    pair = create_pair("simple_cnn")
    timings = draws()
    wide = replay.replay(pair, ours, theirs[0], options.seeds[0], options.steps, device)
    print(f"float64: {wide.measured:.1e}; {wide.detail}", flush=True)
    environment = describe(device)
    environment["command"] = " ".join(["python benchmarks/replay.py", *sys.argv[1:]])
    content: dict[str, Any] = {"environment": environment, "passed": None, "figures": {}}
    runs: list[dict[str, Any]] = []

    def write() -> None:
        text = to_json(content | {"runs": runs}, indent=2) + "\n"
        write_whole(options.out / "replay.json", text.encode())

    for seed in options.seeds:
        for train in (train_jax, train_torch):
            runs.append({"seed": seed, **train(pair, ours, theirs, seed, device)})
            write()
            print({k: v for k, v in runs[-1].items() if k != "first"}, flush=True)
    again = train_jax(pair, ours, theirs, options.seeds[0], device, moved=True)
    again |= {"seed": options.seeds[0], "framework": MOVED}
    figures = {"float64 losses": wide.measured, **summarise(runs), **timings}
    figures["JAX's own first losses"] = max(own_first(pair, ours, seed) for seed in options.seeds)
    figures["JAX's own epoch losses"] = furthest(again, runs[0], "losses")
    runs.append(again)
    return _judged(content | {"figures": figures, "runs": runs}, options.out)


def _judged(content: dict[str, Any], out: Path) -> int:
    """Writes whether the bars are met, and both files; returns 0 if they are."""
    figures, runs = content["figures"], content["runs"]
    bars = bars_of(figures, runs)
    passed = all(figures[name] <= bar for name, bar in bars.items())
    content |= {"passed": passed, "bars": bars, "wishes": WISHES}
    write_whole(out / "replay.json", (to_json(content, indent=2) + "\n").encode())
    text = to_markdown(content)
    write_whole(out / "replay.md", text.encode())
    print(text)
    return int(not content["passed"])


def bars_of(figures: dict[str, float], runs: list[dict[str, Any]]) -> dict[str, float]:
    """How far the two may be apart, from the same as the ladder's tolerances.

    In float64 as far as trained parameters; the first float32 losses, as all of float32, by four
    times the noise: what JAX from weights moved by one rounding differs by from itself; whole
    epochs as in the `accuracy` rung; the accuracies by three standard errors of a difference
    between two of as many images.
    """
    from parity.ladder.rungs.accuracy_verdict import LOSS_TOLERANCE
    from parity.ladder.rungs.runs import PARAMETERS_BAR
    from parity.ladder.tolerance import DIFFERENCE_MULTIPLE

    chance = statistics.mean(run["accuracy"] for run in runs)
    points = 300 * math.sqrt(2 * chance * (1 - chance) / TEST_IMAGES)
    seeds = len({run["seed"] for run in runs})
    return {
        "float64 losses": PARAMETERS_BAR,
        "first losses": DIFFERENCE_MULTIPLE * figures["JAX's own first losses"],
        "epoch losses": LOSS_TOLERANCE,
        "points a seed": points,
        "points in the mean": points / math.sqrt(seeds),
        **SECONDS,
    }


def draws() -> dict[str, float]:
    """Seconds for the weights of resnet152 and for a permutation, the median of three."""
    from jax_impl.models.model import create_model
    from jax_impl.torch_random.generator import Generator

    model = create_model("resnet152", num_classes=1000)

    def median(work: Callable[[], Any]) -> float:
        samples = []
        for _ in range(3):
            started = time.perf_counter()
            work()
            samples.append(time.perf_counter() - started)
        return statistics.median(samples)

    return {
        "init of resnet152, s": median(lambda: model.init(0)),
        "randperm(50,000), s": median(lambda: Generator(0).randperm(50_000)),
    }


def train_jax(
    pair: Any, ours: Any, theirs: Any, seed: int, device: str, moved: bool = False
) -> dict[str, Any]:
    """`scripts/train_jax.py --seed SEED`, with every step's loss of the first epoch.

    With `moved`, every initial weight is moved by at most one rounding of float32.
    """
    from jax_impl.torch_random.generator import Generator
    from jax_impl.torch_random.loader import loader_orders
    from jax_impl.training import optim
    from jax_impl.training.epoch import make_train_epoch
    from jax_impl.training.evaluate import make_evaluate
    from jax_impl.training.fit import fit
    from jax_impl.training.state import create_state
    from parity.ladder.rounding import moved_tree

    del theirs, device
    recipe, generator = pair.recipe, Generator(seed)
    optimizer = optim.create_optimizer(recipe.optimizer, recipe.lr)
    train_epoch = make_train_epoch(pair.model, optimizer, recipe.batch_size)
    variables = pair.model.init(generator)
    if moved:
        variables = moved_tree(variables, seed)
    state = create_state(variables, optimizer)
    first: list[float] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        for state, steps in train_epoch(*arguments, **options):
            if len(first) < FIRST:
                first.extend(steps.losses[:FIRST].tolist())
            yield state, steps

    orders = itertools.islice(loader_orders(len(ours.train.labels), generator), recipe.epochs)
    state, epochs = fit(watched, state, ours.train, orders)
    return {
        "framework": "JAX",
        "first": first[:FIRST],
        "losses": [epoch.loss for epoch in epochs],
        "accuracy": make_evaluate(pair.model)(state.variables, ours.test),
    }


def own_first(pair: Any, ours: Any, seed: int) -> float:
    """The largest relative difference of the first losses between JAX and JAX from weights moved
    by one rounding."""
    import jax
    import numpy as np

    from jax_impl.torch_random.generator import Generator
    from jax_impl.torch_random.loader import loader_orders
    from jax_impl.training import optim
    from jax_impl.training.epoch import make_train_epoch
    from jax_impl.training.state import create_state
    from parity.ladder.rounding import moved_tree

    recipe, generator = pair.recipe, Generator(seed)
    optimizer = optim.create_optimizer(recipe.optimizer, recipe.lr)
    train_epoch = make_train_epoch(pair.model, optimizer, recipe.batch_size)
    variables = pair.model.init(generator)
    order = next(iter(loader_orders(len(ours.train.labels), generator)))
    order = order[: FIRST * recipe.batch_size]
    images, labels = jax.device_put((ours.train.images, ours.train.labels))

    def losses(variables: Any) -> Any:
        state = create_state(variables, optimizer)
        found = train_epoch(state, images, labels, order)
        return np.concatenate([steps.losses for _, steps in found])

    reference = losses(variables)
    return max(
        float((abs(losses(moved_tree(variables, k)) - reference) / reference).max())
        for k in range(REPLICAS)
    )


def train_torch(pair: Any, ours: Any, theirs: Any, seed: int, device: str) -> dict[str, Any]:
    """The notebook after `torch.manual_seed(SEED)`."""
    import torch

    import torch_ref.data
    import torch_ref.train

    del ours
    recipe, first = pair.recipe, []
    torch.manual_seed(seed)
    module = pair.make_torch().to(device)
    loader = torch_ref.data.make_loader(theirs[0], recipe.batch_size, shuffle=True)

    def criterion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(logits, labels)
        if len(first) < FIRST:
            first.append(loss.item())
        return loss

    epochs = torch_ref.train.train(
        module,
        [loader] * recipe.epochs,
        criterion,
        torch_ref.train.create_optimizer(recipe.optimizer, module, recipe.lr),
        device,
        print=lambda line: None,
    )
    test = torch_ref.data.make_loader(theirs[1], 100)
    return {
        "framework": "PyTorch",
        "first": first,
        "losses": [epoch.loss for epoch in epochs],
        "accuracy": torch_ref.train.test(module, test, device, print=lambda line: None),
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The largest differences between the two runs of a seed, and of the mean accuracies."""
    pairs = list(zip(runs[::2], runs[1::2], strict=True))

    def largest(key: str) -> float:
        return max(furthest(ours, theirs, key) for ours, theirs in pairs)

    points = [100 * (ours["accuracy"] - theirs["accuracy"]) for ours, theirs in pairs]
    return {
        "first losses": largest("first"),
        "epoch losses": largest("losses"),
        "points a seed": max(map(abs, points)),
        "points in the mean": abs(statistics.mean(points)),
    }


def furthest(run: dict[str, Any], other: dict[str, Any], key: str) -> float:
    """The largest difference of two runs' losses, relative to the other's."""
    return max(abs(a - b) / abs(b) for a, b in zip(run[key], other[key], strict=True))


def wish(content: dict[str, Any], name: str) -> str:
    """How near that was meant to be, and whether it was missed."""
    wished = content["wishes"].get(name)
    if wished is None:
        return ""
    return f"{wished:g}{', missed' if content['figures'][name] > wished else ''}"


def to_markdown(content: dict[str, Any]) -> str:
    """The bars, and a row a run."""
    environment, bars = content["environment"], content["bars"]
    lines = [
        "# Same seed, same run",
        "",
        f"**{'PASSED' if content['passed'] else 'FAILED'}**",
        "",
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- {environment['cpu']}, {environment['cores']} cores; device {environment['device']}",
        "",
        "| figure | measured | at most | wished for |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {value:.2g} | {f'{bars[name]:.2g}' if name in bars else ''} | "
        f"{wish(content, name)} |"
        for name, value in content["figures"].items()
    ]
    lines += [
        "",
        "Losses relative to PyTorch's. The first ones are of the first steps in float32.",
        "",
        *markdown.trainings(content["runs"]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Options)
