"""The trainings of a study that are over, put together by what they share. No framework."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from parity.study.statistics import Mean, mean_of

Result = Mapping[str, Any]
"""A training that is over, as study.json has it."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Trainings that differ in their seeds alone.

    Args:
        name: of what is compared.
        framework: they are trained in.
        results: one or more, by seed.
    """

    name: str
    framework: str
    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """For what they share."""
        return self.results[0]

    @property
    def held_out(self) -> str:
        """Of which images the accuracy by epoch is: validation or test."""
        return self.first["held_out"]

    @property
    def stopped(self) -> int:
        """Trainings that ended at a loss that is no number."""
        return sum(bool(result["stopped"]) for result in self.results)

    def last(self, key: str) -> Mean | None:
        """Of the last epoch that has it, over the seeds; None if none has."""
        return _mean(curve[max(curve)] for r in self.results if (curve := by_epoch(r, key)))

    def best(self) -> Mean | None:
        """The largest accuracy of any epoch on the images that are held out, over the seeds."""
        key = f"{self.held_out}_accuracy"
        return _mean(max(curve.values()) for r in self.results if (curve := by_epoch(r, key)))

    def test(self) -> Mean | None:
        """The accuracy of the test images at the end."""
        return _mean(r["test_accuracy"] for r in self.results if r["test_accuracy"] is not None)

    def seconds(self) -> Mean | None:
        """Of training."""
        return _mean(r["seconds"] for r in self.results if r["seconds"])

    def curve(self, key: str) -> dict[int, Mean]:
        """By epoch, over the seeds that reached it."""
        curves = [by_epoch(result, key) for result in self.results]
        epochs = sorted({epoch for curve in curves for epoch in curve})
        return {e: mean_of([c[e] for c in curves if e in c]) for e in epochs}


def by_epoch(result: Result, key: str) -> dict[int, float]:
    """What a training's rows have of `key`, where it is a number."""
    rows = result["rows"]
    if key == "test_accuracy" and result["held_out"] == "validation":
        return {}  # measured once, at the end
    return {row["epoch"]: row[key] for row in rows if row.get(key) is not None}


def grouped(results: Sequence[Result], order: Sequence[str]) -> list[Group]:
    """All groups, in the order of their names and then of the frameworks.

    What was given up before its end is left out.
    """
    found: dict[tuple[str, str], list[Result]] = {}
    for result in sorted(results, key=lambda result: (result["framework"], result["seed"])):
        if not result.get("given_up"):
            found.setdefault((result["group"], result["framework"]), []).append(result)
    place = {name: i for i, name in enumerate(order)}
    keys = sorted(found, key=lambda key: (place.get(key[0], len(place)), key))
    return [Group(*key, tuple(found[key])) for key in keys]


def paired(results: Sequence[Result], group: str) -> list[tuple[int, Result, Result]]:
    """Seed, and the training in JAX and in PyTorch, of the seeds that have both."""
    found = {
        framework: {
            r["seed"]: r for r in results if r["group"] == group and r["framework"] == framework
        }
        for framework in ("jax", "torch")
    }
    seeds = sorted({*found["jax"]} & {*found["torch"]})
    return [(seed, found["jax"][seed], found["torch"][seed]) for seed in seeds]


def _mean(values: Iterator[float]) -> Mean | None:
    found = list(values)
    return mean_of(found) if found else None
