"""Pairs that are compared in float32 alone: no rung is left out, and causes are told."""

import dataclasses

import correct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import parity
from parity.checking import climb_all

ALONE = ("float32",)


def with_step(factor: float) -> parity.Pair:
    """A net whose own step in JAX moves weights `factor` times as far as PyTorch's."""

    def apply(p, x):
        return x @ p["weight"].T + p["bias"]

    def stepper(optimizer):
        def step(state, inputs, labels):
            params, held = state

            def loss(params):
                logits = apply(params, inputs)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            value, gradients = jax.value_and_grad(loss)(params)
            updates, held = optimizer.update(gradients, held, params)
            updates = jax.tree.map(lambda u: factor * u, updates)
            return (optax.apply_updates(params, updates), held), value

        return lambda params: (params, optimizer.init(params)), step, lambda state: state[0]

    return parity.Pair(
        "linear",
        lambda: torch.nn.Linear(6, 3),
        apply,
        lambda state: {name: jnp.asarray(value) for name, value in state.items()},
        example_inputs=np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32),
        optimizer=parity.named_optimizer("sgd", lr=0.1),
        jax_step=stepper,
        dtypes=ALONE,
    )


@pytest.mark.parametrize("factor, right", [(1.0, True), (3.0, False), (1.001, False)])
def test_the_training_step_is_compared(factor, right):
    results = list(climb_all(with_step(factor), ["trajectory"], steps=10))
    assert {r.dtype for r in results} == {"float32"}
    assert all(r.passed for r in results) is right, [(r.measured, r.tolerance) for r in results]


def test_in_bfloat16_alone_it_is_told_that_training_is_not():
    pair = dataclasses.replace(with_step(3.0), dtypes=("bfloat16",))
    (only,) = climb_all(pair, ["trajectory"])
    assert only.passed is None and "float64 and float32 alone" in only.detail


@pytest.mark.parametrize("name", ["key_bias", "fused_attention"])
def test_correct_pairs_pass(name):
    pair = dataclasses.replace(correct.PAIRS[name](3), dtypes=ALONE)
    results = list(climb_all(pair, steps=20))
    assert all(r.passed is not False for r in results), [r.detail for r in results]
    trained = [r for r in results if r.rung == "trajectory"]
    assert len(trained) == 2 and all(r.passed for r in trained)
    assert all(any("key.bias" in remark for remark in r.remarks) for r in trained)


@pytest.mark.parametrize("decay, right", [(1e-4, True), (1e-3, False)])
def test_what_rounding_alone_moves_is_held_to_what_rounding_makes_of_it(decay, right):
    """The key's bias, whose gradient is zero, by a step that decays it otherwise than PyTorch's."""
    pair = correct.PAIRS["key_bias"](3)

    def decayed(parameters):
        return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)

    def stepper(optimizer):
        def step(state, inputs, labels):
            params, held = state

            def loss(params):
                logits = pair.jax_apply(params, inputs)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            value, gradients = jax.value_and_grad(loss)(params)
            updates, held = optimizer.update(gradients, held, params)
            more = (1e-4 - decay) * params["key.bias"]
            updates |= {"key.bias": updates["key.bias"] + more}
            return (optax.apply_updates(params, updates), held), value

        return lambda params: (params, optimizer.init(params)), step, lambda state: state[0]

    optimizer = parity.Optimizer(decayed, optax.adamw(1e-3, weight_decay=0.1))
    faulty = dataclasses.replace(pair, jax_step=stepper, optimizer=optimizer, dtypes=ALONE)
    results = list(climb_all(faulty, ["trajectory"]))
    (apart,) = (r for r in results if "rounding alone moves" in r.unit)
    assert apart.passed is right and "key.bias" in apart.detail
    assert all(r.passed for r in results if r is not apart)


def test_a_cause_is_told():
    pair = correct.PAIRS["key_bias"](3)

    def apply(p, x):
        return 2 * pair.jax_apply(p, x)

    faulty = dataclasses.replace(pair, jax_apply=apply, dtypes=ALONE)
    (found,) = climb_all(faulty, ["forward"])
    assert found.passed is False and found.diagnosis is not None
    assert found.diagnosis.cause == "it is 2 times PyTorch's"
