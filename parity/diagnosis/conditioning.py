"""How far correct sides may be apart in float64 where rounding is amplified."""

from collections.abc import Mapping

from parity.diagnosis.common import Known
from parity.diagnosis.figures import figures_of
from parity.ladder.tolerance import FLOAT64_OF_FLOAT32, NOISE_MULTIPLE

FORMULA = 1e-4
"""Relative: a difference beyond this is one of formula."""


def departing(known: Known, rung: str, errors: Mapping[str, float]) -> list[str]:
    """The tensors of a rung that differ by more than rounding.

    Where a difference is small, float32's noise says by how much rounding is amplified: a variance
    in one pass of numbers far from zero is noisy in float64 too, which float32 is to judge.
    """
    found = [name for name, error in errors.items() if not error <= known.same]
    if not found or not all(errors[name] <= FORMULA for name in found):
        return found
    figures = figures_of(known, rung, "float32")[0]
    worst = max((max(figure) for figure in figures.values()), default=0.0)
    return [
        name
        for name in found
        if not errors[name]
        <= NOISE_MULTIPLE * FLOAT64_OF_FLOAT32 * max(figures.get(name, (worst, worst)))
    ]
