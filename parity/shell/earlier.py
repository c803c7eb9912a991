"""An earlier training, as its config.json tells it. Imports no framework."""

import contextlib
import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jax_impl.data.augmentation import Augmentation
from jax_impl.errors import InputError, listed, one_line, shown
from jax_impl.training.mesh_axes import axes_of
from jax_impl.training.optimizer_names import OPTIMIZERS
from parity.shell.recipes import Recipe
from parity.shell.train_options import TrainOptions

CONFIG = "config.json"
USUAL = "global"
"""`batch_norm` of a training that says nothing of it."""
LARGEST = 1_000_000
"""Bytes of a config.json that are read."""
SETTINGS = ("framework", "data", "seed", "init", "precision", "deterministic")
"""The options that are no part of a recipe, and that a training is another without."""
HABITS = (
    *("data_dir", "checkpoint_every", "keep", "tensorboard", "keep_going"),
    *("mesh", "batch_norm", "loader", "workers"),
)
"""Those that change nothing of what is trained, and are kept where nothing else is asked for."""
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    Augmentation: "an object",
}


@dataclasses.dataclass(frozen=True)
class Earlier:
    """A training of before.

    Args:
        model: as it was named.
        recipe: of the training.
        settings: its `SETTINGS` by name.
        habits: those of its `HABITS` that are known, by name.
    """

    model: str
    recipe: Recipe
    settings: dict[str, Any]
    habits: dict[str, Any]

    def differences(self, model: str, recipe: Recipe, settings: dict[str, Any]) -> list[str]:
        """What is not the same in another training, in words."""
        before = {"model": self.model, **_flat(self.recipe), **self.settings}
        now = {"model": model, **_flat(recipe), **settings}
        names = dict.fromkeys([*before, *now])
        pairs = [(name, now.get(name, USUAL), before.get(name, USUAL)) for name in names]
        return [f"{name} is {one}, and was {other}" for name, one, other in pairs if one != other]


def _flat(recipe: Recipe) -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}


def check_same(options: TrainOptions, model: str, recipe: Recipe, data: str) -> None:
    """Whether a training that is gone on with is the one that was begun.

    Raises:
        InputError: it is another; the message says in what.
    """
    if options.resume is None:
        return
    earlier = read_earlier(options.resume)
    before = TrainOptions(**earlier.settings, **earlier.habits)
    then = dataclasses.replace(earlier, settings=settings(before, before.data))
    if others := then.differences(model, recipe, settings(options, data)):
        raise InputError(
            f"--resume {options.resume}: {listed(others)}: leave that out, or train anew with "
            f"--config {options.resume / CONFIG}"
        )


def settings(options: TrainOptions, data: str) -> dict[str, Any]:
    """The `SETTINGS` of a training; its data are known when they were looked for.

    And its local statistics, where it has such.
    """
    found = {name: getattr(options, name) for name in SETTINGS} | {"data": data}
    if options.batch_norm != USUAL:
        found["batch_norm"] = f"{options.batch_norm}, of {devices_of(options)} devices"
    return found


def devices_of(options: TrainOptions) -> int:
    """How many a training is divided among: in PyTorch the processes that torchrun started."""
    if options.framework == "torch":
        size = os.environ.get("WORLD_SIZE", "1") if "RANK" in os.environ else "1"
        return int(size) if size.isascii() and size.isdecimal() else 1
    return 1 if options.mesh is None else math.prod(axes_of(options.mesh).values())


def read_earlier(path: Path) -> Earlier:
    """What a config.json, or the one in a run directory, says.

    Raises:
        InputError: it cannot be read, or is not one that `parity train` wrote.
    """
    path = path / CONFIG if path.is_dir() else path
    try:
        with open(path, "rb") as file:
            told = json.loads(file.read(LARGEST))
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there: give the folder of a `parity train`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {one_line(error, 200)}") from error
    if not isinstance(told, dict):
        raise InputError(f"{path} is no config.json of `parity train`: it holds no object")
    try:
        recipe = Recipe(**_fields(Recipe, told))
        settings = _fields(TrainOptions, told, SETTINGS)
        habits = _fields(TrainOptions, told, [name for name in HABITS if name in told])
        model = _value(str, told["model"], "model")
        if recipe.optimizer not in OPTIMIZERS:
            raise ValueError(_wrong("optimizer", recipe.optimizer, " or ".join(OPTIMIZERS)))
    except KeyError as error:
        name = shown(str(error.args[0]))
        raise InputError(f"{path} is no config.json of `parity train`: it has no {name}") from error
    except ValueError as error:
        raise InputError(f"{path}: {shown(str(error), 400)}") from error
    return Earlier(model, recipe, settings, habits)


def options_of(arguments: Sequence[str]) -> TrainOptions | None:
    """What a command line of `train` leaves out where it names an earlier training, else None.

    Raises:
        InputError: as `read_earlier`.
    """
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        value = value if equals else after
        if option in ("--config", "--resume") and value.strip() and not value.startswith("--"):
            path = Path(value)
            if option == "--resume" and path.is_file():
                raise InputError(
                    f"--resume {value}: that is a file; give the run directory, {path.parent}"
                )
            earlier = read_earlier(path)
            return TrainOptions(**earlier.settings, **earlier.habits)
    return None


def _fields(kind: Any, told: Any, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The fields of a dataclass out of JSON. Raises KeyError or ValueError."""
    hints = typing.get_type_hints(kind)
    if names is None:
        names = [field.name for field in dataclasses.fields(kind)]
    return {name: _value(hints[name], told[name], name) for name in names}


def _value(hint: Any, value: Any, name: str) -> Any:
    """A JSON value as what a field may be."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _value(next(part for part in parts if part is not type(None)), value, name)
    if hint is Augmentation and isinstance(value, dict):
        fields = _fields(Augmentation, value)
        if others := sorted({*value} - {*fields}):
            raise ValueError(f"{name} has no {listed(others)}, only {', '.join(fields)}")
        return Augmentation(**fields)
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
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
        with contextlib.suppress(OverflowError):  # a whole number that no float holds
            return hint(value)
    words = " or ".join(map(str, parts)) if origin is Literal else WORDS.get(hint, "a list")
    raise ValueError(_wrong(name, value, words))


def _wrong(name: str, value: Any, needed: str) -> str:
    return f"{name} is {shown(json.dumps(value))}: give {needed}"
