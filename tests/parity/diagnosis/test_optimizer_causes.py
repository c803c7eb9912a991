"""Every fault that the diagnosis knows, planted in an Optax chain, is named; nothing else is."""

import re
from collections.abc import Callable

import jax
import numpy as np
import optax
import pytest
from planted_optimizers import (
    GRADIENTS,
    LR,
    PARAMS,
    PLANTED,
    SGD,
    SKIPS,
    STACKED,
    STEPS,
    other,
)  # fmt: skip

from parity.diagnosis.optimizer_causes import cause, departure, faults, rules, trajectory
from parity.ladder.rungs.optimizers import SPECS, optax_steps, shared, torch_steps
from parity.ladder.tolerance import relative_error
from parity.pairs.optimizers import ClipSpec, OptimizerSpec


def observe(make: Callable[[], optax.GradientTransformation]) -> list[dict[str, np.ndarray]]:
    """The parameters after each step; unjitted, for compiling takes longer than a few steps."""
    with jax.disable_jit():
        stacked = optax_steps(make, PARAMS, STACKED)
    return [{name: values[step] for name, values in stacked.items()} for step in range(STEPS)]


@pytest.mark.parametrize(
    "spec, make, expected", PLANTED, ids=[f"{i}-{case[2]}" for i, case in enumerate(PLANTED)]
)
def test_a_planted_fault_is_named(spec, make, expected):
    assert cause(spec, PARAMS, GRADIENTS, observe(make)) == expected


def kind_of(text: str) -> str:
    """Without its numbers."""
    return re.sub(r"\d[\d.e-]*", "#", text)


def test_every_fault_is_planted():
    """One of each kind of value."""
    specs = {id(spec): spec for spec, _, _ in PLANTED}.values()
    known = {kind_of(text) for spec in specs for text, _ in faults(spec, rules(spec, STEPS))}
    planted = {kind_of(text) for _, _, texts in PLANTED for text in texts.split(", or ")}
    assert known == planted - {SKIPS}


@pytest.mark.parametrize("spec", dict.fromkeys(str(spec) for spec, _, _ in PLANTED))
def test_the_correct_chain_has_no_cause(spec):
    (chosen, *_) = [s for s, _, _ in PLANTED if str(s) == spec]
    observed = observe(chosen.to_optax)
    assert departure(chosen, PARAMS, GRADIENTS, observed) is None
    assert cause(chosen, PARAMS, GRADIENTS, observed) is None


def test_a_fault_without_effect_is_none():
    """Clipping that never clips, missing or not."""
    spec = OptimizerSpec("sgd", LR, clip=ClipSpec("norm", 1e6))
    assert cause(spec, PARAMS, GRADIENTS, observe(spec.to_optax)) is None
    assert cause(spec, PARAMS, GRADIENTS, observe(other(spec))) is None


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_rules_are_torchs(spec):
    params, stacked = shared()
    theirs = torch_steps(spec, params, stacked)
    gradients = [{name: v[step] for name, v in stacked.items()} for step in range(50)]
    ours = trajectory(rules(spec, 50), params, gradients)
    for step, tensors in enumerate(ours):
        for name, value in tensors.items():
            assert relative_error(value, theirs[name][step]) <= 1e-12


def test_a_departure_is_located():
    observed = observe(SGD.to_optax)
    observed[4] = observed[4] | {"vector": observed[4]["vector"] * (1 + 1e-9)}
    found = departure(SGD, PARAMS, GRADIENTS, observed)
    assert found is not None and (found.step, found.name) == (5, "vector")
    assert found.error == pytest.approx(1e-9, rel=1e-3)


def test_an_unknown_fault_is_not_named():
    observed = observe(other(SGD, momentum=0.77))
    assert departure(SGD, PARAMS, GRADIENTS, observed) is not None
    assert cause(SGD, PARAMS, GRADIENTS, observed) is None


def test_parameters_that_are_not_finite_are_a_departure():
    observed = observe(SGD.to_optax)
    observed[0] = {name: np.full_like(value, np.nan) for name, value in observed[0].items()}
    found = departure(SGD, PARAMS, GRADIENTS, observed)
    assert found is not None and found.step == 1 and found.error == np.inf
