"""Both frameworks train for real, from the same weights on the same batches.

The notebook's own experiment, its small CNN on CIFAR-10, is trained in full and held to fixed
bars. In any other training a rounding in the weights may grow until two runs of one framework
differ as much as two frameworks do. Where one misses those bars JAX trains again from weights moved
by one rounding, and PyTorch's run must look like one more of those: within the range that holds a
further run of the same kind with probability `CONFIDENCE` (Student's t).

What such a range is too wide for is chaotic, and is not compared; nor is a training that there is
only time for once, of which nothing says how chaotic it is. Its losses and accuracies are told.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

import torch_ref.train
from jax_impl.data.archive import Dataset, Split
from jax_impl.models.model import Variables
from jax_impl.training import optim
from jax_impl.training.epoch import make_train_epoch
from jax_impl.training.evaluate import make_evaluate
from jax_impl.training.fit import Epoch, fit, shuffled
from jax_impl.training.state import TrainState, create_state
from parity.ladder.result import Result, result
from parity.ladder.rounding import moved_tree
from parity.ladder.rungs.accuracy_verdict import (
    Orders,
    Plan,
    Training,
    against_replicas,
    fixed,
    once,
)
from parity.pairs.case import precision
from parity.pairs.pair import ModelPair
from parity.pairs.weights import to_torch
from parity.shell.console import Console
from parity.shell.recipes import Recipe
from torch_ref.data import CIFAR10, Digits, make_loader

REPLICAS = 6
PARTS = 5
"""Into how many parts a training of less than an epoch is cut; each gives a loss."""

LEAST_STEPS = 100
PROBE_STEPS = 20

EVALUATION_BATCH = 100
CHECKPOINT_IMAGES = 2000
"""Test images after each epoch or part. Replicas are compared by the mean of these accuracies: a
ResNet's at Adam's 0.01 swings by ten points from one evaluation to the next, their mean by far
less."""

OnEpoch = Callable[[Any], None]
OnSteps = Callable[..., None]
TorchData = tuple[CIFAR10 | Digits, CIFAR10 | Digits]


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
    run_jax, run_torch = _jax_run(pair, ours), _torch_run(pair, theirs, device)
    with precision("float32"):
        affordable, replicas = None, 0 if notebook else REPLICAS
        if not (notebook or full):
            with console.status(f"{pair.name}: a few steps are compiled and timed"):
                ours_takes, theirs_takes = _probe(run_jax, run_torch, variables, size, batch_size)
            affordable = int(budget / (ours_takes + theirs_takes))
            again = budget / (ours_takes * (1 + REPLICAS) + theirs_takes)
            replicas = REPLICAS if again >= math.ceil(size / batch_size) * pair.recipe.epochs else 0
        plan = _plan(pair.recipe, size, seed, affordable, replicas)
        console.line(f"{pair.name}: training {plan.extent} in each framework")
        first = _shown(run_jax, f"{pair.name} in JAX", variables, plan, console)
        second = _shown(run_torch, f"{pair.name} in PyTorch", variables, plan, console)
        images = len(ours.test.labels)
        seen, runs = min(images, CHECKPOINT_IMAGES), [first]
        if plan.replicas:
            comparisons = against_replicas(runs, second, plan, seen)
        elif notebook:
            comparisons = fixed(first, second, plan, images)
        else:
            comparisons = [once(first, second, plan)]
        if plan.replicas and not all(comparison.passed for comparison in comparisons):
            for number in range(1, plan.replicas + 1):
                moved = moved_tree(variables, number)
                name = f"{pair.name} in JAX, replica {number} of {plan.replicas}"
                with console.bar(name, plan.steps) as show:
                    runs.append(run_jax(moved, plan.orders, _silent, _shower(show, name)))
                losses = " ".join(f"{loss:.3f}" for loss in runs[-1].losses)
                console.line(f"{name}: losses {losses}, accuracy {100 * runs[-1].accuracy:.2f} %")
            comparisons = against_replicas(runs, second, plan, seen)
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

    with console.bar(f"{name}: compiling", plan.steps) as show:
        training = run(variables, plan.orders, on_epoch, _shower(show, name))
    console.line(f"Accuracy: {100 * training.accuracy:.2f} %")
    return training


def _jax_run(pair: ModelPair, dataset: Dataset) -> Run:
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
            accuracies.append(evaluate(state.variables, few))

        state = create_state(variables, optimizer)
        state, epochs = fit(
            train_epoch, state, dataset.train, orders, on_epoch=after_epoch, on_steps=on_steps
        )
        accuracy = evaluate(state.variables, dataset.test)
        return _training("JAX", recipe.batch_size, orders, epochs, accuracy, accuracies)

    return run


def _torch_run(pair: ModelPair, datasets: TorchData, device: str) -> Run:
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


def _shower(show: Callable[..., None], name: str) -> OnSteps:
    return lambda progress, *state: show(progress.step, name)


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
