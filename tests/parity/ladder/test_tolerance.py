"""The tolerances: what passes, what fails, and that nothing odd passes."""

import numpy as np
import pytest

from parity.ladder.tolerance import (
    FLOAT32_EPS,
    NOISE_MULTIPLE,
    Rounded,
    compare_float64,
    compare_rounded,
    measure_rounded,
    relative_error,
)


@pytest.mark.parametrize("error, passes", [(0, True), (9e-13, True), (1.1e-12, False)])
def test_float64_is_a_gate(error, passes):
    theirs = {"a": np.array([1.0, -4.0]), "b": np.ones(3)}
    ours = {"a": np.array([1.0 + 4 * error, -4.0]), "b": np.ones(3)}
    comparison = compare_float64(ours, theirs)
    assert comparison.passed is passes
    assert comparison.measured == pytest.approx(error, abs=3e-16)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_value_that_is_not_finite_never_passes(odd):
    bad, good = {"a": np.array([odd, 1.0])}, {"a": np.ones(2)}
    both = [(bad, bad)] if np.isnan(odd) else []
    for ours, theirs in [(bad, good), (good, bad), (bad, {"a": -bad["a"]}), *both]:
        assert not compare_float64(ours, theirs).passed
        assert not compare_rounded(
            [measure_rounded(ours, theirs, good, good, "float32")], "float32"
        ).passed


def test_another_shape_never_passes():
    assert not compare_float64({"a": np.ones((1, 2))}, {"a": np.ones(2)}).passed


def test_another_set_of_tensors_is_an_error():
    with pytest.raises(ValueError, match=r"\['b'\]"):
        compare_float64({"a": np.ones(1)}, {"a": np.ones(1), "b": np.ones(1)})


def test_float32_noise_says_how_ill_conditioned_a_tensor_is():
    ours, theirs = {"a": np.array([1 + 1e-11])}, {"a": np.array([1.0])}
    assert not compare_float64(ours, theirs).passed
    assert not compare_float64(ours, theirs, {"a": 1e-6}).passed
    found = compare_float64(ours, theirs, {"a": 1e-2})
    assert found.passed and found.tolerance == pytest.approx(16 * 2.0**-29 * 1e-2)
    assert not compare_float64(ours, theirs, {"a": float("inf")}).passed
    assert not compare_float64(ours, theirs, {"b": 1e-2}).passed


def test_what_the_relative_error_is_relative_to():
    assert relative_error(np.array([3.0]), np.array([2.0])) == 0.5
    assert relative_error(np.array([3.0]), np.array([2.0]), 10.0) == 0.1
    infinite = np.array([-np.inf, 2.0])
    assert relative_error(np.array([-np.inf, 3.0]), infinite) == 0.5
    assert relative_error(np.zeros(2), np.zeros(2)) == 0
    assert relative_error(np.zeros(0), np.zeros(0)) == 0


def test_float32_is_judged_by_the_quieter_framework():
    noisy = Rounded(difference=1e-3, our_noise=1e-3, their_noise=1e-6)
    assert noisy.multiple() == pytest.approx(1000)
    assert not compare_rounded([{"a": noisy}], "float32").passed
    assert compare_rounded([{"a": Rounded(1e-5, 1e-5, 1e-6)}], "float32").passed
    lucky = Rounded(difference=NOISE_MULTIPLE * FLOAT32_EPS, our_noise=0.0, their_noise=1e-6)
    assert compare_rounded([{"a": lucky}], "float32").passed


def test_a_failed_float32_check_says_how_much_too_large_it_is():
    wrong = compare_rounded([{"a": Rounded(6.5e-4, 1e-6, 1e-6)}], "float32")
    assert not wrong.passed and wrong.measured == pytest.approx(650)
    # Within the quieter framework's allowance, over the noisier one's: above the bar all the same.
    edge = compare_rounded([{"a": Rounded(5e-6, 1e-6, 1e-6)}], "float32")
    assert not edge.passed and edge.measured == pytest.approx(20)
    for noise in (1e-6, float("inf")):
        lost = compare_rounded([{"a": Rounded(float("inf"), 1e-6, noise)}], "float32")
        assert not lost.passed and lost.measured == float("inf")


def test_one_batch_without_a_decided_tie_is_enough_for_each_tensor():
    tie, fine = Rounded(1e-2, 1e-2, 1e-6), Rounded(1e-6, 1e-6, 1e-6)
    assert compare_rounded([{"a": tie, "b": fine}, {"a": fine, "b": tie}], "float32").passed
    assert not compare_rounded([{"a": tie, "b": fine}, {"a": tie, "b": fine}], "float32").passed
