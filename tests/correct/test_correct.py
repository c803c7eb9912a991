"""The correct pairs are correct: each side against the other directly, without the ladder."""

import dataclasses

import jax
import numpy as np
import pytest

from correct import FLOAT32_INSIDE, PAIRS, direct


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_correct(name):
    found = direct.differences(PAIRS[name](3), 3)
    bar = 1e-5 if name in FLOAT32_INSIDE else 1e-9
    assert all(difference <= bar for difference in found.values()), found


def test_a_gradient_that_is_stopped_is_seen():
    pair = PAIRS["key_bias"](0)

    def stopped(p, x):
        return pair.jax_apply({**p, "out.bias": jax.lax.stop_gradient(p["out.bias"])}, x)

    found = direct.differences(dataclasses.replace(pair, jax_apply=stopped), 0)
    assert found.pop("gradients") > 0.01
    assert max(found.values()) <= 1e-9


def test_the_seed_changes_the_examples():
    for name, make in PAIRS.items():
        first, second, again = make(1), make(2), make(1)
        inputs = [str(pair.example_inputs) for pair in (first, second, again)]
        assert inputs[0] == inputs[2] != inputs[1], name
        assert np.any(np.asarray(first.labels) != np.asarray(second.labels)), name


def test_there_are_thirty_and_more():
    assert len({make(0).name for make in PAIRS.values()}) == len(PAIRS) >= 30
