"""Fused multiply-adds in NumPy, rounded once."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_impl.torch_random.fma import fma32, fma64

doubles = st.floats(-1e9, 1e9).map(lambda x: x if abs(x) > 1e-90 else 0.0)


@given(doubles, doubles, doubles, st.integers(-60, 60), st.booleans())
@settings(max_examples=1000, deadline=None, derandomize=True)
def test_fma64_of_any_values(a, b, c, power, cancel):
    """Also where the product and `c` all but cancel or lie far apart."""
    c = -a * b * (1 + 2.0**power * (power < -40)) if cancel else c * 2.0**power
    expected = Fraction(a) * Fraction(b) + Fraction(c)
    assert fma64(np.array([a]), np.array([b]), np.array([c]))[0] == float(expected)


@given(st.integers(-200, 200), st.integers(0, 2**52 - 1), *[st.sampled_from((-1, 1))] * 2)
@settings(max_examples=1000, deadline=None, derandomize=True)
def test_fma64_rounds_once(power, tail, sign, near):
    """Products within 2^-104 of half an ulp of `c`: rounding anything twice gives a halfway sum."""
    a, b = 1 + 2.0**-52, sign * (1 - near * 2.0**-52) * 2.0**power
    c = (2**52 + tail) * 2.0 ** (power + 1)
    expected = Fraction(a) * Fraction(b) + Fraction(c)
    assert fma64(np.array([a]), np.array([b]), np.array([c]))[0] == float(expected)


@given(st.integers(-120, 50) | st.just(-150), st.integers(0, 2**22 - 1), st.sampled_from((-1, 1)))
@settings(max_examples=1000, deadline=None, derandomize=True)
def test_fma32_rounds_once(power, half, sign):
    """Sums that float64 rounds to halfway between two float32 values, subnormal ones included."""
    unit = 2.0**power  # half the distance of float32 values at `c`
    a, b = (1 + 2.0**-23) * 2.0**-75, sign * (1 - 2.0**-23) * unit * 2.0**75
    c = (4 * half + 2 + (0 if power == -150 else 2**24)) * unit
    result = fma32(np.array([a]), np.array([b]), np.array([c]))[0]
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    rounded = np.float32(result)
    for side in (-np.inf, np.inf):
        neighbour = np.nextafter(rounded, np.float32(side))
        assert abs(Fraction(result) - exact) <= abs(Fraction(float(neighbour)) - exact)
