"""What trainings came to, in a table of plain text. Imports no framework."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

from jax_impl.data.augmentation import Augmentation
from jax_impl.errors import shown
from parity.report.columns import WIDTH, columns
from parity.report.curves import FRAMEWORKS
from parity.report.runs import Training
from parity.shell.earlier import SETTINGS
from parity.shell.options import RecipeName
from parity.shell.recipes import RECIPES, Recipe

_FIELDS = {field.name: field.default for field in dataclasses.fields(Recipe)}
OPTIONS = (
    *(name for name in _FIELDS if name != "epochs"),
    *(name for name in SETTINGS if name != "framework"),
)
"""What may differ between two trainings of one model, beside their framework and epochs."""
_ABSENT = {"deterministic": False, "precision": "float32", "init": "torch"}
"""What a config.json of before an option was there means."""
LONG = ("model", "options")
"""What stands below a run where there is no room beside it."""
UNBOUNDED = 100_000
LONGEST = 60
"""Letters of one option's value."""
NONE = "-"


def table(runs: Sequence[Training]) -> list[str]:
    """The lines: what the trainings share, a row for each, and what is to be said of some.

    Args:
        runs: one or more.

    Returns:
        Lines of 80 letters at most.
    """
    facts = {
        "model": [shown(run.model, LONGEST) for run in runs],
        "in": [FRAMEWORKS[run.framework] for run in runs],
        "on": [run.held_out.replace("validation", "val.") for run in runs],
        "options": differing(runs),
    }
    different = {name: cells for name, cells in facts.items() if len({*cells}) > 1}
    both = any(run.held_out == "validation" and run.over for run in runs)
    last = ["epochs", "loss", "best", "last", *(["test"] if both else []), "s"]
    numbers = [_numbers(run, both) for run in runs]

    def lines_of(names: Sequence[str], below: Sequence[str] = (), width: int = WIDTH) -> list[str]:
        rows = [
            (run.name, *(different[name][i] for name in names), *numbers[i])
            for i, run in enumerate(runs)
        ]
        return columns(["run", *names, *last], rows, {"run", *names}, width, below=below)

    lines = lines_of([*different], width=UNBOUNDED)
    if max(map(len, lines)) > WIDTH:  # what takes the most room has lines of its own
        texts = [different[name] for name in LONG if name in different]
        below = [", ".join(filter(None, parts)) for parts in zip(*texts, strict=True)]
        lines = lines_of([name for name in different if name not in LONG], below)
    told = [_shared(runs, facts, different), ""]
    told += [lines[0], "-" * max(map(len, lines)), *lines[1:], ""]
    for run in runs:
        told += textwrap.wrap(_note(run), WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return told + _legend(runs, both)


def differing(runs: Sequence[Training]) -> list[str]:
    """For each run the recipe it names, where they name others, and the options that differ.

    Of a recipe that is named only what the run has otherwise is told, where the recipes differ.
    """
    names: list[RecipeName | None] = [_recipe(run) for run in runs]
    several = len({*names}) > 1
    values = [{name: _value(run, name) for name in OPTIONS} for run in runs]
    found = []
    for name, own in zip(names, values, strict=True):
        words = [name or "no recipe"] if several else []
        usual = _usual(name) if several else {}
        for option in OPTIONS:
            same = all(own[option] == other[option] for other in values)
            if not same and not (option in usual and usual[option] == own[option]):
                words.append(f"{option.replace('_', ' ')} {own[option]}")
        found.append(", ".join(words))
    return found


def _recipe(run: Training) -> RecipeName | None:
    """The recipe's name; None of a run without one, or of a name that is not known here."""
    name = run.config.get("recipe")
    return next((known for known in RECIPES if known == name), None)


def _usual(name: RecipeName | None) -> dict[str, str]:
    """The options that a recipe's name stands for; without one those that are left out."""
    values = dataclasses.asdict(RECIPES[name].recipe) if name else _FIELDS
    return {k: _text(v) for k, v in values.items() if v is not dataclasses.MISSING}


def _value(run: Training, name: str) -> str:
    """An option's, in words; of an older run, which knew no such option, what it did."""
    usual = _FIELDS.get(name, _ABSENT.get(name))
    if usual is dataclasses.MISSING:
        usual = None
    return _text(run.config.get(name, usual))


def _text(value: Any) -> str:
    if isinstance(value, Augmentation):
        value = dataclasses.asdict(value)
    if value is None or value is False or value == {}:
        return "none" if value is None else "off"
    if value is True:
        return "on"
    if isinstance(value, int | float):
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.3e}"
    if isinstance(value, dict):
        parts = [f"{k}" if v is True else f"{k} {_text(v)}" for k, v in value.items() if v]
        return shown(" ".join(parts) or "off", LONGEST)
    if isinstance(value, list | tuple):
        return shown(" ".join(_text(part) for part in value) or "none", LONGEST)
    return shown(str(value), LONGEST)


def _numbers(run: Training, both: bool) -> tuple[str, ...]:
    percent = [100 * value for value in run.accuracies]
    test = run.test_accuracy if run.over else None
    losses, seconds = run.losses, run.seconds
    last = losses[-1] if losses else None
    return (
        str(run.epochs) if run.over else f"{run.done} of {run.epochs}",
        ("NaN" if losses else NONE) if last is None else _loss(last),
        f"{max(percent):.2f}" if percent else NONE,
        f"{percent[-1]:.2f}" if percent else NONE,
        *([NONE if test is None else f"{100 * test:.2f}"] if both else []),
        NONE if seconds is None else f"{seconds:,.{1 if seconds < 100 else 0}f}",
    )


def _loss(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.2e}"


def _shared(
    runs: Sequence[Training], facts: dict[str, list[str]], different: dict[str, list[str]]
) -> str:
    """What is the same in all, in one line."""
    count = "1 training" if len(runs) == 1 else f"{len(runs)} trainings"
    model = "" if "model" in different else f" of {facts['model'][0]}"
    framework = "" if "in" in different else f" in {facts['in'][0]}"
    names = {_recipe(run) for run in runs}
    recipe = f", recipe {name}" if len(names) == 1 and (name := names.pop()) else ""
    text = f"{count}{model}{framework}{recipe}"
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _note(run: Training) -> str:
    """What is to be said of a run that is not over."""
    unclear = sum(loss is None for loss in run.losses)
    if run.over:
        few = f"{unclear} of {len(run.losses)} losses"
        return f"{run.name}: {few} infinite or NaN" if unclear else ""
    where = f"epoch {run.done} of {run.epochs}"
    if run.stopped:
        return f"{run.name} stopped after {where}: the loss was infinite or NaN"
    return f"{run.name} is not over: {where}"


def _legend(runs: Sequence[Training], both: bool) -> list[str]:
    kinds = {run.held_out for run in runs}
    where = "" if len(kinds) > 1 else f" of the {kinds.pop()} images"
    lines = [f"loss: of the last epoch; best, last: accuracy in %{where}"]
    if len(kinds) > 1:
        lines.append("on: which images these accuracies are of, test or validation")
    if both:
        lines.append("test: accuracy in % of the test images, at the end")
    return [*lines, "s: seconds of training, without evaluation"]
