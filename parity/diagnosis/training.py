"""A training loop that departs where all of its parts agree."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from parity.diagnosis.common import said
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import trajectory
from parity.ladder.tolerance import relative_error
from parity.pairs.pair import Batch, Case, Tensors, precision

SAME = 1e-7
"""More than for outputs: Adam's first step amplifies rounding."""


def find(case: Case, state: Tensors, batches: Sequence[Batch], steps: int = 4) -> Diagnosis:
    """All parts agree, and training does not: what the loop does with them."""
    with precision(case.dtype):
        stepper = case.stepper()
    ours, theirs = trajectory.jax_run(case, state, stepper), trajectory.torch_run(case, state)
    looks = []
    first, error, worst = None, 0.0, None
    for step in range(steps):
        batch = batches[step % len(batches)]
        ours.step(batch)
        theirs.step(batch)
        looks.append(ours.look())
        reference = theirs.look()
        errors = {name: relative_error(looks[-1][name], reference[name]) for name in looks[-1]}
        if first is None and max(errors.values()) > SAME:
            first, worst = step + 1, max(errors, key=errors.__getitem__)
            error = errors[worst]
    if first is None:
        return said(None)
    cause = None
    for name, variant in _loops(case, state):
        with contextlib.suppress(RuntimeError, ValueError):
            for step in range(steps):
                variant.step(batches[step % len(batches)])
                look = variant.look()
                if any(not relative_error(look[k], looks[step][k]) <= SAME for k in looks[step]):
                    break
            else:
                cause = name
                break
    return said(
        "the training step", error, cause=cause, what=f"{worst} after step {first}, by that"
    )


def _loops(case: Case, state: Tensors) -> Iterator[tuple[str, trajectory.Run]]:
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
    ) -> trajectory.Run:
        module = case.torch_model(state)
        held = [case.pair.optimizer.torch(module.parameters())]

        def step(batch: Batch) -> float:
            if remake:
                held[0] = case.pair.optimizer.torch(module.parameters())
            module.train(train)
            prepare(module, held[0])
            x, y = case.torch_batch(change(batch))
            if zero:
                held[0].zero_grad()
            outputs = module(x)
            y = (y + 1) % outputs.shape[1] if shifted else y
            value = scale(batch) * case.pair.loss.torch(outputs, y)
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            for _ in range(1 + twice):
                held[0].step()
            after(module, held[0])
            return value.item()

        def look() -> Tensors:
            return {name: value.cpu().numpy().copy() for name, value in module.state_dict().items()}

        return trajectory.Run(step, look, lambda batch: np.empty(0))

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
        run(scale=lambda batch: float(len(batch.labels))),
    )
    yield (
        "biases are not trained",
        run(*restored(lambda name: name.endswith("bias") and name in parameters)),
    )
    yield (
        "the last example of each batch is left out",
        run(change=lambda b: Batch(b.images[:-1], b.labels[:-1])),
    )
    for shift in (1, -1):
        yield (
            "the labels belong to other examples",
            run(change=lambda b, s=shift: Batch(b.images, np.roll(b.labels, s, 0))),
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
