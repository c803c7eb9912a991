"""Normal values from uniform ones as PyTorch computes them on x86 CPUs, bit for bit, in NumPy.

PyTorch's vector code for float32 (`ATen/native/cpu/avx_mathfun.h`, after the Cephes library)
is compiled so that a multiplication and the addition that takes its result are fused; where they
are written here as `fma32`, that is what happens there, and where not, the product is exact or
goes elsewhere. float64 goes through the C library's functions, which are Python's as well.
"""

import math

import numpy as np

from jax_impl.torch_random.fma import fma32, fma64


def box_muller(unit: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Blocks of 16 uniforms in [0, 1) -> as many normals: 8 by cosine, then 8 by sine.

    Args:
        unit: float32 or float64, of a size divisible by 16; the dtype is the result's.
        mean: the normals'.
        std: their standard deviation.
    """
    first, second = unit.reshape(-1, 2, 8).transpose(1, 0, 2).reshape(2, -1)
    if unit.dtype == np.float32:
        radius = np.sqrt(np.float32(-2) * _log32(np.float32(1) - first))
        sine, cosine = _sincos32(np.float32(2 * math.pi) * second)
    else:
        radius = np.sqrt(-2 * _by_libm(math.log, 1 - first))
        angle = 2 * math.pi * second
        sine, cosine = _by_libm(math.sin, angle), _by_libm(math.cos, angle)
    pairs = np.empty((len(first) // 8, 2, 8), unit.dtype)
    pairs[:, 0] = (radius * cosine).reshape(-1, 8)
    pairs[:, 1] = (radius * sine).reshape(-1, 8)
    return affine(pairs.reshape(-1), std, mean)


def box_muller_pair(angle: float, radius: float) -> tuple[float, float]:
    """Two uniforms in [0, 1) -> two normals, as PyTorch draws fewer than 16 values."""
    length, theta = math.sqrt(-2 * math.log1p(-radius)), 2 * math.pi * angle
    return length * math.cos(theta), length * math.sin(theta)


def affine(values: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """values·scale + shift, rounded once: x86 compilers fuse PyTorch's multiply and add.

    `scale` and `shift` are rounded to the dtype of `values`, float32 or float64.
    """
    dtype = values.dtype.type
    scale, shift = dtype(scale), dtype(shift)
    if shift == 0:
        return values * scale + shift  # the sum is exact, and makes a zero positive
    if dtype is np.float32:
        wide = fma32(values.astype(np.float64), float(scale), float(shift))
        return wide.astype(np.float32)
    return fma64(values, float(scale), float(shift))


def _by_libm(function, values: np.ndarray) -> np.ndarray:
    """NumPy's own float64 functions differ from the C library's in the last place."""
    return np.fromiter(map(function, values.tolist()), np.float64, len(values))


def _single(*values: float) -> tuple[float, ...]:
    """The float32 values nearest `values`, as `fma32` takes them."""
    return tuple(float(np.float32(value)) for value in values)


# The coefficients of Cephes' logf, sinf and cosf.
_LOG = _single(
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_SIN = _single(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = _single(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
# log(2) and pi/4, the first parts short enough for their products with small integers to be exact
_LOG2_HIGH, _LOG2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_PI4_HIGH, _PI4_MIDDLE = np.float32(0.78515625), np.float32(2.4187564849853515625e-4)
(_PI4_LOW,) = _single(3.77489497744594108e-8)
_FOUR_BY_PI = np.float32(1.27323954473516)
_HALF, _ONE = np.float32(0.5), np.float32(1)
_SQRT_HALF_BITS = np.float32(0.707106781186547524).view(np.int32)


def _log32(x: np.ndarray) -> np.ndarray:
    """Log of normal float32 values: x = m·2^e, m in [sqrt(1/2), sqrt(2)), a polynomial in m - 1."""
    bits = x.view(np.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    m = (bits - (exponent << 23)).view(np.float32) - _ONE
    e, square, wide = exponent.astype(np.float32), m * m, m.astype(np.float64)
    y = fma32(wide, _LOG[0], _LOG[1])
    for coefficient in _LOG[2:]:
        y = fma32(y, wide, coefficient)
    y = _rounded(y * wide)
    y = fma32(y, square.astype(np.float64), (e * _LOG2_LOW).astype(np.float64))
    return m + (y.astype(np.float32) - square * _HALF) + e * _LOG2_HIGH


def _sincos32(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of float32 values in [0, 2·pi): x less a multiple of pi/2, polynomials."""
    octant = ((x * _FOUR_BY_PI).astype(np.int32) + 1) & ~1
    k = octant.astype(np.float32)
    rest = x - k * _PI4_HIGH - k * _PI4_MIDDLE
    wide = fma32(k.astype(np.float64), -_PI4_LOW, rest.astype(np.float64))
    square = _rounded(wide * wide)
    sine = fma32(fma32(square, _SIN[0], _SIN[1]), square, _SIN[2])
    sine = fma32(_rounded(sine * square), wide, wide).astype(np.float32).view(np.int32)
    cosine = fma32(fma32(square, _COS[0], _COS[1]), square, _COS[2])
    cosine = fma32(_rounded(cosine * square), square, -0.5 * square).astype(np.float32) + _ONE
    cosine = cosine.view(np.int32)
    # Odd quarters swap the two; the second half turn negates the sine, the middle one the cosine.
    swap = (sine ^ cosine) & -((octant >> 1) & 1)
    sine = sine ^ swap ^ ((octant & 4) << 29)
    cosine = cosine ^ swap ^ (((octant + 2) & 4) << 29)
    return sine.view(np.float32), cosine.view(np.float32)


def _rounded(values: np.ndarray) -> np.ndarray:
    """float64 values rounded to float32, as float64."""
    return values.astype(np.float32).astype(np.float64)
