"""How near two frameworks must be, derived and not tuned.

In float32 and in bfloat16 each framework is measured against its own float64 run on the same
numbers: that is its rounding noise. The difference of two equal implementations is at most the sum
of their noises, so it may be no more than `DIFFERENCE_MULTIPLE` times the larger one. That says
nothing of a framework that is noisier than it claims to be (TF32, bfloat16 products, a one-pass
variance): so it may also be no more than `NOISE_MULTIPLE` times the noise of the quieter one. In a
deep net that noise is a matter of luck: of which activations rounding moves past zero. Where a
tensor is too far off on every batch, each framework's noise is the larger one of two runs, the
second from weights moved by one rounding.

In float64 both sides compute the same real numbers, and a difference of formula is far above the
rounding: the comparison is an exact gate of 1e-12. Where a tensor is ill-conditioned, its float32
noise says by how much it amplifies rounding, and so how much of float64's, 2**-29 of that, it must
show. That says too little where a framework sums otherwise in float64 (PyTorch's BatchNorm on a CPU
adds up value after value), and nothing of a tensor that is compared in float64 alone. Where a
tensor misses its tolerance both frameworks compute again from weights moved by one rounding, with
the examples in another order, and it may be `NOISE_MULTIPLE` times what either so differs by from
itself.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from parity.ladder.result import Comparison

FLOAT64_TOLERANCE = 1e-12
"""Relative to a tensor's largest value."""

DIFFERENCE_MULTIPLE = 4.0
"""Of the larger noise; 2 would hold for equal implementations, measured by their largest errors."""

NOISE_MULTIPLE = 16.0
"""Sums of the same products in another order differ in noise by a small factor; TF32, the nearest
lower precision, has 13 bits less and is 2**13 = 8192 times noisier."""

FLOAT32_EPS = float(np.finfo(np.float32).eps)
EPS = {"float32": FLOAT32_EPS, "bfloat16": 2.0**-7}
"""The least noise that is credited to a framework: a tensor of few values may round to exactly
the right ones by luck."""

Tensors = Mapping[str, np.ndarray]


FLOAT64_OF_FLOAT32 = float(np.finfo(np.float64).eps) / FLOAT32_EPS


def compare_float64(
    ours: Tensors, theirs: Tensors, noise: Mapping[str, float] | None = None
) -> Comparison:
    """Passes when every tensor agrees to its tolerance: `float64_tolerance` of its noise.

    Args:
        ours: results of JAX.
        theirs: results of PyTorch under the same names.
        noise: by name, the quieter framework's relative noise in float32; by default none.
    """
    _same_names(ours, theirs)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    if not errors:
        return Comparison(
            True, 0.0, FLOAT64_TOLERANCE, "relative error", "neither side has such a tensor"
        )
    tolerances = {name: float64_tolerance((noise or {}).get(name, 0.0)) for name in errors}
    worst = max(errors, key=lambda name: errors[name] / tolerances[name])
    return Comparison(
        errors[worst] <= tolerances[worst],
        errors[worst],
        tolerances[worst],
        "relative error",
        f"largest of {len(errors)} tensors: {worst}",
    )


def float64_tolerance(noise: float) -> float:
    """1e-12, or what a tensor's float32 noise lets expect of float64 where that is more."""
    expected = NOISE_MULTIPLE * FLOAT64_OF_FLOAT32 * noise
    return max(FLOAT64_TOLERANCE, expected if expected < np.inf else 0.0)


class Rounded(NamedTuple):
    """A tensor's difference between the frameworks, and each one's noise, all relative.

    `least` is the least noise that counts.
    """

    difference: float
    our_noise: float
    their_noise: float
    least: float = FLOAT32_EPS

    @property
    def multiple(self) -> float:
        """The difference in units of the quieter framework's noise.

        Infinite where it is also too large for the noisier one's.
        """
        noises = [max(noise, self.least) for noise in (self.our_noise, self.their_noise)]
        if not self.difference <= DIFFERENCE_MULTIPLE * max(noises):
            return float("inf")
        return self.difference / min(noises)


def measure_rounded(
    ours: Tensors, theirs: Tensors, our_oracle: Tensors, their_oracle: Tensors, dtype: str
) -> dict[str, Rounded]:
    """Each tensor's figures on one batch in `dtype`; the oracles are the two float64 runs."""
    _same_names(ours, theirs)
    return {
        name: Rounded(
            relative_error(ours[name], theirs[name]),
            relative_error(ours[name], our_oracle[name]),
            relative_error(theirs[name], their_oracle[name]),
            EPS[dtype],
        )
        for name in theirs
    }


def compare_rounded(batches: Sequence[Mapping[str, Rounded]], dtype: str) -> Comparison:
    """Passes when every tensor has a batch on which it is within `NOISE_MULTIPLE`.

    Where an activation is so near to zero, or to another one in its pooling window, that rounding
    decides on which side it falls, the gradient jumps: that happens on one batch in four here. A
    fault of arithmetic shows on all of them.
    """
    least = {name: min((b[name] for b in batches), key=lambda f: f.multiple) for name in batches[0]}
    unit = f"x the quieter framework's {dtype} noise"
    if not least:
        return Comparison(True, 0.0, NOISE_MULTIPLE, unit, "neither side has such a tensor")
    worst = max(least, key=lambda name: least[name].multiple)
    found = least[worst]
    detail = (
        f"largest of {len(least)} tensors: {worst}: difference {found.difference:.1e}, noise "
        f"{found.our_noise:.1e} in JAX and {found.their_noise:.1e} in PyTorch, relative"
    )
    if len(batches) > 1:
        detail += f"; least of {len(batches)} batches"
    return Comparison(
        found.multiple <= NOISE_MULTIPLE, found.multiple, NOISE_MULTIPLE, unit, detail
    )


def relative_error(
    value: np.ndarray, reference: np.ndarray, sensitivity: np.ndarray | float = 0.0
) -> float:
    """The largest of |value - reference| / (max |reference| + sensitivity).

    Infinite where shapes differ or a value is not finite.
    """
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if value.shape != reference.shape:
        return float("inf")
    if value.size == 0:
        return 0.0
    if not (np.isfinite(value).all() and np.isfinite(reference).all()):
        return float("inf")
    scale = np.abs(reference).max() + np.asarray(sensitivity) + np.finfo(np.float64).tiny
    return float((np.abs(value - reference) / scale).max())


def _same_names(ours: Tensors, theirs: Tensors) -> None:
    if ours.keys() != theirs.keys():
        raise ValueError(f"different tensors: {sorted(ours.keys() ^ theirs.keys())}")
