"""What a study is: its trainings, and how they are judged. Imports no framework."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from jax_impl.errors import InputError, listed, shown
from parity.shell.options import RecipeName
from parity.shell.recipes import RECIPES

Judgement = Literal["curves", "pairs", "grid", "gradients"]
"""How a study is drawn and judged, beside the table that each has."""
VALIDATION = {"cifar10": 5000, "digits": 143}
"""Of the training images, a tenth: choices are made by them, and the test images tell of what was
chosen."""
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.=_-]+")


@dataclasses.dataclass(frozen=True)
class Training:
    """One training of a study.

    Args:
        group: what is compared; trainings of one group differ in their seeds and frameworks alone.
        model: as `parity train --model` takes it.
        recipe: as `--recipe` does.
        options: further options of `parity train` by name, as ("epochs", "5").
        validated: by images that are split off the training images.
        framework: it is trained in.
        seed: of its weights and batches.
        point: where it stands on the axes of a grid, by the axis's name.
    """

    group: str
    model: str
    recipe: RecipeName
    options: tuple[tuple[str, str], ...] = ()
    validated: bool = False
    framework: Literal["jax", "torch"] = "jax"
    seed: int = 0
    point: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Its name in the study, of letters that a file's name may have."""
        return f"{self.stem}-{self.seed}"

    @property
    def stem(self) -> str:
        """What the labels of its group's trainings in one framework have in common."""
        return f"{NOT_IN_A_NAME.sub('-', self.group).strip('-')}-{self.framework}"

    def chosen(self, only: Collection[str]) -> bool:
        """Whether one of these is a part of its label or of its group's name; of none, it is."""
        return not only or any(part in name for part in only for name in (self.label, self.group))

    def validation(self, data: str) -> int:
        """Images of a data set that are split off."""
        return VALIDATION[data] if self.validated else 0

    def arguments(self, data: str, epochs: int | None) -> list[str]:
        """What follows `parity train`, but for the places of data and run directory.

        Args:
            data: the data set.
            epochs: in place of the recipe's; its warm-up is of the same share of them.
        """
        told = dict(self.options) | ({} if epochs is None else {"epochs": str(epochs)})
        recipe = RECIPES[self.recipe].recipe
        if recipe.warmup and "epochs" in told:
            told["warmup"] = f"{recipe.warmup * int(told['epochs']) / recipe.epochs:g}"
        given = ["--framework", self.framework, "--recipe", self.recipe, "--model", self.model]
        given += ["--seed", str(self.seed), "--data", data]
        if validation := self.validation(data):
            given += ["--validation", str(validation)]
        for name, value in told.items():
            given += [f"--{name}", *value.split()]
        return given

    def as_json(self) -> dict[str, Any]:
        """Its fields, and its label."""
        return {
            "label": self.label,
            **dataclasses.asdict(self),
            "options": dict(self.options),
            "point": dict(self.point),
        }


@dataclasses.dataclass(frozen=True)
class Study:
    """Trainings that together answer a question.

    Args:
        name: of the command.
        question: in one sentence.
        cases: the trainings, each in one framework and by seed 0; `trainings` has all of them.
        seeds: of each group, by default.
        judgement: how they are judged.
        frameworks: by default.
        margin: accuracies that differ by less are the same, in [0, 1]; of each group of "pairs".
        axes: of a grid, with their values in order.
    """

    name: str
    question: str
    cases: tuple[Training, ...]
    seeds: tuple[tuple[str, int], ...] | int
    judgement: Judgement
    frameworks: tuple[Literal["jax", "torch"], ...] = ("jax",)
    margin: tuple[tuple[str, float], ...] = ()
    axes: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def seeds_of(self, group: str) -> int:
        """Trainings of a group in each framework."""
        return self.seeds if isinstance(self.seeds, int) else dict(self.seeds)[group]

    def trainings(
        self, frameworks: tuple[Literal["jax", "torch"], ...] | None, seeds: int | None
    ) -> tuple[Training, ...]:
        """All of them, the first seeds of all groups first, so that a part of it is of use.

        Args:
            frameworks: in place of the study's own.
            seeds: of each group, in place of the study's own.
        """
        many = {case.group: seeds or self.seeds_of(case.group) for case in self.cases}
        return tuple(
            dataclasses.replace(case, seed=seed, framework=framework)
            for seed in range(max(many.values()))
            for case in self.cases
            if seed < many[case.group]
            for framework in frameworks or self.frameworks
        )


def check_same(place: Path, about: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raises InputError if what is there is of another study."""
    names = [name for name in about if about[name] != before.get(name)]
    if names:
        what = listed(
            [f"its {name} is {shown(str(before.get(name)))}, not {about[name]}" for name in names]
        )
        raise InputError(f"{place} is another study's: {what}; pass another --out")
