"""Models, losses and optimizers that raise: whose error it is, and where."""

import dataclasses
import sys

import pytest
from mutants import pairs

import parity
from jax_impl.errors import InputError
from parity.checking import climb_all
from parity.pairs.pair import CROSS_ENTROPY


def test_a_model_that_cannot_be_run_is_told_with_its_line():
    def broken(variables, x):
        return x @ variables["fc2.weight"]

    with pytest.raises(
        InputError, match=r"mlp: jax_apply in eval mode failed: TypeError: .*test_cannot_run"
    ):
        list(climb_all(dataclasses.replace(pairs.mlp(), jax_apply=broken), ["forward"]))


def test_a_loss_that_cannot_be_run_is_told_with_its_line():
    def broken(outputs, labels):
        raise KeyError("logits")

    pair = dataclasses.replace(pairs.mlp(), loss=parity.Loss(CROSS_ENTROPY.torch, broken))
    given = pairs.batches(pair)
    assert all(r.passed for r in climb_all(pair, ["forward"], batches=given, jit=False))
    with pytest.raises(InputError, match="the loss in JAX failed: KeyError: .*test_cannot_run.py:"):
        list(climb_all(pair, ["forward", "loss"], batches=given, jit=False))


def test_an_optimizer_that_cannot_be_run_fails_its_rung():
    def broken(parameters):
        raise KeyError("rate")

    pair = pairs.mlp()
    chosen = pair.optimizer._replace(torch=broken)
    faulty = dataclasses.replace(pair, optimizer=chosen)
    found = list(climb_all(faulty, ["optimizer"], batches=pairs.batches(pair), jit=False))
    assert [r.passed for r in found] == [False]
    assert "it cannot be run: KeyError: 'rate'" in found[0].detail
    assert found[0].diagnosis is not None
    assert found[0].diagnosis.text.endswith("the last module to complete: fc2")


@pytest.mark.parametrize("status", [0, 1])
def test_a_model_that_ends_the_process_passes_nothing(status):
    pair = pairs.mlp()
    apply, calls = pair.jax_apply, []

    def ends(variables, x):
        calls.append(None)
        if len(calls) > most:
            sys.exit(status)
        return apply(variables, x)

    faulty, most = dataclasses.replace(pair, jax_apply=ends), 0
    with pytest.raises(InputError, match=rf"eval mode failed: SystemExit: {status} \(.*, in ends"):
        list(climb_all(faulty, ["forward"], jit=False))
    calls, most = [], 6
    found = list(climb_all(faulty, ["forward", "gradients"], jit=False))
    assert any(r.passed is False and "cannot be run: SystemExit" in r.detail for r in found)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_cannot_be_used_is_told(seed):
    with pytest.raises(InputError, match=f"seed is {seed}: give 0 to"):
        list(climb_all(pairs.mlp(), seed=seed))
