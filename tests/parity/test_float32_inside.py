"""A module that computes in float32 by design beside a fault that is none of that."""

import dataclasses

import correct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ports import attention, norms_in_float32

from parity.checking import climb_all
from parity.ladder.tolerance import scales_of

RUNGS = "forward", "loss", "gradients"
SEEDS = 0, 4, 10


def test_a_zero_gradient_is_one_in_float32_too():
    theirs = {"key.weight": np.array([1.0]), "key.bias": np.array([1e-18])}
    ours = {**theirs, "key.bias": np.array([1e-6])}
    assert scales_of(ours, theirs)["key.bias"] == 1e-18
    assert scales_of(ours, theirs, 3e-6)["key.bias"] == 1.0
    assert scales_of({**theirs, "key.bias": np.array([1e-3])}, theirs, 3e-6)["key.bias"] == 1e-18


def test_scores_in_float32_pass():
    results = list(climb_all(attention.scores_in_float32(False), RUNGS))
    assert all(r.passed for r in results), [r.detail for r in results]


@pytest.mark.parametrize("seed", (0, 2))
def test_another_fault_explains_the_gradients(seed):
    results = list(climb_all(attention.scores_in_float32(True), RUNGS, seed=seed))
    failing = [r for r in results if r.passed is False]
    assert {r.rung for r in failing} == {"forward", "gradients"}
    faults = [f for r in failing if r.diagnosis for f in r.diagnosis.faults]
    assert {(f.module, "tanh" in (f.cause or "")) for f in faults} == {("act", True)}, faults


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_by_the_inputs_are_allowed_the_rounding_of_the_others(seed):
    results = list(climb_all(norms_in_float32.net(), ["gradients"], seed=seed))
    assert all(r.passed for r in results), [r.detail for r in results]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_zero_gradient_allows_no_other_anything(seed):
    """The bias before a norm has a gradient of rounding, beside which all else would be small."""
    exact = next(iter(climb_all(norms_in_float32.net(doubled=True), ["gradients"], seed=seed)))
    assert exact.passed is False and "the inputs" in exact.detail, exact


def test_a_gradient_that_is_stopped_is_found_beside_rounding():
    results = climb_all(attention.scores_in_float32(values_are_stopped=True), ["gradients"], seed=2)
    faults = [f for r in results if r.diagnosis for f in r.diagnosis.faults]
    assert faults and {f.module for f in faults} == {"att.value"}, faults
    assert all("the gradient is stopped" in (f.cause or "") for f in faults)


@pytest.mark.parametrize("seed", (7, 12))
def test_training_leaves_out_a_zero_gradient_that_is_rounded_to_float32(seed):
    """Adam makes steps of the rounding: JAX leaves itself as far as it leaves PyTorch."""
    results = list(climb_all(correct.PAIRS["fused_attention"](seed), ["trajectory"], steps=10))
    assert all(r.passed for r in results), [r.detail for r in results]
    assert all(any("zero but for rounding: key.bias" in x for x in r.remarks) for r in results)


def test_a_parameter_is_left_out_only_where_jax_has_no_gradient_either():
    """The bias of a key is taken away by the softmax, and comes back without a value here."""
    pair = correct.PAIRS["fused_attention"](7)

    def apply(p, x):
        back = p["key.bias"].sum()
        return pair.jax_apply(p, x) + (back - jax.lax.stop_gradient(back)) * jnp.arange(5.0)

    faulty = dataclasses.replace(pair, jax_apply=apply)
    results = list(climb_all(faulty, ["trajectory"], steps=10))
    assert any(r.passed is False for r in results)
    assert not any("key.bias" in remark for r in results for remark in r.remarks)
