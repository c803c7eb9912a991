"""Both frameworks train for real, from the same weights on the same batches.

The notebook's own experiment, its small CNN on CIFAR-10, is trained in full and held to fixed
bars. Any other training is chaotic or short: a rounding in the weights grows until two runs of one
framework differ as much as two frameworks do. There JAX trains again from weights moved by one
rounding, and PyTorch's run must look like one more of those: within the range that holds a further
run of the same kind with probability `CONFIDENCE` (Student's t).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from torch import nn

import torch_ref.train
from jax_impl import optim, train
from jax_impl.archive import Dataset
from jax_impl.models import Variables
from parity.console import Console
from parity.pair import Pair, precision
from parity.recipes import Recipe
from parity.result import Comparison, Result, result
from parity.weights import to_torch
from torch_ref.data import CIFAR10, Digits, make_loader

LOSS_TOLERANCE = 0.05
REPLICAS = 4
CONFIDENCE = 0.999
PARTS = 5
"""Into how many parts a training of less than an epoch is cut; each gives a loss."""

LEAST_STEPS = 100
PROBE_STEPS = 20

EVALUATION_BATCH = 100

Orders = list[np.ndarray]
OnEpoch = Callable[[Any], None]
OnSteps = Callable[[int], None]
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
    """One framework's run: a loss for each epoch or part, test accuracy, seconds for a step."""

    framework: str
    losses: list[float]
    accuracy: float
    step_seconds: float


Run = Callable[[Variables, Orders, OnEpoch, OnSteps], Training]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the rung found, and the runs it is of."""

    results: list[Result]
    trainings: list[Training]
    plan: Plan


def run(
    pair: Pair,
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
      variables: float32 initial weights for both.
      budget: seconds that all runs of a training other than the notebook's own may take.
      full: train all epochs whatever it takes.
      device: PyTorch's; JAX computes on its default one.
    """
    run_jax, run_torch = _jax_run(pair, ours), _torch_run(pair, theirs, device)
    size, batch_size = len(ours.train.labels), pair.recipe.batch_size
    notebook = pair.name == "simple_cnn" and ours.name == "cifar10"
    with precision("float32"):
        affordable = None
        if not (notebook or full):
            times = _probe(run_jax, run_torch, variables, size, batch_size)
            affordable = int(budget / (times[0] * (1 + REPLICAS) + times[1]))
        plan = _plan(pair.recipe, size, seed, affordable, 0 if notebook else REPLICAS)
        console.line(f"{pair.name}: training {plan.extent} in each framework")
        first = _shown(run_jax, f"{pair.name} in JAX", variables, plan, console)
        second = _shown(run_torch, f"{pair.name} in PyTorch", variables, plan, console)
        runs = [first]
        for number in range(1, plan.replicas + 1):
            moved = perturbed(variables, number)
            name = f"{pair.name} in JAX, replica {number} of {plan.replicas}"
            with console.bar(name, plan.steps) as advance:
                runs.append(run_jax(moved, plan.orders, _silent, advance))
    comparisons = _fixed(first, second, plan, len(ours.test.labels))
    if plan.replicas:
        comparisons = _against_replicas(runs, second, plan, comparisons)
    results = [result(pair.name, "accuracy", "float32", comparison) for comparison in comparisons]
    return Outcome(results, [first, second], plan)


def perturbed(variables: Variables, seed: int) -> Variables:
    """`variables` with every float32 number moved by at most one rounding."""
    rng = np.random.default_rng(seed)
    eps = np.finfo(np.float32).eps

    def move(leaf):
        if leaf.dtype != jnp.float32:
            return leaf
        return jnp.asarray(np.asarray(leaf) * (1 + eps * rng.uniform(-1, 1, leaf.shape)), "float32")

    return jax.tree.map(move, variables)


def _plan(recipe: Recipe, size: int, seed: int, affordable: int | None, replicas: int) -> Plan:
    """As many whole epochs as `affordable` steps allow (None: all), else a part of one."""
    shuffled = train.shuffled(size, seed)
    per_epoch = math.ceil(size / recipe.batch_size)
    epochs, all_steps = recipe.epochs, per_epoch * recipe.epochs
    if affordable is not None:
        epochs = min(epochs, affordable // per_epoch)
        if not epochs:
            steps = max(affordable, LEAST_STEPS) // PARTS * PARTS
            steps = min(steps, size // recipe.batch_size // PARTS * PARTS)
            order = next(shuffled)[: steps * recipe.batch_size]
            return Plan(np.split(order, PARTS), "part", steps, all_steps, replicas)
    orders = [next(shuffled) for _ in range(epochs)]
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

    with console.bar(name, plan.steps) as advance:
        training = run(variables, plan.orders, on_epoch, advance)
    console.line(f"Accuracy: {100 * training.accuracy:.2f} %")
    return training


def _jax_run(pair: Pair, dataset: Dataset) -> Run:
    """Compiles once, at the first call."""
    recipe = pair.recipe
    optimizer = optim.create_optimizer(recipe.optimizer, recipe.lr)
    train_epoch = train.make_train_epoch(pair.model, optimizer, recipe.batch_size)
    evaluate = train.make_evaluate(pair.model)

    def run(variables: Variables, orders: Orders, on_epoch: OnEpoch, on_steps: OnSteps):
        state = train.create_state(variables, optimizer)
        state, epochs = train.fit(
            train_epoch, state, dataset.train, orders, on_epoch=on_epoch, on_steps=on_steps
        )
        accuracy = evaluate(state.variables, dataset.test)
        return _training("JAX", recipe.batch_size, orders, epochs, accuracy)

    return run


def _torch_run(pair: Pair, datasets: TorchData, device: str) -> Run:
    """The notebook's loop."""
    recipe, (training_set, test_set) = pair.recipe, datasets

    def run(variables: Variables, orders: Orders, on_epoch: OnEpoch, on_steps: OnSteps):
        module = pair.make_torch()
        module.load_state_dict(to_torch(variables, pair.model), strict=True)
        module.to(device)
        epochs = torch_ref.train.train(
            module,
            (make_loader(training_set, recipe.batch_size, order=o.tolist()) for o in orders),
            nn.CrossEntropyLoss(),
            torch_ref.train.create_optimizer(recipe.optimizer, module, recipe.lr),
            device,
            print=_silent,
            on_epoch=on_epoch,
            on_steps=on_steps,
        )
        loader = make_loader(test_set, EVALUATION_BATCH)
        accuracy = torch_ref.train.test(module, loader, device, print=_silent)
        return _training("PyTorch", recipe.batch_size, orders, epochs, accuracy)

    return run


def _silent(_: Any) -> None:
    """Takes what is not to be shown."""


def _training(
    framework: str, batch_size: int, orders: Orders, epochs: Sequence[Any], accuracy: float
) -> Training:
    """The first epoch's time is left out where there are others: it holds the compilation."""
    steps = [
        epoch.seconds / math.ceil(len(order) / batch_size)
        for epoch, order in zip(epochs, orders, strict=True)
    ]
    seconds = float(np.median(steps[1:] or steps))
    return Training(framework, [epoch.loss for epoch in epochs], accuracy, seconds)


def _fixed(first: Training, second: Training, plan: Plan, images: int) -> list[Comparison]:
    """Losses within 5 %, and accuracies within three standard errors of their difference."""
    ours, theirs = np.array(first.losses), np.array(second.losses)
    differences = np.abs(ours - theirs) / theirs
    worst = int(differences.argmax())
    loss = Comparison(
        bool(differences[worst] <= LOSS_TOLERANCE),
        float(differences[worst]),
        LOSS_TOLERANCE,
        f"relative difference of {plan.unit} losses",
        f"{plan.extent}; {plan.unit} {worst + 1} of {len(ours)}: {ours[worst]:.4f} in JAX, "
        f"{theirs[worst]:.4f} in PyTorch",
    )
    mean = (first.accuracy + second.accuracy) / 2
    tolerance = 300 * math.sqrt(2 * mean * (1 - mean) / images)
    measured = 100 * abs(first.accuracy - second.accuracy)
    accuracy = Comparison(
        measured <= tolerance,
        measured,
        tolerance,
        "points of test accuracy",
        f"{plan.extent}; {100 * first.accuracy:.2f} % in JAX, {100 * second.accuracy:.2f} % in "
        f"PyTorch; 3 sqrt(2 p (1 - p) / {images:,})",
    )
    return [loss, accuracy]


def _against_replicas(
    runs: list[Training], second: Training, plan: Plan, fixed: list[Comparison]
) -> list[Comparison]:
    """The fixed bars, widened to the range that holds a further run like `runs`."""
    count = len(runs)
    factor = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * math.sqrt(1 + 1 / count)
    losses = np.array([run.losses for run in runs])
    theirs = np.array(second.losses)
    mean = losses.mean(0)
    measured = np.abs(mean - theirs) / theirs
    tolerances = np.maximum(fixed[0].tolerance, factor * losses.std(0, ddof=1) / theirs)
    worst = int((measured / tolerances).argmax())
    loss = dataclasses.replace(
        fixed[0],
        passed=bool(measured[worst] <= tolerances[worst]),
        measured=float(measured[worst]),
        tolerance=float(tolerances[worst]),
        detail=f"{plan.extent}; {plan.unit} {worst + 1} of {len(mean)}: {mean[worst]:.4f} on "
        f"average of {count} JAX runs that differ by a rounding, {theirs[worst]:.4f} in PyTorch; "
        "tolerance 5 % or their spread",
    )
    accuracies = np.array([run.accuracy for run in runs])
    points = 100 * abs(float(accuracies.mean()) - second.accuracy)
    tolerance = max(fixed[1].tolerance, 100 * factor * float(accuracies.std(ddof=1)))
    accuracy = dataclasses.replace(
        fixed[1],
        passed=points <= tolerance,
        measured=points,
        tolerance=tolerance,
        detail=f"{plan.extent}; {100 * accuracies.mean():.2f} % on average of {count} JAX runs "
        f"that differ by a rounding ({100 * accuracies.min():.2f} to "
        f"{100 * accuracies.max():.2f}), {100 * second.accuracy:.2f} % in PyTorch",
    )
    return [loss, accuracy]
