"""How the notebook trains each model. Imports no framework."""

import dataclasses
import math

from jax_impl.errors import InputError
from parity.options import TrainOptions


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Batch size, optimizer with its learning rate, and epochs."""

    batch_size: int
    optimizer: str
    lr: float
    epochs: int = 5


def recipe(model: str) -> Recipe:
    """The notebook's recipe: that of its small CNN, or that of its ResNet-18 for every ResNet."""
    if model == "simple_cnn":
        return Recipe(batch_size=32, optimizer="adam", lr=1e-3)
    return Recipe(batch_size=16, optimizer="adam", lr=1e-2)


def chosen_recipe(options: TrainOptions) -> Recipe:
    """The recipe of `options.model`, with what the options say in place of its own.

    Raises:
      InputError: a number that cannot be trained with.
    """
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: getattr(options, name) for name in names}
    chosen = dataclasses.replace(
        recipe(options.model), **{name: value for name, value in given.items() if value is not None}
    )
    for name in ("epochs", "batch_size"):
        if getattr(chosen, name) < 1:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {getattr(chosen, name)}: give 1 or more")
    if not 0 < chosen.lr < math.inf:
        raise InputError(f"--lr is {chosen.lr}: give a number above 0")
    return chosen
