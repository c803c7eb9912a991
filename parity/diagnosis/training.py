"""A training loop that departs where all of its parts agree."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

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


def find(known: Known, steps: int = LOOKED) -> Diagnosis:
    """All parts agree, and training does not: what the loop does with them."""
    case, state, batches = known.case, known.state, known.batches
    with precision(case.dtype):
        stepper = case.stepper()
    ours, theirs = runs.jax_run(case, state, stepper), runs.torch_run(case, state)
    eps = FLOAT32_EPS if known.same > common.SAME else None
    again, allowed = runs.torch_run(case, state, 1, eps), list[dict[str, float]]()
    steps = max(steps, min(2 * len(batches) + 1, 20))
    looks: list[Tensors] = []
    first, error, worst = None, 0.0, None
    with applied(known.changes):
        for step in range(steps):
            batch = batches[step % len(batches)]
            ours.step(batch)
            theirs.step(batch)
            again.step(batch)
            reference, second = theirs.look(), again.look()
            # Of a gradient that is zero by mathematics Adam makes steps of rounding.
            own = {n: relative_error(second[n], reference[n]) for n in reference}
            allowed.append({n: max(SAME, NOISE_MULTIPLE * value) for n, value in own.items()})
            looks.append(ours.look())
            excess = {
                name: relative_error(value, reference[base]) / allowed[-1][base]
                for name, value in looks[-1].items()
                if (base := name.partition(COPY)[0]) in reference
            }
            if first is None and max(excess.values(), default=0.0) > 1:
                first, worst = step + 1, max(excess, key=excess.__getitem__)
                error = excess[worst] * allowed[-1][worst.partition(COPY)[0]]
        if first is None:
            return known.follows() or said(None)
        cause = _cause(known, looks, allowed, steps) or _depends_on_order(known, stepper, first)
    fault = Fault("the training step", cause, error, ("the training step",))
    known.add(fault)
    return said(
        "the training step", error, cause=cause, what=f"{worst} after step {first}, by that"
    )


def _cause(
    known: Known, looks: list[Tensors], allowed: list[dict[str, float]], steps: int
) -> str | None:
    """The loop with one thing wrong that gives JAX's weights after every step."""
    batches = known.batches
    for name, variant in _loops(known.case, known.state):
        with contextlib.suppress(RuntimeError, ValueError, IndexError, TypeError):
            for step in range(steps):
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


def _depends_on_order(known: Known, stepper: Any, first: int) -> str | None:
    """Whether JAX's step departs from itself with the examples of one batch in another order."""
    case, state, batches = known.case, known.state, known.batches
    if not runs.same_in_any_order(case, state, batches[0]):
        return None
    plain, turned = runs.jax_run(case, state, stepper), runs.jax_run(case, state, stepper)
    for step in range(first):
        batch = batches[step % len(batches)]
        plain.step(batch)
        turned.step(runs.reordered(batch, (step,)) if step == first - 1 else batch)
    a, b = plain.look(), turned.look()
    if max((relative_error(a[name], b[name]) for name in a), default=0.0) <= SAME:
        return None
    return f"step {first} depends on the order of the examples in its batch, in JAX alone"


def _taken(batch: Batch, index: Any) -> Batch:
    return Batch(*(take(part, index, rows(batch.inputs)) for part in batch))


def _rolled(batch: Batch, shift: int) -> Batch:
    return Batch(batch.inputs, map_arrays(lambda leaf: np.roll(leaf, shift, 0), batch.labels))


def _loops(case: Case, state: Tensors) -> Iterator[tuple[str, runs.Run]]:
    """Training loops with one thing wrong each."""

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
    ) -> runs.Run:
        module = case.torch_model(state)
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
