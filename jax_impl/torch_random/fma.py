"""Fused multiply-add, a·b + c rounded once, in NumPy, which has none."""

import numpy as np

_LOW28 = np.uint64((1 << 28) - 1)
_SPLIT = 2.0**27 + 1  # Veltkamp's constant for the 53 bits of float64


def fma32(a: np.ndarray, b: np.ndarray | float, c: np.ndarray | float) -> np.ndarray:
    """The float32 values nearest a·b + c, as float64.

    All arguments are float64 and hold float32 values, so that their products are exact and only
    the sum rounds. Rounding that again to float32 errs only where the sum lies halfway between
    two float32 values; there it is first moved by one ulp towards the exact sum.
    """
    total = a * b
    total += c
    # Halfway values, float32's subnormals included, end in 28 zeros.
    if not (total.view(np.uint64) & _LOW28).all():
        halfway = (total.view(np.uint64) & _LOW28) == 0
        a, b, c = (np.broadcast_to(x, total.shape)[halfway] for x in (a, b, c))
        rounded, error = _two_sum(a * b, c)
        moved = np.nextafter(rounded, np.copysign(np.inf, error))
        total[halfway] = np.where(error == 0, rounded, moved)
    return total.astype(np.float32).astype(np.float64)


def fma64(a: np.ndarray, b: np.ndarray | float, c: np.ndarray | float) -> np.ndarray:
    """The float64 values nearest a·b + c, of float64 arguments.

    The exact errors of the product and of the sum are added with rounding to odd, after which
    one more rounding is right: Boldo and Melquiond, "Emulation of a FMA and Correctly Rounded
    Sums Using Proved Algorithms", IEEE Transactions on Computers 57 (2008). Products must lie
    between 1e-290 and 1e300, or be 0, and `a` and `b` below 1e300.
    """
    product, low = _two_product(a, b)
    total, error = _two_sum(product, c)
    rest, missing = _two_sum(low, error)
    bits = rest.view(np.int64)
    towards_missing = np.where((missing > 0) == (rest > 0), 1, -1)
    odd = np.where((missing != 0) & (bits & 1 == 0), bits + towards_missing, bits)
    return total + odd.view(np.float64)


def _two_sum(a, b):
    """The sum a + b as its rounded value and the exact error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a, b):
    """The product a·b as its rounded value and the exact error (Dekker)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _halves(a):
    """The number a as the sum of two values of 26 bits (Veltkamp)."""
    shifted = _SPLIT * a
    high = shifted - (shifted - a)
    return high, a - high
