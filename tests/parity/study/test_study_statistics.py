"""Means and their intervals, and the test that two are the same."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from parity.study.statistics import equality, mean_of, needed, prediction_p


def test_a_mean_has_students_interval():
    values = [0.71, 0.72, 0.74, 0.70]
    told = mean_of(values)
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert (told.n, told.mean) == (4, pytest.approx(0.7175))
    assert (told.low, told.high) == (pytest.approx(low), pytest.approx(high))


def test_one_number_has_no_interval():
    told = mean_of([0.5])
    assert told.mean == 0.5 and math.isnan(told.low) and math.isnan(told.deviation)


def test_equality_is_two_one_sided_t_tests():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.001, 0.004, 20)
    told = equality(differences, 0.005)
    tests: list[Any] = [
        scipy.stats.ttest_1samp(differences, -0.005, alternative="greater"),
        scipy.stats.ttest_1samp(differences, 0.005, alternative="less"),
    ]
    assert told.p == pytest.approx(max(test.pvalue for test in tests)) and told.equal
    # At 5 % it is the same as an interval of 90 % within the margin.
    assert -0.005 < told.low < told.mean < told.high < 0.005


@pytest.mark.parametrize("shift", [0.0, 0.004, 0.006])
def test_the_interval_and_the_p_value_say_the_same(shift):
    rng = np.random.default_rng(1)
    for _ in range(100):
        told = equality(rng.normal(shift, 0.006, 12), 0.005)
        assert told.equal == (-0.005 <= told.low and told.high <= 0.005)


def test_equality_is_wrongly_proved_in_five_per_cent_at_most():
    """Where the true difference is the margin itself."""
    rng = np.random.default_rng(2)
    wrong = sum(equality(rng.normal(0.005, 0.003, 10), 0.005).equal for _ in range(500))
    assert wrong / 500 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 500)


def test_so_many_pairs_as_are_said_to_be_needed_do():
    rng = np.random.default_rng(3)
    pairs = needed(0.006, 0.005)
    proved = sum(equality(rng.normal(0, 0.006, pairs), 0.005).equal for _ in range(500))
    assert proved / 500 > 0.9 - 4 * math.sqrt(0.9 * 0.1 / 500)
    fewer = sum(equality(rng.normal(0, 0.006, pairs // 2), 0.005).equal for _ in range(500))
    assert fewer / 500 < 0.7


def test_differences_of_nothing_are_equal():
    assert equality([0.0, 0.0, 0.0], 0.005).equal
    assert not equality([0.01, 0.01, 0.01], 0.005).equal
    assert equality([0.0, 0.0], 0.01).needed == 2 and needed(10.0, 0.001, most=50) == 50


def test_a_value_of_the_same_distribution_is_rarely_outside():
    rng = np.random.default_rng(4)
    samples = rng.normal(0.72, 0.004, (1000, 21))
    outside = sum(prediction_p(row[0], row[1:]) < 0.05 for row in samples)
    assert abs(outside / 1000 - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 1000)
    assert prediction_p(0.9, [0.7, 0.7]) == 0.0 and prediction_p(0.7, [0.7, 0.7]) == 1.0
