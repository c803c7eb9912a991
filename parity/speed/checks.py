"""Whether a variant computed what it was asked for.

That is told by its first losses, or in inference by norms of its first logits.

The reference is PyTorch's eager code in float64 on the same weights and batches. How far from it a
right variant may come is what eager PyTorch itself shows in the precision that is timed: its own
distance from the reference, and that of the same code, `MOVED_RUNS` times, from weights moved by
one rounding of that precision, which training amplifies. A variant may be `NOISE_MULTIPLE` = 16
times as far as the largest of these, at any step so far.

Both can be nothing by luck, so a floor stands in for them. In float32 a loss is the result of sums
of thousands of rounded terms: 16 eps. TF32 and bfloat16 (eps 2^-11 and 2^-8) round the operands
of a product, half an eps each, and sum in float32: one eps. A loss may so always differ from the
reference by 3.1e-5, 0.8 % and 6.2 %, relative.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parity.ladder.tolerance import FLOAT32_EPS, NOISE_MULTIPLE
from parity.shell.options import PrecisionName
from parity.speed.workloads import Task

EPS: dict[PrecisionName, float] = {"float32": FLOAT32_EPS, "tf32": 2.0**-11, "bf16": 2.0**-8}
FLOORS: dict[PrecisionName, float] = {"float32": 16.0, "tf32": 1.0, "bf16": 1.0}
"""In eps, relative to a loss."""


MOVED_RUNS = 4
"""Adam's first step of a gradient near zero is plus or minus lr by rounding alone, and one run
from moved weights may say too little of that by chance."""


class Reference(NamedTuple):
    """Losses of the first steps.

    In float64; in the task's precision; and from moved weights, of each step that which is furthest
    from the first.
    """

    exact: tuple[float, ...]
    narrow: tuple[float, ...]
    moved: tuple[float, ...]


def bounds(reference: Reference, precision: PrecisionName) -> list[float]:
    """How far each loss may be from the exact one; never less than at the step before."""
    found, largest = [], 0.0
    for exact, narrow, moved in zip(*reference, strict=True):
        floor = FLOORS[precision] * EPS[precision] * abs(exact)
        largest = max(largest, abs(narrow - exact), abs(moved - exact), floor)
        found.append(NOISE_MULTIPLE * largest)
    return found


def wrong_loss(
    losses: Sequence[float], reference: Reference, precision: PrecisionName
) -> str | None:
    """Where losses leave their bounds, in words; None if they do not."""
    if len(losses) != len(reference.exact):
        return f"{len(losses)} losses, not {len(reference.exact)}"
    for step, (loss, exact, bound) in enumerate(
        zip(losses, reference.exact, bounds(reference, precision), strict=True), 1
    ):
        if not abs(loss - exact) <= bound or not math.isfinite(loss):
            return f"{loss:.6g} in step {step}, not {exact:.6g} to within {bound:.1e}"
    return None


class ReferenceWorker:
    """What a worker does: the runs of the reference."""

    def losses(
        self, task: dict[str, Any], device: str, lr: float, files: str, seed: int
    ) -> list[list[float]]:
        """Those of a `Reference`."""
        from parity.speed.bench import load_setup
        from parity.speed.torch_side import make_torch_variant

        asked = Task(**task)
        setup = load_setup(asked, {}, device, lr, Path(files))
        exact = dataclasses.replace(
            setup,
            task=dataclasses.replace(asked, precision="float32"),
            settings={"float64": True},
        )
        weights = [moved(setup.weights, EPS[asked.precision], seed + k) for k in range(MOVED_RUNS)]
        runs = exact, setup, *(dataclasses.replace(setup, weights=each) for each in weights)
        right, narrow, *others = [sum(make_torch_variant(run).losses(), []) for run in runs]
        furthest = [
            max(each, key=lambda loss: abs(loss - step))
            for step, each in zip(right, zip(*others, strict=True), strict=True)
        ]
        return [right, narrow, furthest]


def moved(weights: Any, eps: float, seed: int) -> dict[str, np.ndarray]:
    """Every float of a state_dict moved by one rounding, up or down."""
    rng = np.random.default_rng(seed)
    return {
        name: (value * (1 + eps * rng.choice((-1.0, 1.0), value.shape))).astype(value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in weights.items()
    }
