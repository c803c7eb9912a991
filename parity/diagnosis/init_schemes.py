"""The usual schemes of initial weights, and which of them a sample is drawn by."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from torch import nn

FITS = 1e-3
"""The least p-value of a sample of a scheme."""

CUT = 0.87962566103423978
"""The deviation of a normal of deviation 1 that is cut at two deviations."""


class Scheme(NamedTuple):
    """A scheme in words, and its distribution."""

    text: str
    law: Any

    def fits(self, values: np.ndarray) -> float:
        """How likely values [n] are: all of them, and the largest of them."""
        found: Any = scipy.stats.kstest(values, self.law.cdf, method="asymp")
        largest = float(np.abs(values).max())
        beyond = self.law.sf(largest) + self.law.cdf(-largest)
        if beyond <= 0:  # none is so large, but for rounding
            inside = self.law.sf(largest * (1 - 1e-6)) + self.law.cdf(-largest * (1 - 1e-6))
            return float(found.pvalue) if inside > 0 else 0.0
        below = math.exp(len(values) * math.log1p(-min(float(beyond), 1 - 1e-16)))
        return min(float(found.pvalue), 2 * below, 2 * (1 - below))


def fitting(values: np.ndarray, schemes: list[Scheme], spread: float = 1.0) -> dict[str, float]:
    """The schemes that values [n] may be drawn by, the likeliest first.

    `spread` is how many of the values count as one.
    """
    found = {scheme.text: scheme.fits(values) ** (1 / spread) for scheme in schemes}
    likely = sorted((text for text, p in found.items() if p > FITS), key=lambda t: -found[t])
    return {text: found[text] for text in likely}


def schemes(
    module: nn.Module, shape: tuple[int, ...], weight: tuple[int, ...] | None = None
) -> list[Scheme]:
    """Those of a parameter of `module`, the likeliest first of those of one distribution.

    Args:
        module: the one that it belongs to.
        shape: of the parameter, in PyTorch's layout.
        weight: for a bias the shape of its weight, whose fans it has.
    """
    found: dict[tuple[str, float], Scheme] = {}
    for text, kind, scale in _listed(module, weight if weight and len(shape) < 2 else shape):
        found.setdefault((kind, round(scale, 12)), Scheme(text, _law(kind, scale)))
    return list(found.values())


def _law(kind: str, scale: float) -> Any:
    """Of a deviation, or of a bound where the kind is one-sided."""
    if kind == "uniform":
        return scipy.stats.uniform(-math.sqrt(3) * scale, 2 * math.sqrt(3) * scale)
    if kind == "positive":
        return scipy.stats.uniform(0, scale)
    if kind == "normal":
        return scipy.stats.norm(0, scale)
    return scipy.stats.truncnorm(-2, 2, scale=scale / CUT)


def _listed(module: nn.Module, shape: tuple[int, ...]) -> Iterator[tuple[str, str, float]]:
    """(text, kind, deviation)."""
    if isinstance(module, nn.Embedding):
        root = f"a normal of deviation 1 / sqrt({shape[-1]}), the embedding's width"
        yield root, "normal", shape[-1] ** -0.5
    hidden = getattr(module, "hidden_size", None)
    if isinstance(hidden, int):
        text = "U(+-1 / sqrt(hidden size)), PyTorch's default"
        yield text, "uniform", (3 * hidden) ** -0.5
    for fan, count in _fans(module, shape):
        of = f" of {fan}"
        default = fan == "fan_in"
        text = f"U(+-1 / sqrt({fan}))"
        text = f"PyTorch's default, {text}" if default else text
        yield text, "uniform", (3 * count) ** -0.5
        lecun, he = count**-0.5, (2 / count) ** 0.5
        plain = "" if default else of
        flax = ", Flax's default" if default else ""
        yield f"LeCun's truncated normal{plain}{flax}", "truncated", lecun
        yield f"LeCun's normal{plain}", "normal", lecun
        yield f"LeCun's uniform{plain}", "uniform", lecun
        yield f"He's normal{of}", "normal", he
        yield f"He's truncated normal{of}", "truncated", he
        yield f"He's uniform{of}", "uniform", he
        haiku = f"a normal of deviation 1 / sqrt({fan}) before it is cut at two deviations"
        haiku += ", Haiku's default" if default else ""
        yield f"{haiku} (0.88 of it after)", "truncated", CUT * lecun
        haiku = f"a normal of deviation sqrt(2 / {fan}) before it is cut at two deviations"
        yield f"{haiku} (0.88 of it after)", "truncated", CUT * he
    for whose, mean in _means(module, shape):
        scale = mean**-0.5
        yield f"Glorot's uniform{whose}", "uniform", scale
        yield f"Glorot's normal{whose}", "normal", scale
        yield f"Glorot's truncated normal{whose}", "truncated", scale
    for scale in (0.02, 0.01, 1.0, 0.05, 0.1, 0.001, 0.5):
        yield f"N(0, {scale:g})", "normal", scale
        text = f"a normal of deviation {scale:g} before it is cut at two deviations"
        yield f"{text} (0.88 of it after)", "truncated", CUT * scale
        yield f"a normal of deviation {scale:g} cut at two deviations", "truncated", scale
        yield f"U(+-{scale:g})", "uniform", scale / math.sqrt(3)
        yield f"U(0, {scale:g})", "positive", scale


def _fans(module: nn.Module, shape: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """Numbers of inputs and outputs, as PyTorch counts them and as others do."""
    if len(shape) < 2:
        yield "its size", max(math.prod(shape), 1)
        return
    taps = math.prod(shape[2:])
    yield "fan_in", shape[1] * taps
    yield "fan_out", shape[0] * taps
    groups = getattr(module, "groups", 1)
    if groups > 1:
        yield "the fan_in of all groups", groups * shape[1] * taps
        yield "the fan_out of one group", shape[0] * taps // groups
    if taps > 1:
        yield "the input channels without the kernel's size", shape[1]
        yield "the output channels without the kernel's size", shape[0]
        yield "the kernel's size", taps
        text = "a fan_in of both channels and the kernel's width (HWIO and OIHW confused)"
        yield text, shape[0] * shape[1] * shape[-1]
    for parts, what in _parts(module):
        yield f"the fan_out of one {what}", shape[0] // parts


def _means(module: nn.Module, shape: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """Means of a fan_in and a fan_out."""
    if len(shape) < 2:
        return
    taps = math.prod(shape[2:])
    yield "", (shape[0] + shape[1]) * taps / 2
    groups = getattr(module, "groups", 1)
    if groups > 1:
        yield " of all groups", (shape[0] + groups * shape[1]) * taps / 2
        yield " of one group", (shape[0] / groups + shape[1]) * taps / 2
    if taps > 1:
        yield " of the channels without the kernel's size", (shape[0] + shape[1]) / 2
        text = " of a kernel whose axes are confused (HWIO and OIHW)"
        yield text, shape[0] * shape[1] * sum(shape[-2:]) / 2
    for parts, what in _parts(module):
        yield f" of one {what}", (shape[0] // parts + shape[1]) / 2


def _parts(module: nn.Module) -> Iterator[tuple[int, str]]:
    """What a joined weight is of: gates, projections."""
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        yield 4, "gate"
    if isinstance(module, nn.GRU | nn.GRUCell):
        yield 3, "gate"
    if isinstance(module, nn.MultiheadAttention):
        yield 3, "projection"
