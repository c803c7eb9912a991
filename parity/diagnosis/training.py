"""A training loop that departs where all of its parts agree."""

import contextlib
from typing import NamedTuple

import numpy as np

from parity.diagnosis import common
from parity.diagnosis.common import Known, said
from parity.diagnosis.sites import applied
from parity.diagnosis.training_loops import loops, with_optimizer_of_jax
from parity.ladder.result import Diagnosis, Fault
from parity.ladder.rungs import runs
from parity.ladder.tolerance import FLOAT32_EPS, NOISE_MULTIPLE, relative_error
from parity.pairs.case import precision
from parity.pairs.leafmap import COPY
from parity.pairs.pair import Tensors
from parity.pairs.trees import rows

LOOKED = 4
"""Steps that are looked at, or two turns of the batches where that is more."""

SAME = 1e-7
"""More than for outputs: Adam's first step amplifies rounding.

Nor does what PyTorch departs from itself by, from weights moved by one rounding, say anything.
"""


class Compared(NamedTuple):
    """Some steps of both, PyTorch's with the changes that were found.

    After each step JAX's weights, and by how much they may depart; the first that does, its step
    and its error; the largest error of an output in eval mode at the end, if one departs; and what
    PyTorch trains and JAX leaves as it was.
    """

    looks: list[Tensors]
    allowed: list[dict[str, float]]
    first: tuple[str, int, float] | None
    in_eval: float | None
    still: list[str]


def follows(known: Known, rung: str) -> Diagnosis | None:
    """That a training agrees once PyTorch makes the changes that were found; None if not."""
    if not known.changes:
        return None
    found = _compared(known, rung)
    agrees = found.first is None and found.in_eval is None
    return known.follows() if agrees else None


def find(known: Known, rung: str) -> Diagnosis:
    """All parts agree, and training does not: what the loop does with them."""
    found = _compared(known, rung)
    if found.first is None:
        if found.in_eval is None:
            return known.follows() or said(None)
        what = "output (in eval mode after training)"
        known.add(Fault(common.OUTPUTS, None, found.in_eval, (common.OUTPUTS,)))
        return said(common.OUTPUTS, found.in_eval, what=what)
    worst, step, error = found.first
    with applied(known.changes):
        if known.optimizer is not None:
            variant = with_optimizer_of_jax(known.case, known.state)
            if _is_like(known, found, variant):
                text = f"follows from what was found before: the optimizer: {known.optimizer}"
                faults = (Fault("the optimizer", known.optimizer, error, ("the optimizer",)),)
                told = known.optimizer
                return Diagnosis("the optimizer", error, None, None, told, text, faults, True)
        cause = (
            _cause(known, found) or _holds_a_state(known, step) or _depends_on_order(known, step)
        )
    fault = Fault("the training step", cause, error, ("the training step",))
    known.add(fault)
    what = f"{worst} after step {step}, by that"
    return said("the training step", error, cause=cause, what=what)


def _compared(known: Known, rung: str) -> Compared:
    """In eval mode for the rung `eval_after_training` alone."""
    case, state, batches = known.case, known.state, known.batches
    with precision(case.dtype):
        stepper = case.stepper()
    ours, theirs = runs.jax_run(case, state, stepper), runs.torch_run(case, state)
    again = runs.torch_run(case, state, 1, FLOAT32_EPS if known.float32_inside else None)
    rounding: runs.Idle = {}
    if known.float32_inside:
        with applied(known.changes):
            rounding = runs.only_rounded(case, state, batches[0])
    looks, allowed, first = list[Tensors](), list[dict[str, float]](), None
    reference: Tensors = {}
    with applied(known.changes):
        for step in range(max(LOOKED, min(2 * len(batches) + 1, 20))):
            for run in (ours, theirs, again):
                run.step(batches[step % len(batches)])
            reference, second = (runs.without(rounding, run.look()) for run in (theirs, again))
            # Of a gradient that is zero by mathematics Adam makes steps of rounding.
            own = {n: relative_error(second[n], reference[n]) for n in reference}
            allowed.append({n: max(SAME, NOISE_MULTIPLE * value) for n, value in own.items()})
            looks.append(runs.without(rounding, ours.look()))
            errors = {
                name: (relative_error(value, reference[base]), allowed[-1][base])
                for name, value in looks[-1].items()
                if (base := name.partition(COPY)[0]) in reference
            }
            beyond = {name: error / most for name, (error, most) in errors.items() if error > most}
            if first is None and beyond:
                worst = max(beyond, key=beyond.__getitem__)
                first = worst, step + 1, errors[worst][0]
        in_eval = None
        if rung == "eval_after_training":
            in_eval = _in_eval_mode(known, ours, theirs, again)
    state = runs.without(rounding, state)
    still = [
        name
        for name in case.pair.parameters
        if all(name in look and np.array_equal(look[name], state[name]) for look in looks)
        and relative_error(reference[name], state[name]) > allowed[-1][name]
    ]
    return Compared(looks, allowed, first, in_eval, still)


def _in_eval_mode(known: Known, ours: runs.Run, theirs: runs.Run, again: runs.Run) -> float | None:
    """The error of the trained models' outputs; None where they agree as their weights do."""
    batch = known.batches[0]
    reference, second = theirs.outputs(batch), again.outputs(batch)
    found = runs.in_torch_layout(known.case, ours.outputs(batch), reference)
    departing = []
    for path, value in found.items():
        error, own = (relative_error(each, reference[path]) for each in (value, second[path]))
        if error > max(SAME, NOISE_MULTIPLE * own):
            departing.append(error)
    return max(departing, default=None)


def _cause(known: Known, found: Compared) -> str | None:
    """The loop with one thing wrong that gives JAX's weights after every step."""
    largest = max(rows(batch.inputs) for batch in known.batches)
    for name, variant in loops(known.case, known.state, found.still, largest):
        if _is_like(known, found, variant):
            return name
    return None


def _is_like(known: Known, found: Compared, variant: runs.Run) -> bool:
    """Whether a training gives JAX's weights after every step."""
    batches = known.batches
    with contextlib.suppress(RuntimeError, ValueError, IndexError, TypeError):
        for step, wanted in enumerate(found.looks):
            variant.step(batches[step % len(batches)])
            look, allowed = variant.look(), found.allowed[step]
            if any(
                not relative_error(look[base], wanted[name]) <= allowed[base]
                for name in wanted
                if (base := name.partition(COPY)[0]) in look
            ):
                return False
        return True
    return False


def _holds_a_state(known: Known, first: int) -> str | None:
    """Whether JAX's step departs from itself when it is repeated from one state on one batch."""
    case, batches = known.case, known.batches
    with precision(case.dtype):
        stepper = case.stepper()
    runs_of_it = [runs.jax_run(case, known.state, stepper) for _ in range(2)]
    for run in runs_of_it:
        for step in range(first):
            run.step(batches[step % len(batches)])
    a, b = (run.look() for run in runs_of_it)
    if max((relative_error(a[name], b[name]) for name in a), default=0.0) <= SAME:
        return None
    return (
        "in JAX training differs from call to call: a step draws random numbers, or keeps a state, "
        "outside of what it is given"
    )


def _depends_on_order(known: Known, first: int) -> str | None:
    """Whether JAX's step departs from itself with the examples of one batch in another order."""
    case, state, batches = known.case, known.state, known.batches
    if not runs.same_in_any_order(case, state, batches[0]):
        return None
    with precision(case.dtype):
        stepper = case.stepper()
    plain, turned = runs.jax_run(case, state, stepper), runs.jax_run(case, state, stepper)
    for step in range(first):
        batch = batches[step % len(batches)]
        plain.step(batch)
        turned.step(runs.reordered(batch, (step,)) if step == first - 1 else batch)
    a, b = plain.look(), turned.look()
    if max((relative_error(a[name], b[name]) for name in a), default=0.0) <= SAME:
        return None
    return f"step {first} depends on the order of the examples in its batch, in JAX alone"
