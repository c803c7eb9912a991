"""A training loop that departs where all of its parts agree."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from parity.diagnosis import common
from parity.diagnosis.common import Known, said
from parity.diagnosis.sites import applied
from parity.ladder.result import Diagnosis, Fault
from parity.ladder.rungs import runs
from parity.ladder.tolerance import FLOAT32_EPS, NOISE_MULTIPLE, relative_error
from parity.pairs.case import Case, precision
from parity.pairs.leafmap import COPY
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.trees import leaves, map_arrays, rows, take

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
        cause = _cause(known, found) or _depends_on_order(known, step)
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
    looks, allowed, first = list[Tensors](), list[dict[str, float]](), None
    reference: Tensors = {}
    with applied(known.changes):
        for step in range(max(LOOKED, min(2 * len(batches) + 1, 20))):
            for run in (ours, theirs, again):
                run.step(batches[step % len(batches)])
            reference, second = theirs.look(), again.look()
            # Of a gradient that is zero by mathematics Adam makes steps of rounding.
            own = {n: relative_error(second[n], reference[n]) for n in reference}
            allowed.append({n: max(SAME, NOISE_MULTIPLE * value) for n, value in own.items()})
            looks.append(ours.look())
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
    batches, looks, allowed = known.batches, found.looks, found.allowed
    for name, variant in _loops(known.case, known.state, found.still):
        with contextlib.suppress(RuntimeError, ValueError, IndexError, TypeError):
            for step in range(len(looks)):
                variant.step(batches[step % len(batches)])
                look = variant.look()
                if any(
                    not relative_error(look[base], looks[step][k]) <= allowed[step][base]
                    for k in looks[step]
                    if (base := k.partition(COPY)[0]) in look
                ):
                    break
            else:
                return name
    return None


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


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _taken(batch: Batch, index: Any) -> Batch:
    return Batch(*(take(part, index, rows(batch.inputs)) for part in batch))


def _rolled(batch: Batch, shift: int) -> Batch:
    return Batch(batch.inputs, map_arrays(lambda leaf: np.roll(leaf, shift, 0), batch.labels))


def _loops(case: Case, state: Tensors, still: list[str]) -> Iterator[tuple[str, runs.Run]]:
    """Training loops with one thing wrong each; `still` are what may not be trained."""

    def run(
        prepare: Callable[[torch.nn.Module, Any], None] = lambda module, optimizer: None,
        after: Callable[[torch.nn.Module, Any], None] = lambda module, optimizer: None,
        *,
        zero: bool = True,
        remake: bool = False,
        train: bool = True,
        twice: bool = False,
        scale: Callable[[Batch], float] = lambda batch: 1.0,
        shifted: bool = False,
        change: Callable[[Batch], Batch] = lambda batch: batch,
        clip: float | None = None,
        thaw: bool = False,
    ) -> runs.Run:
        module = case.torch_model(state)
        for parameter in module.parameters() if thaw else ():
            parameter.requires_grad_(True)
        trained = [p for p in module.parameters() if p.requires_grad]
        held = [case.pair.optimizer.torch(trained)]

        def step(batch: Batch) -> float:
            if remake:
                held[0] = case.pair.optimizer.torch(trained)
            module.train(train and case.pair.trains)
            prepare(module, held[0])
            x, y = case.torch_batch(change(batch))
            if zero:
                held[0].zero_grad()
            outputs = case.torch_call(module, x)
            y = (y + 1) % next(iter(leaves(outputs).values())).shape[1] if shifted else y
            value = scale(batch) * case.torch_loss(outputs, y)
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            for _ in range(1 + twice):
                held[0].step()
            after(module, held[0])
            return value.item()

        def look() -> Tensors:
            return {name: to_numpy(value) for name, value in module.state_dict().items()}

        return runs.Run(step, look, lambda batch: {})

    def restored(names: Callable[[str], bool]):
        kept: dict[str, torch.Tensor] = {}

        def prepare(module: torch.nn.Module, _: Any) -> None:
            kept.update({k: v.clone() for k, v in module.state_dict().items() if names(k)})

        def after(module: torch.nn.Module, _: Any) -> None:
            with torch.no_grad():
                for name, value in module.state_dict().items():
                    if name in kept:
                        value.copy_(kept[name])

        return prepare, after

    parameters = case.pair.parameters
    yield "gradients are not set to zero: they add up from step to step", run(zero=False)
    yield "the optimizer's state is made anew for each step", run(remake=True)
    yield (
        "the running statistics are not carried on",
        run(*restored(lambda name: name not in parameters)),
    )
    yield "the model trains in eval mode", run(train=False)
    yield "each step is taken twice", run(twice=True)
    yield (
        "the loss is summed over the batch and not averaged",
        run(scale=lambda batch: float(rows(batch.inputs))),
    )
    yield (
        "biases are not trained",
        run(*restored(lambda name: name.endswith("bias") and name in parameters)),
    )
    if still:
        yield f"{_listed(still)}: not trained", run(*restored(lambda name: name in still))
    frozen = [n for n, p in case.torch_model(state).named_parameters() if not p.requires_grad]
    if frozen:
        yield f"{_listed(frozen)}: trained, and frozen in PyTorch (requires_grad)", run(thaw=True)
    yield (
        "the last example of each batch is left out",
        run(change=lambda b: _taken(b, slice(None, -1))),
    )
    for shift in (1, -1):
        yield (
            "the labels belong to other examples",
            run(change=lambda b, s=shift: _rolled(b, s)),
        )
    yield "the labels are shifted by one class", run(shifted=True)
    for norm in (1.0, 0.5, 5.0, 0.1):
        yield f"gradients are clipped to a norm of {norm:g}", run(clip=norm)

    def decayed(factor: float):
        def after(module: torch.nn.Module, held: Any) -> None:
            for group in held.param_groups:
                group["lr"] *= factor

        return after

    for factor in (0.99, 0.95, 0.9, 0.5, 0.1):
        yield f"the learning rate is multiplied by {factor:g} each step", run(after=decayed(factor))
    for factor in (0.5, 2.0, 0.1, 10.0):
        yield f"the loss is scaled by {factor:g}", run(scale=lambda _, f=factor: f)
