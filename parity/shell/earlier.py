"""An earlier training, as its config.json tells it. Imports no framework."""

import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jax_impl.data.augmentation import Augmentation
from jax_impl.errors import InputError, listed, one_line, shown
from jax_impl.training.optimizer_names import OPTIMIZERS
from parity.shell.options import TrainOptions
from parity.shell.recipes import Recipe

CONFIG = "config.json"
LARGEST = 1_000_000
"""Bytes of a config.json that are read."""
SETTINGS = ("framework", "data", "seed", "init", "precision", "deterministic")
"""The options that are no part of a recipe, and that a training is another without."""


@dataclasses.dataclass(frozen=True)
class Earlier:
    """A training of before: its model as it was named, its recipe, and its `SETTINGS` by name."""

    model: str
    recipe: Recipe
    settings: dict[str, Any]

    def differences(self, model: str, recipe: Recipe, settings: dict[str, Any]) -> list[str]:
        """What is not the same in another training, in words."""
        before = {"model": self.model, **_flat(self.recipe), **self.settings}
        now = {"model": model, **_flat(recipe), **settings}
        return [f"{k} is {now[k]}, and was {before[k]}" for k in before if before[k] != now[k]]


def _flat(recipe: Recipe) -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}


def check_same(options: TrainOptions, model: str, recipe: Recipe, data: str) -> None:
    """Whether a training that is gone on with is the one that was begun.

    Raises:
        InputError: it is another; the message says in what.
    """
    if options.resume is None:
        return
    now = settings(options, data)
    if others := read_earlier(options.resume).differences(model, recipe, now):
        raise InputError(
            f"--resume {options.resume}: {listed(others)}: leave that out, or train anew with "
            f"--config {options.resume / CONFIG}"
        )


def settings(options: TrainOptions, data: str) -> dict[str, Any]:
    """The `SETTINGS` of a training; its data are known when they were looked for."""
    return {name: getattr(options, name) for name in SETTINGS} | {"data": data}


def read_earlier(path: Path) -> Earlier:
    """What a config.json, or the one in a run directory, says.

    Raises:
        InputError: it cannot be read, or is not one that `parity train` wrote.
    """
    path = path / CONFIG if path.is_dir() else path
    try:
        with open(path, "rb") as file:
            told = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {one_line(error, 200)}") from error
    try:
        recipe = Recipe(**_fields(Recipe, told))
        found = _fields(TrainOptions, told, SETTINGS)
        model = told["model"]
        if not isinstance(model, str) or recipe.optimizer not in OPTIMIZERS:
            raise ValueError("model or optimizer")
    except (KeyError, TypeError, ValueError) as error:
        problem = shown(str(error).strip("'"))
        raise InputError(f"{path} is no config.json of `parity train`: see {problem}") from error
    return Earlier(model, recipe, found)


def options_of(arguments: Sequence[str]) -> TrainOptions | None:
    """What a command line of `train` leaves out where it names an earlier training, else None.

    Raises:
        InputError: as `read_earlier`.
    """
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        value = value if equals else after
        if option in ("--config", "--resume") and value.strip() and not value.startswith("--"):
            return TrainOptions(**read_earlier(Path(value)).settings)
    return None


def _fields(kind: Any, told: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass out of JSON. Raises KeyError, TypeError or ValueError."""
    hints = typing.get_type_hints(kind)
    return {
        name: _value(hints[name], told[name], name)
        for name in names or [field.name for field in dataclasses.fields(kind)]
    }


def _value(hint: Any, value: Any, name: str) -> Any:
    """A JSON value as what a field may be."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _value(next(part for part in parts if part is not type(None)), value, name)
    if hint is Augmentation and isinstance(value, dict):
        return Augmentation(**_fields(Augmentation, value))
    if origin is tuple and isinstance(value, list):
        return tuple(_value(parts[0], item, name) for item in value)
    if origin is Literal and value in parts:
        return value
    if (
        hint is float
        and type(value) in (int, float)
        or hint in (int, bool, str)
        and type(value) is hint
    ):
        return hint(value)
    raise ValueError(name)
