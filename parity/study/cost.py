"""How long a study takes: from trainings that are over, else from a short one. No framework.

A training's work is the FLOPs of its forward passes, of which one does so many a second. That rate
is of a kind of model, framework and batch size; models of one kind are near enough to each other.
"""

import functools
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from jax_impl.data.datasets import DIGITS_TRAIN
from jax_impl.models import registry
from jax_impl.models.geometry import summary
from parity.report.runs import read_trainings
from parity.shell.chosen import chosen_training
from parity.shell.recipes import Recipe
from parity.shell.train_options import TrainOptions
from parity.study.child import run_child
from parity.study.description import Training

IMAGES = {"cifar10": 50_000, "digits": DIGITS_TRAIN}
"""That there are to train on."""
Kind = tuple[str, str, int]
START = 12.0
"""Seconds, about, of a process's start, of compilation and of evaluation."""
PROBE_EPOCHS = 2
"""Of the digits; the last is not compiled any more."""


def remaining(
    trainings: Iterable[Training], results: Mapping[str, Any], only: Collection[str]
) -> list[Training]:
    """Those that are not over, of whose names one of `only` is a part; all where that is empty."""
    return [t for t in trainings if t.chosen(only) and t.label not in results]


def kind(training: Training) -> Kind:
    """What trainings share that do as much work in a second, about."""
    name = registry.parse(training.model).name
    return training.framework, registry.MODELS[name].block, recipe(training).batch_size


def recipe(training: Training) -> Recipe:
    """How it is trained, of which nothing but what costs time counts here."""
    named = TrainOptions(recipe=training.recipe, model=training.model)
    return chosen_training(named)[1]


def epochs(training: Training, asked: int | None) -> int:
    """Of a training."""
    told = dict(training.options).get("epochs")
    return asked or (int(told) if told else recipe(training).epochs)


@functools.cache
def flops(model: str) -> int:
    """Of an image's forward pass."""
    return summary(registry.parse(model), None).flops


def work(training: Training, data: str, asked: int | None) -> float:
    """FLOPs of all forward passes of a training."""
    images = IMAGES[data] - training.validation(data)
    return float(flops(training.model) * images * epochs(training, asked))


def rates(
    trainings: Mapping[str, Training], results: Mapping[str, Mapping[str, Any]]
) -> dict[Kind, float]:
    """FLOPs a second of the kinds of which a training is over; both by label."""
    done: dict[Kind, list[float]] = {}
    for label, result in results.items():
        if label in trainings and result["seconds"]:
            training = trainings[label]
            whole = [row for row in result["rows"] if row.get("seconds")]
            images = IMAGES[result["data"]] - training.validation(result["data"])
            sums = done.setdefault(kind(training), [0.0, 0.0])
            sums[0] += float(result["flops"] * images * len(whole))
            sums[1] += result["seconds"]
    return {key: flops / seconds for key, (flops, seconds) in done.items() if seconds}


def cheapest(trainings: Iterable[Training]) -> dict[Kind, Training]:
    """Of each kind the one with the least to compute."""
    found: dict[Kind, Training] = {}
    for training in sorted(trainings, key=lambda training: flops(training.model)):
        found.setdefault(kind(training), training)
    return found


def probe(training: Training) -> float | None:
    """FLOPs a second of a model, from a training on digits; None if it could not be trained."""
    with tempfile.TemporaryDirectory(prefix="parity-probe-") as folder:
        out = Path(folder) / "run"
        given = training.arguments("digits", PROBE_EPOCHS)
        given += ["--checkpoint-every", "0", "--out", str(out)]
        done = run_child("parity", "train", *given)
        if done.returncode:
            return None
        rows = [row for row in read_trainings([out])[0][0].rows if row.get("seconds")]
    images = IMAGES["digits"] - training.validation("digits")
    return flops(training.model) * images / rows[-1]["seconds"]


def seconds(
    trainings: Iterable[Training], known: Mapping[Kind, float], data: str, asked: int | None
) -> float | None:
    """That trainings take together, one after the other; None if one's kind is not known."""
    total = 0.0
    for training in trainings:
        rate = known.get(kind(training))
        if rate is None:
            return None
        total += START + work(training, data, asked) / rate
    return total
