"""One training in one framework, step by step."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from parity.ladder.alignment import aligned
from parity.ladder.rounding import moved, moved_tree
from parity.ladder.rungs import gradients
from parity.ladder.tolerance import SAME_IN_FLOAT32, ZERO, largest_by_layer
from parity.pairs.case import Case, precision
from parity.pairs.leafmap import COPY
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.trees import leaves, rows, take

PARAMETERS_BAR = 1e-10
"""Relative: of trained parameters, and of what they give."""

SAME = 1e-4
"""Relative: a loss that moves by less with the order of the examples does not depend on it."""


NOISIER = 1e3
"""Times as noisy as PyTorch's JAX's sums may be."""

FLOOR = 1e-12
"""The least noise of training in float64 that PyTorch is credited with in that."""


class Run(NamedTuple):
    """A step on a batch gives its loss, a look the state_dict, a batch the outputs by path."""

    step: Callable[[Batch], float]
    look: Callable[[], Tensors]
    outputs: Callable[[Batch], Tensors]


def jax_run(
    case: Case, state: Tensors, stepper: Any, seed: int | None = None, eps: float | None = None
) -> Run:
    """The pair's `Case.stepper` in JAX; with a `seed`, from weights moved by one rounding, `eps`.

    Outputs are in eval mode and in JAX's layout.
    """
    leaf_map = case.pair.leaf_map
    start, step, variables_of = stepper
    with precision(case.dtype):
        variables = case.variables(state)
        if seed is not None:
            variables = moved_tree(variables, seed, eps)
        held = [start(variables)]
        forward = case.compiled(
            lambda variables, inputs: leaves(case.apply(variables, inputs, False)[0])
        )

    def advance(batch: Batch) -> float:
        with precision(case.dtype):
            held[0], loss = step(held[0], batch.inputs, batch.labels)
        return float(loss)

    def look() -> Tensors:
        return leaf_map.to_torch(jax.tree.leaves(variables_of(held[0])))

    def outputs(batch: Batch) -> Tensors:
        with precision(case.dtype):
            found = forward(variables_of(held[0]), batch.inputs)
        return {path: np.asarray(value) for path, value in found.items()}

    return Run(advance, look, outputs)


def torch_run(case: Case, state: Tensors, seed: int | None = None, eps: float | None = None) -> Run:
    """The notebook's training step; with a `seed`, from weights moved by one rounding, `eps`."""
    module = case.torch_model(state)
    if seed is not None:
        for value in module.state_dict().values():
            if value.is_floating_point():
                again = moved(to_numpy(value), np.random.default_rng(seed), eps)
                value.copy_(torch.from_numpy(again))
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = case.pair.optimizer.torch(trained)

    def advance(batch: Batch) -> float:
        module.train(case.pair.trains)
        inputs, labels = case.torch_batch(batch)
        optimizer.zero_grad()
        loss = case.torch_loss(case.torch_call(module, inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def look() -> Tensors:
        return {name: to_numpy(value) for name, value in module.state_dict().items()}

    def outputs(batch: Batch) -> Tensors:
        with torch.no_grad():
            found = case.torch_call(module.eval(), case.torch_batch(batch)[0])
        return {path: to_numpy(value) for path, value in leaves(found).items()}

    return Run(advance, look, outputs)


def in_torch_layout(case: Case, ours: Tensors, theirs: Tensors) -> Tensors:
    """JAX's outputs of those paths that both have, in PyTorch's layout."""
    found = {}
    for path, reference in theirs.items():
        if path in ours:
            value = aligned(ours[path], reference, case.pair.channels_last, inner=False)
            found[path] = ours[path] if value is None else value
    return found


def reordered(batch: Batch, seed: tuple[int, ...]) -> Batch:
    """The batch with its examples in another order."""
    order = np.random.default_rng(seed).permutation(rows(batch.inputs))
    return Batch(*(take(part, order, len(order)) for part in batch))


def same_in_any_order(case: Case, state: Tensors, batch: Batch) -> bool:
    """Whether PyTorch's loss is a mean of the examples', and not one of their order."""
    module = case.torch_model(state)
    losses = []
    for given in (batch, reordered(batch, (0,))):
        inputs, labels = case.torch_batch(given)
        with torch.no_grad():
            outputs = case.torch_call(module, inputs)
            losses.append(case.torch_loss(outputs, labels).item())
    return abs(losses[0] - losses[1]) <= SAME * abs(losses[0])


def own_noise(ours: float, theirs: float) -> float:
    """What second runs say of rounding: PyTorch's, and JAX's as far as that is plausible."""
    return max(theirs, min(ours, NOISIER * max(theirs, FLOOR)))


Idle = Mapping[str, np.ndarray]
"""By parameter, those of its numbers that are True."""


def only_rounded(case: Case, state: Tensors, batch: Batch) -> Idle:
    """The numbers by which both gradients are zero but for rounding, JAX's in float32.

    As by a key's bias, which a softmax takes away. An optimizer that divides by the gradient's size
    makes steps of that rounding.
    """
    with precision(case.dtype):
        ours = gradients.ours(case)(state, batch)
    ours, theirs = gradients.matched(case, ours, gradients.theirs(case)(state, batch), [])
    zero = SAME_IN_FLOAT32 if case.dtype == "float32" else ZERO
    layers, found = largest_by_layer(theirs), dict[str, np.ndarray]()
    for name, gradient in theirs.items():
        layer, parameter = layers[name.rpartition(".")[0]], name.partition(COPY)[0]
        idle = (np.abs(gradient) <= zero * layer) & (np.abs(ours[name]) <= SAME_IN_FLOAT32 * layer)
        # Where all of them are exactly zero, nothing is rounded.
        found[parameter] = found.get(parameter, True) & idle & bool(gradient[idle].any())
    return {name: idle for name, idle in found.items() if idle.any()}


def only(idle: Idle, look: Tensors) -> Tensors:
    """The idle numbers of a look, and zeros beside them in the same tensors."""
    return {
        name: np.where(idle[base], value, 0)
        for name, value in look.items()
        if (base := name.partition(COPY)[0]) in idle
    }


def without(idle: Idle, look: Tensors) -> Tensors:
    """The numbers of a look that are not idle, and zeros for the others."""
    return {
        name: np.where(idle[base], 0, value) if (base := name.partition(COPY)[0]) in idle else value
        for name, value in look.items()
    }
