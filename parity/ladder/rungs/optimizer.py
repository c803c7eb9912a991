"""Three steps of the pair's optimizer, from gradients that both sides share.

On the parameters, and from zeros, where the parameters after a step are the step itself. What
gradients that differ by rounding lead to is the `trajectory` rung's.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import optax
import torch

from parity.pairs.case import Case, Side
from parity.pairs.leafmap import COPY
from parity.pairs.pair import Batch, Tensors, to_numpy

STEPS = 3
STARTS = {"": 1.0, "from zeros: ": 0.0}


def ours(case: Case) -> Side:
    """JAX's side: the parameters after `STEPS` steps, from each of `STARTS`."""
    step = _jitted(case)

    def steps(state: Tensors, batch: Batch) -> Tensors:
        del batch
        if not case.pair.parameters:
            return {}
        return {
            prefix + name: value
            for prefix, scale in STARTS.items()
            for name, value in _last(our_steps(case, state, step, scale)).items()
        }

    return steps


def theirs(case: Case) -> Side:
    """PyTorch's side: the same, under the same names."""

    def steps(state: Tensors, batch: Batch) -> Tensors:
        del batch
        if not case.pair.parameters:
            return {}
        return {
            prefix + name: value
            for prefix, scale in STARTS.items()
            for name, value in _last(their_steps(case, state, scale)).items()
        }

    return steps


def matched(
    case: Case, ours: Tensors, theirs: Tensors, remarks: list[str]
) -> tuple[Tensors, Tensors]:
    """What both have; a weight that JAX holds twice in each place.

    Without what JAX holds a multiple of: there an equal step is another one.
    """
    remarks += case.pair.leaf_map.uncompared
    rescaled = case.pair.leaf_map.rescaled
    if rescaled:
        remarks.append(f"a multiple in JAX, and not compared: {', '.join(sorted(rescaled))}")
    names = {name: name.partition(COPY)[0] for name in ours}
    first = {
        name: ours[name]
        for name, base in names.items()
        if base in theirs and base.rpartition(": ")[2] not in rescaled  # a prefix tells the start
    }
    return first, {name: theirs[names[name]] for name in first}


def _last(steps: Iterator[Tensors]) -> Tensors:
    """Without keeping the others: a wide model's take gigabytes."""
    return deque(steps, maxlen=1)[0]


def our_steps(
    case: Case, state: Tensors, step: Any = None, scale: float = 1.0
) -> Iterator[Tensors]:
    """JAX's parameters after each step, from `scale` times the state's."""
    step, leaf_map = step or _jitted(case), case.pair.leaf_map
    floats = {n: v * scale if v.dtype.kind == "f" else v for n, v in state.items()}
    params, _ = leaf_map.split(case.variables(floats))
    opt_state = case.pair.optimizer.jax.init(params)
    for gradients in shared_gradients(case):
        shared = leaf_map.gradients_to_jax(gradients, case.dtype)
        params, opt_state = step(params, opt_state, shared)
        yield leaf_map.to_torch(params, True)


def _jitted(case: Case) -> Any:
    optimizer = case.pair.optimizer.jax

    @case.compiled
    def step(params, opt_state, gradients):
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


def their_steps(case: Case, state: Tensors, scale: float = 1.0) -> Iterator[Tensors]:
    """PyTorch's parameters after each step, from `scale` times the state's."""
    module = case.torch_model(state)
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    optimizer = case.pair.optimizer.torch(trained.values())
    with torch.no_grad():
        for parameter in trained.values():
            parameter.mul_(scale)
    for gradients in shared_gradients(case):
        for name, parameter in trained.items():
            parameter.grad = torch.from_numpy(gradients[name]).to(parameter)
        optimizer.step()
        yield {name: to_numpy(value) for name, value in trained.items()}


def shared_gradients(case: Case) -> Iterator[Tensors]:
    """Random float32 ones in PyTorch's layout for each step, of magnitudes from 1e-8 to 1."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        yield {name: _spread(rng, shape) for name, shape in case.pair.parameters.items()}


def _spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    uniform = rng.uniform(-8, 8, shape).astype(np.float32)  # the sign and the magnitude
    # NumPy gives a scalar in the place of an array of no axes.
    return np.asarray(np.copysign(np.exp2(np.abs(uniform) * np.float32(-3.3219)), uniform))
