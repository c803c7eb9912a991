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

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from parity.ladder.result import Comparison, nothing

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

ZERO = 1e-7
"""Of a layer's largest gradient: below it a tensor's own is zero by mathematics."""

SAME_IN_FLOAT32 = 3e-6
"""Relative: two that differ by less agree where a module computes in float32 inside."""

NOTHING = "neither side has such a tensor"

Tensors = Mapping[str, np.ndarray]


FLOAT64_OF_FLOAT32 = float(np.finfo(np.float64).eps) / FLOAT32_EPS


def compare_float64(
    ours: Tensors,
    theirs: Tensors,
    noise: Mapping[str, float] | None = None,
    scales: Mapping[str, float] | None = None,
    multiple: float = NOISE_MULTIPLE,
) -> Comparison:
    """Passes when every tensor agrees to its tolerance: `float64_tolerance` of its noise.

    Args:
        ours: results of JAX.
        theirs: results of PyTorch under the same names.
        noise: by name, the quieter framework's relative noise in float32; by default none.
        scales: what each error is relative to, by default the tensor's largest value.
        multiple: of the noise, that a tensor may depart by.
    """
    _same_names(ours, theirs)
    scales = scales or {}
    errors = {n: relative_error(ours[n], theirs[n], scales.get(n)) for n in theirs}
    if not errors:
        return nothing("relative error", NOTHING)
    tolerances = {
        name: float64_tolerance((noise or {}).get(name, 0.0), multiple) for name in errors
    }
    worst = max(errors, key=lambda name: errors[name] / tolerances[name])
    return Comparison(
        errors[worst] <= tolerances[worst],
        errors[worst],
        tolerances[worst],
        "relative error",
        f"largest of {len(errors)} tensors: {worst}",
    )


def float64_tolerance(noise: float, multiple: float = NOISE_MULTIPLE) -> float:
    """1e-12, or what a tensor's float32 noise lets expect of float64 where that is more."""
    expected = multiple * FLOAT64_OF_FLOAT32 * noise
    return max(FLOAT64_TOLERANCE, expected if expected < np.inf else 0.0)


def noise_multiple(terms: int) -> float:
    """How much noisier one of two honest implementations may be, whose sums have up to `terms`.

    One may add up in pairs or in double precision, which rounds by about one unit, the other value
    after value, which rounds by a walk of `terms` random steps of half a unit: sqrt(terms) / 2,
    twice that for two of them, and again for chance.
    """
    return max(NOISE_MULTIPLE, 2 * math.sqrt(terms))


def scales_of(ours: Tensors, theirs: Tensors, rounding: float = ZERO) -> dict[str, float]:
    """What the errors of gradients and statistics are relative to: their largest value.

    Where that is `ZERO` of the largest of its layer in both frameworks, the tensor is zero by
    mathematics (the gradient by a bias before BatchNorm, by a key's bias), and what is left of it
    is the rounding of the layer's others: then it is the layer's scale. In JAX that may be more,
    `rounding`, where a module computes in float32 inside.
    """
    largest = {name: _largest(theirs[name]) for name in theirs}
    layers = largest_by_layer(theirs)
    overall = max(layers.values(), default=0.0)
    found = {}
    for name, value in largest.items():
        layer = layers[name.rpartition(".")[0]] or overall
        zero = value <= ZERO * layer and _largest(ours[name]) <= max(ZERO, rounding) * layer
        found[name] = layer if zero else value
    return found


def largest_by_layer(tensors: Tensors) -> dict[str, float]:
    """By what a tensor's name begins with, to its last dot, the largest value."""
    layers: dict[str, float] = {}
    for name, value in tensors.items():
        layer = name.rpartition(".")[0]
        layers[layer] = max(layers.get(layer, 0.0), _largest(value))
    return layers


def _largest(value: np.ndarray) -> float:
    value = np.abs(_wide(value))
    finite = value[np.isfinite(value)]
    return float(finite.max()) if finite.size else 0.0


class Rounded(NamedTuple):
    """A tensor's difference between the frameworks, and each one's noise, all relative.

    `least` is the least noise that counts.
    """

    difference: float
    our_noise: float
    their_noise: float
    least: float = FLOAT32_EPS

    def multiple(self, allowed: float = NOISE_MULTIPLE) -> float:
        """The difference in units of the quieter framework's noise, of which `allowed` may be.

        Where PyTorch, the reference, is the noisier one, it is in units of its noise: that is no
        fault of the port's. More than `allowed` also where it is too large for the noisier one's,
        and infinite where a value is not finite.
        """
        if not math.isfinite(self.difference):
            return float("inf")
        noises = [max(noise, self.least) for noise in (self.our_noise, self.their_noise)]
        found = self.difference / (noises[1] if noises[1] >= noises[0] else min(noises))
        excess = self.difference / (DIFFERENCE_MULTIPLE * max(noises))
        return found if excess <= 1 or found > allowed else allowed * excess


def measure_rounded(
    ours: Tensors,
    theirs: Tensors,
    our_oracle: Tensors,
    their_oracle: Tensors,
    dtype: str,
    scales: Mapping[str, float] | None = None,
) -> dict[str, Rounded]:
    """Each tensor's figures on one batch in `dtype`; the oracles are the two float64 runs."""
    _same_names(ours, theirs)
    scales = scales or {}
    return {
        name: Rounded(
            relative_error(ours[name], theirs[name], scales.get(name)),
            relative_error(ours[name], our_oracle[name], scales.get(name)),
            relative_error(theirs[name], their_oracle[name], scales.get(name)),
            EPS[dtype],
        )
        for name in theirs
    }


def compare_rounded(
    batches: Sequence[Mapping[str, Rounded]], dtype: str, multiple: float = NOISE_MULTIPLE
) -> Comparison:
    """Passes when every tensor has a batch on which it is within `multiple`.

    Where an activation is so near to zero, or to another one in its pooling window, that rounding
    decides on which side it falls, the gradient jumps: that happens on one batch in four here. A
    fault of arithmetic shows on all of them.
    """

    def by_noise(figures: Rounded) -> float:
        return figures.multiple(multiple)

    least = {name: min((b[name] for b in batches), key=by_noise) for name in batches[0]}
    unit = f"x the quieter framework's {dtype} noise"
    if not least:
        return nothing(unit, NOTHING)
    worst = max(least, key=lambda name: by_noise(least[name]))
    found, measured = least[worst], by_noise(least[worst])
    detail = (
        f"largest of {len(least)} tensors: {worst}: difference {found.difference:.1e}, noise "
        f"{found.our_noise:.1e} in JAX and {found.their_noise:.1e} in PyTorch, relative"
    )
    if len(batches) > 1:
        detail += f"; least of {len(batches)} batches"
    return Comparison(measured <= multiple, measured, multiple, unit, detail)


def relative_error(value: np.ndarray, reference: np.ndarray, scale: float | None = None) -> float:
    """The largest of |value - reference| / scale, by default the largest |reference|.

    Infinite where shapes differ or a value is not finite, but for infinities that both have, as a
    mask has.
    """
    value, reference = _wide(value), _wide(reference)
    if value.shape != reference.shape:
        return float("inf")
    if value.size == 0:
        return 0.0
    finite = np.isfinite(value) & np.isfinite(reference)
    if not finite.all():
        if not (value == reference)[~finite].all() or not finite.any():
            return float("inf")
        value, reference = value[finite], reference[finite]
    largest = np.abs(reference).max() if not scale else scale
    return float((np.abs(value - reference) / (largest + np.finfo(np.float64).tiny)).max())


def _wide(value: np.ndarray) -> np.ndarray:
    """In double precision."""
    array = np.asarray(value)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _same_names(ours: Tensors, theirs: Tensors) -> None:
    if ours.keys() != theirs.keys():
        raise ValueError(f"different tensors: {sorted(ours.keys() ^ theirs.keys())}")
