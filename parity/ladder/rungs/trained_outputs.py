"""The outputs in eval mode of what two trainings came to."""

import math
from collections.abc import Sequence

import numpy as np

from parity.ladder.result import Comparison, nothing
from parity.ladder.rungs.runs import PARAMETERS_BAR, Run, in_torch_layout, own_noise
from parity.ladder.tolerance import DIFFERENCE_MULTIPLE, relative_error
from parity.pairs.case import Case
from parity.pairs.pair import Batch, Tensors
from parity.pairs.trees import rows

EVALUATED = "relative difference of outputs in eval mode"


def evaluated(
    case: Case,
    ours: Run,
    theirs: Run,
    seconds: Sequence[tuple[Run, Run]],
    batches: Sequence[Batch],
    step: int,
    multiple: float,
    eps: float,
) -> Comparison:
    """Outputs in eval mode on every batch, and the classes they give.

    The weights may differ by `step` roundings, `eps`, which the layers add up.
    """
    reference = [theirs.outputs(batch) for batch in batches]

    def of(run: Run) -> Tensors:
        pairs = [
            in_torch_layout(case, run.outputs(batch), each)
            for batch, each in zip(batches, reference, strict=True)
        ]
        return {path: np.concatenate([p[path].ravel() for p in pairs]) for path in pairs[0]}

    first, second = of(ours), of(theirs)
    if not first:
        return nothing(EVALUATED, "no output has the same path in both")
    measured = max(relative_error(first[path], second[path]) for path in first)
    own = 0.0
    if seconds:
        again = [of(run) for run, _ in seconds]
        own = own_noise(
            max(relative_error(again[0][path], first[path]) for path in first),
            max(relative_error(again[1][path], second[path]) for path in first),
        )
    tolerance = max(PARAMETERS_BAR, multiple * own, DIFFERENCE_MULTIPLE * step * eps)
    detail = f"{sum(rows(batch.inputs) for batch in batches)} examples after {step} steps"
    if own:
        detail += f"; a second run differs by up to {own:.1e}"
    passed = measured <= tolerance < math.inf
    logits = reference[0].get("")
    if logits is not None and logits.ndim == 2 and logits.shape[1] > 1:
        passed, same = _same_classes(first[""], second[""], logits.shape[1], tolerance, passed)
        detail += f"; the same class for {same}"
    return Comparison(passed, measured, tolerance, EVALUATED, detail)


def _same_classes(
    ours: np.ndarray, theirs: np.ndarray, classes: int, tolerance: float, passed: bool
) -> tuple[bool, str]:
    """Whether the classes agree too where they are clear, and how many do, in words."""
    first, second = ours.reshape(-1, classes), theirs.reshape(-1, classes)
    top = np.sort(second, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * tolerance * np.abs(second).max()
    same = first.argmax(1) == second.argmax(1)
    return passed and bool(same[clear].all()), f"{int(same.sum())} of {len(same)}"
