"""What two frameworks' real trainings of one model say of each other."""

import dataclasses
import math

import numpy as np
import scipy.stats

from parity.ladder.result import Comparison, nothing

LOSS_TOLERANCE = 0.05
CONFIDENCE = 0.999
WIDEST = 0.1
"""Of a tolerance, of losses relative and of accuracies in [0, 1]: a wider one proves nothing."""

Orders = list[np.ndarray]


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


def fixed(first: Training, second: Training, plan: Plan, images: int) -> list[Comparison]:
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


def once(first: Training, second: Training, plan: Plan) -> Comparison:
    """One run of each, whose difference may be a rounding's."""
    told = [
        f"{training.framework} losses {' '.join(f'{loss:.3f}' for loss in training.losses)}, "
        f"accuracy {100 * training.accuracy:.2f} %"
        for training in (first, second)
    ]
    return nothing(
        "points of test accuracy",
        f"{plan.extent}, one run of each, in which a rounding may make as much of a difference: "
        f"{'; '.join(told)}. `parity study` compares equal trainings by several seeds",
    )


def against_replicas(
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
    if spread > WIDEST:
        unit = "points of mean test accuracy"
        return [loss, nothing(unit, f"{plan.extent}; {chaotic(100 * spread, 'points')}")]
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


def chaotic(spread: float, unit: str) -> str:
    """Why there is nothing to compare."""
    return (
        "chaotic: JAX runs that differ by a rounding of the initial weights spread so that a "
        f"further one may be {spread:.3g} {unit} away"
    )


def _losses(
    ours: np.ndarray, theirs: np.ndarray, tolerances: np.ndarray, plan: Plan, text: str
) -> Comparison:
    """The epoch or part whose losses differ most, in units of its tolerance.

    Those that are chaotic are left out; that one framework's alone is no number is told all the
    same.
    """
    unit = f"relative difference of {plan.unit} losses"
    differences = np.abs(ours - theirs) / theirs
    left_out = (tolerances > WIDEST) & (np.isfinite(ours) == np.isfinite(theirs))
    if left_out.all():
        narrowest = 100 * float(tolerances.min())
        return nothing(unit, f"{plan.extent}; {chaotic(narrowest, '% of the loss')}")
    terms = np.nan_to_num(differences / tolerances, nan=np.inf)
    worst = int(np.where(left_out, -1, terms).argmax())
    names = ", ".join(str(number + 1) for number in np.flatnonzero(left_out))
    return Comparison(
        bool(differences[worst] <= tolerances[worst]),
        float(differences[worst]),
        float(tolerances[worst]),
        unit,
        f"{plan.extent}; {plan.unit} {worst + 1} of {len(ours)}: "
        + text.format(ours[worst], theirs[worst]),
        remarks=(f"chaotic, and not compared: {plan.unit} {names}",) if names else (),
    )


def _sampling(p: float, images: int) -> float:
    """Three standard errors of the difference of two accuracies near `p` on so many images."""
    return 3 * math.sqrt(2 * p * (1 - p) / images)
