"""Both frameworks train for real, from the same weights on the same batches.

The notebook's own experiment, its small CNN on CIFAR-10, is trained in full and held to fixed
bars. Any other training is chaotic or short: a rounding in the weights grows until two runs of one
framework differ as much as two frameworks do. Where one misses those bars JAX trains again from
weights moved by one rounding, and PyTorch's run must look like one more of those: within the range
that holds a further run of the same kind with probability `CONFIDENCE` (Student's t).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats
from torch import nn

import torch_ref.train
from jax_impl.data.archive import Dataset, Split
from jax_impl.models.model import Variables
from jax_impl.training import optim
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.fit import Epoch, fit, shuffled
from jax_impl.training.state import TrainState, create_state
from parity.ladder.result import Comparison, Result, result
from parity.ladder.rounding import moved_tree
from parity.pairs.case import precision
from parity.pairs.pair import ModelPair
from parity.pairs.weights import to_torch
from parity.shell.console import Console
from parity.shell.recipes import Recipe
from torch_ref.data import CIFAR10, Digits, make_loader

LOSS_TOLERANCE = 0.05
REPLICAS = 6
CONFIDENCE = 0.999
PARTS = 5
"""Into how many parts a training of less than an epoch is cut; each gives a loss."""

LEAST_STEPS = 100
PROBE_STEPS = 20

EVALUATION_BATCH = 100
CHECKPOINT_IMAGES = 2000
"""Test images after each epoch or part, where there may be replicas: a ResNet's accuracy at Adam's
0.01 swings by ten points from one evaluation to the next, the mean of several by far less."""

Orders = list[np.ndarray]
OnEpoch = Callable[[Any], None]
OnSteps = Callable[..., None]
TorchData = tuple[CIFAR10 | Digits, CIFAR10 | Digits]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to train: a list of index arrays, one for each loss, called `unit`s."""

    orders: Orders
    unit: str
    steps: int
    all_steps: int
    replicas: int

    @property
    def extent(self) -> str:
        """For people: how much of the recipe this is."""
        if self.steps == self.all_steps:
            return f"{len(self.orders)} epochs"
        return f"{self.steps:,} of {self.all_steps:,} steps"


@dataclasses.dataclass(frozen=True)
class Training:
    """One framework's run.

    A loss for each epoch or part, test accuracy at the end, seconds for a step, and, where there
    may be replicas, the accuracy on `CHECKPOINT_IMAGES` test images after each epoch or part.
    """

    framework: str
    losses: list[float]
    accuracy: float
    step_seconds: float
    checkpoints: list[float]


Run = Callable[[Variables, Orders, OnEpoch, OnSteps], Training]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the rung found, and the runs it is of."""

    results: list[Result]
    trainings: list[Training]
    plan: Plan


def run(
    pair: ModelPair,
    variables: Variables,
    ours: Dataset,
    theirs: TorchData,
    *,
    seed: int,
    budget: float,
    full: bool,
    device: str,
    console: Console,
) -> Outcome:
    """Trains `pair` in both frameworks and compares losses and test accuracy.

    Args:
        pair: the model, its twin and its recipe.
        variables: float32 initial weights for both.
        ours: the data for JAX.
        theirs: the same for PyTorch: the training set and the test set.
        seed: of the order of the images.
        budget: seconds that all runs of a training other than the notebook's own may take.
        full: train all epochs whatever it takes.
        device: PyTorch's; JAX computes on its default one.
        console: where progress is told.
    """
    size, batch_size = len(ours.train.labels), pair.recipe.batch_size
    notebook = pair.name == "simple_cnn" and ours.name == "cifar10"
    run_jax = _jax_run(pair, ours, checkpoints=not notebook)
    run_torch = _torch_run(pair, theirs, device, checkpoints=not notebook)
    with precision("float32"):
        affordable = None
        if not (notebook or full):
            times = _probe(run_jax, run_torch, variables, size, batch_size)
            affordable = int(budget / (times[0] * (1 + REPLICAS) + times[1]))
        plan = _plan(pair.recipe, size, seed, affordable, 0 if notebook else REPLICAS)
        console.line(f"{pair.name}: training {plan.extent} in each framework")
        first = _shown(run_jax, f"{pair.name} in JAX", variables, plan, console)
        second = _shown(run_torch, f"{pair.name} in PyTorch", variables, plan, console)
        images = len(ours.test.labels)
        seen, runs = min(images, CHECKPOINT_IMAGES), [first]
        if plan.replicas:
            comparisons = _against_replicas(runs, second, plan, seen)
        else:
            comparisons = _fixed(first, second, plan, images)
        if plan.replicas and not all(comparison.passed for comparison in comparisons):
            for number in range(1, plan.replicas + 1):
                moved = moved_tree(variables, number)
                name = f"{pair.name} in JAX, replica {number} of {plan.replicas}"
                with console.bar(name, plan.steps) as show:
                    runs.append(run_jax(moved, plan.orders, _silent, _shower(show)))
                losses = " ".join(f"{loss:.3f}" for loss in runs[-1].losses)
                console.line(f"{name}: losses {losses}, accuracy {100 * runs[-1].accuracy:.2f} %")
            comparisons = _against_replicas(runs, second, plan, seen)
    results = [result(pair.name, "accuracy", "float32", comparison) for comparison in comparisons]
    return Outcome(results, [first, second], plan)


def _plan(recipe: Recipe, size: int, seed: int, affordable: int | None, replicas: int) -> Plan:
    """As many whole epochs as `affordable` steps allow (None: all), else a part of one."""
    permutations = shuffled(size, seed)
    per_epoch = math.ceil(size / recipe.batch_size)
    epochs, all_steps = recipe.epochs, per_epoch * recipe.epochs
    if affordable is not None:
        epochs = min(epochs, affordable // per_epoch)
        if not epochs:
            steps = max(affordable, LEAST_STEPS) // PARTS * PARTS
            steps = min(steps, size // recipe.batch_size // PARTS * PARTS)
            order = next(permutations)[: steps * recipe.batch_size]
            return Plan(np.split(order, PARTS), "part", steps, all_steps, replicas)
    orders = [next(permutations) for _ in range(epochs)]
    return Plan(orders, "epoch", epochs * per_epoch, all_steps, replicas)


def _probe(
    run_jax: Run, run_torch: Run, variables: Variables, size: int, batch_size: int
) -> tuple[float, float]:
    """Seconds for a step in JAX and in PyTorch."""
    order = np.arange(min(PROBE_STEPS * batch_size, size))
    runs = run_jax, run_torch
    times = [run(variables, [order, order], _silent, _silent).step_seconds for run in runs]
    return times[0], times[1]


def _shown(run: Run, name: str, variables: Variables, plan: Plan, console: Console) -> Training:
    """Trains with a bar and a line for each epoch."""
    console.line(f"{name}:")

    def on_epoch(epoch: Any) -> None:
        console.line(f"{plan.unit.capitalize()} {epoch.number}, Loss: {epoch.loss:.3f}")

    with console.bar(name, plan.steps) as show:
        training = run(variables, plan.orders, on_epoch, _shower(show))
    console.line(f"Accuracy: {100 * training.accuracy:.2f} %")
    return training


def _jax_run(pair: ModelPair, dataset: Dataset, checkpoints: bool) -> Run:
    """Compiles once, at the first call."""
    recipe = pair.recipe
    optimizer = optim.create_optimizer(recipe.optimizer, recipe.lr)
    train_epoch = make_train_epoch(pair.model, optimizer, recipe.batch_size)
    evaluate = make_evaluate(pair.model, EVALUATION_BATCH)
    few = Split(dataset.test.images[:CHECKPOINT_IMAGES], dataset.test.labels[:CHECKPOINT_IMAGES])

    def run(variables: Variables, orders: Orders, on_epoch: OnEpoch, on_steps: OnSteps):
        accuracies: list[float] = []

        def after_epoch(epoch: Epoch, state: TrainState) -> None:
            on_epoch(epoch)
            if checkpoints:
                accuracies.append(evaluate(state.variables, few))

        state = create_state(variables, optimizer)
        state, epochs = fit(
            train_epoch, state, dataset.train, orders, on_epoch=after_epoch, on_steps=on_steps
        )
        accuracy = evaluate(state.variables, dataset.test)
        return _training("JAX", recipe.batch_size, orders, epochs, accuracy, accuracies)

    return run


def _torch_run(pair: ModelPair, datasets: TorchData, device: str, checkpoints: bool) -> Run:
    """The notebook's loop."""
    recipe, (training_set, test_set) = pair.recipe, datasets
    few = range(min(CHECKPOINT_IMAGES, len(test_set)))

    def run(variables: Variables, orders: Orders, on_epoch: OnEpoch, on_steps: OnSteps):
        module = pair.make_torch()
        module.load_state_dict(to_torch(variables, pair.model), strict=True)
        module.to(device)
        accuracies: list[float] = []

        def test(order: Sequence[int] | None) -> float:
            loader = make_loader(test_set, EVALUATION_BATCH, order=order)
            return torch_ref.train.test(module, loader, device, print=_silent)

        def after_epoch(epoch: torch_ref.train.Epoch) -> None:
            on_epoch(epoch)
            if checkpoints:
                accuracies.append(test(few))

        epochs = torch_ref.train.train(
            module,
            (make_loader(training_set, recipe.batch_size, order=o.tolist()) for o in orders),
            nn.CrossEntropyLoss(),
            torch_ref.train.create_optimizer(recipe.optimizer, module, recipe.lr),
            device,
            print=_silent,
            on_epoch=after_epoch,
            on_steps=on_steps,
        )
        return _training("PyTorch", recipe.batch_size, orders, epochs, test(None), accuracies)

    return run


def _shower(show: Callable[[int], None]) -> OnSteps:
    return lambda progress, *state: show(progress.step)


def _silent(*_: Any) -> None:
    """Takes what is not to be shown."""


def _training(
    framework: str,
    batch_size: int,
    orders: Orders,
    epochs: Sequence[Any],
    accuracy: float,
    checkpoints: list[float],
) -> Training:
    """The first epoch's time is left out where there are others: it holds the compilation."""
    steps = [
        epoch.seconds / math.ceil(len(order) / batch_size)
        for epoch, order in zip(epochs, orders, strict=True)
    ]
    seconds = float(np.median(steps[1:] or steps))
    losses = [epoch.loss for epoch in epochs]
    return Training(framework, losses, accuracy, seconds, checkpoints)


def _fixed(first: Training, second: Training, plan: Plan, images: int) -> list[Comparison]:
    """Losses within 5 %, and accuracies within three standard errors of their difference."""
    ours, theirs = np.array(first.losses), np.array(second.losses)
    loss = _losses(
        ours, theirs, np.full(len(ours), LOSS_TOLERANCE), plan, "{:.4f} in JAX, {:.4f} in PyTorch"
    )
    mean = (first.accuracy + second.accuracy) / 2
    tolerance = 100 * _sampling(mean, images)
    measured = 100 * abs(first.accuracy - second.accuracy)
    accuracy = Comparison(
        measured <= tolerance,
        measured,
        tolerance,
        "points of test accuracy",
        f"{plan.extent}; {100 * first.accuracy:.2f} % in JAX, {100 * second.accuracy:.2f} % in "
        f"PyTorch; tolerance 3 sqrt(2 p (1 - p) / {images:,})",
    )
    return [loss, accuracy]


def _against_replicas(
    runs: list[Training], second: Training, plan: Plan, images: int
) -> list[Comparison]:
    """The fixed bars, widened to the range that holds a further run like `runs`.

    By a single run they are as they are.
    """
    losses, theirs = np.array([run.losses for run in runs]), np.array(second.losses)
    tolerances = np.maximum(LOSS_TOLERANCE, _spread(losses) / theirs)
    several = len(runs) > 1
    of = f"on average of {len(runs)} JAX runs that differ by a rounding" if several else "in JAX"
    text = f"{{:.4f}} {of}, {{:.4f}} in PyTorch; tolerance 5 %" + several * " or their spread"
    loss = _losses(losses.mean(0), theirs, tolerances, plan, text)
    accuracies = np.array([np.mean(run.checkpoints) for run in runs])
    mean, their_mean = float(accuracies.mean()), float(np.mean(second.checkpoints))
    measured = 100 * abs(mean - their_mean)
    spread = float(_spread(accuracies))
    tolerance = 100 * max(_sampling((mean + their_mean) / 2, images), spread)
    accuracy = Comparison(
        measured <= tolerance,
        measured,
        tolerance,
        "points of mean test accuracy",
        f"{plan.extent}; after each {plan.unit}, on {images:,} images: {100 * mean:.2f} % {of} "
        f"({100 * accuracies.min():.2f} to {100 * accuracies.max():.2f}), {100 * their_mean:.2f} % "
        f"in PyTorch; tolerance {several * 'their spread, or '}3 sqrt(2 p (1 - p) / images)",
    )
    return [loss, accuracy]


def _spread(values: np.ndarray) -> np.ndarray:
    """How far from the runs' mean a further one is with probability `CONFIDENCE` at most.

    The runs are the first axis; zero by a single run.
    """
    count = len(values)
    if count == 1:
        return np.zeros(values.shape[1:])
    factor = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * math.sqrt(1 + 1 / count)
    return factor * values.std(0, ddof=1)


def _losses(
    ours: np.ndarray, theirs: np.ndarray, tolerances: np.ndarray, plan: Plan, text: str
) -> Comparison:
    """The epoch or part whose losses differ most, in units of its tolerance."""
    differences = np.abs(ours - theirs) / theirs
    worst = int(np.nan_to_num(differences / tolerances, nan=np.inf).argmax())
    return Comparison(
        bool(differences[worst] <= tolerances[worst]),
        float(differences[worst]),
        float(tolerances[worst]),
        f"relative difference of {plan.unit} losses",
        f"{plan.extent}; {plan.unit} {worst + 1} of {len(ours)}: "
        + text.format(ours[worst], theirs[worst]),
    )


def _sampling(p: float, images: int) -> float:
    """Three standard errors of the difference of two accuracies near `p` on so many images."""
    return 3 * math.sqrt(2 * p * (1 - p) / images)
