"""An optimizer that departs, from gradients that both sides share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optax

from parity.diagnosis import optimizer_others, optimizer_update
from parity.diagnosis.common import said
from parity.diagnosis.optimizer_causes import Group, explain
from parity.diagnosis.optimizer_problem import Problem, problem
from parity.diagnosis.optimizer_rules import group_rules, is_rounded, learning_rate
from parity.ladder.bias_correction import FLOAT32, bias_correction, exact_correction
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import optimizer
from parity.ladder.tolerance import FLOAT64_TOLERANCE, relative_error
from parity.pairs.case import Case, precision
from parity.pairs.optimizers import OptimizerSpec
from parity.pairs.pair import Tensors

ROUNDED = "the learning rate is a tensor in PyTorch, rounded to float32"
CORRECTED = 1e-10
"""Relative: what agrees once the correction is not."""


def find(case: Case, state: Tensors) -> Diagnosis:
    """From the shared gradients of the optimizer rung."""
    expected = _theirs(case, state)
    observed, exact = _ours_twice(case, state)
    names = [name for name in expected[0][0] if name in observed[0][0]]
    worst, error, step = _departure(observed, expected, names)
    if error <= FLOAT64_TOLERANCE:
        return said(None)
    narrow = _error(observed, exact, names) > 1e-13
    given = _problem(case, state, exact, names)
    cause = None
    if narrow and _error(exact, expected, names) <= CORRECTED:
        cause = FLOAT32
    elif _error(exact, expected, names) > FLOAT64_TOLERANCE:
        groups = groups_of(case, state, names)
        cause = explain(groups, given) if groups is not None else None
        if cause is None and groups is not None and any(group.rounded for group in groups):
            cause = ROUNDED
        cause = cause or optimizer_others.cause(case, state, given)
    text = f"first departs: the optimizer, {worst} at step {step}, by the update, "
    text += f"relative error {error:.1e}. "
    if cause:
        text += f"Cause: {cause}."
    else:
        theirs = _problem(case, state, expected, names).observed
        text += "No usual fault makes the two agree: " + optimizer_update.told(case, given, theirs)
    if narrow and cause != FLOAT32:
        text += f" Besides, {FLOAT32}."
    return Diagnosis("the optimizer", error, None, None, cause, text)


def _ours_twice(case: Case, state: Tensors) -> tuple[list[list[Tensors]], list[list[Tensors]]]:
    """JAX's parameters as they are, and with exact bias corrections if there are any."""
    original, calls = optax.tree_utils.tree_bias_correction, []

    def counted(moment: Any, decay: Any, count: Any) -> Any:
        calls.append(decay)
        return original(moment, decay, count)

    with bias_correction(counted):
        observed = _ours(case, state)
    if not calls:
        return observed, observed
    with bias_correction(exact_correction):
        return observed, _ours(case, state)


def groups_of(case: Case, state: Tensors, names: Sequence[str]) -> list[Group] | None:
    """PyTorch's parameter groups; None for an optimizer whose rules are not known."""
    module = case.torch_model(state)
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    made = case.pair.optimizer.torch(named.values())
    owners = {id(value): name for name, value in named.items()}
    groups = []
    for group in made.param_groups:
        base = group_rules(made, group, optimizer.STEPS)
        if base is None:
            return None
        own = tuple(owners[id(p)] for p in group["params"] if owners.get(id(p)) in names)
        if own:
            spec = OptimizerSpec(base.name, learning_rate(group))
            groups.append(Group(own, base, spec, is_rounded(group)))
    covered = {name for group in groups for name in group.names}
    return groups if covered == set(names) else None


def _ours(case: Case, state: Tensors) -> list[list[Tensors]]:
    with precision(case.dtype):
        return [
            list(optimizer.our_steps(case, state, scale=scale))
            for scale in optimizer.STARTS.values()
        ]


def _theirs(case: Case, state: Tensors) -> list[list[Tensors]]:
    return [list(optimizer.their_steps(case, state, scale)) for scale in optimizer.STARTS.values()]


def _problem(
    case: Case, state: Tensors, found: list[list[Tensors]], names: Sequence[str]
) -> Problem:
    starts = [
        {name: scale * np.asarray(state[name], np.float64) for name in names}
        for scale in optimizer.STARTS.values()
    ]
    return problem(starts, list(optimizer.shared_gradients(case)), found)


def _departure(
    observed: list[list[Tensors]], expected: list[list[Tensors]], names: Sequence[str]
) -> tuple[str, float, int]:
    """The worst parameter of the first step that departs, from any start."""
    worst, error = "", 0.0
    for step in range(len(observed[0])):
        for ours, theirs in zip(observed, expected, strict=True):
            for name in names:
                found = relative_error(ours[step][name], theirs[step][name])
                if found > error or not worst:
                    worst, error = name, found
        if not error <= FLOAT64_TOLERANCE:
            return worst, error, step + 1
    return worst, error, len(observed[0])


def _error(
    observed: list[list[Tensors]], expected: list[list[Tensors]], names: Sequence[str]
) -> float:
    return max(
        relative_error(ours[name], theirs[name])
        for first, second in zip(observed, expected, strict=True)
        for ours, theirs in zip(first, second, strict=True)
        for name in names
    )
