"""Initial weights that are distributed otherwise, and how."""

import math

import numpy as np

from parity.diagnosis.common import owner_of, said
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import init
from parity.pairs.pair import Pair


def find(pair: Pair) -> Diagnosis:
    """The first parameter that is distributed otherwise, and as what it is drawn."""
    ours, theirs = init.samples(pair, 0)
    worst: dict[str, float] = {}
    for name in ours:
        worst[name] = min(init.parameter_tests(ours[name], theirs[name]).values())
    limit = init.FALSE_ALARM / (4 * len(worst))
    departing = [name for name, p in worst.items() if p < limit]
    if not departing:
        return said(None)
    first = departing[0]
    before = list(worst)[list(worst).index(first) - 1] if list(worst).index(first) else None
    # The most values tell schemes of one deviation apart.
    largest = max(departing, key=lambda name: (len(ours[name]), name == first))
    told = first if len(ours[largest]) == len(ours[first]) else largest
    cause = _init_cause(ours[told], pair.parameters, told)
    text = f"first departs: the initial {first}"
    text += f", {init.told(ours[first])} in JAX and {init.told(theirs[first])} in PyTorch"
    text += f". Cause: {cause}." if cause else ". No usual scheme has this distribution."
    return Diagnosis(owner_of(first), None, owner_of(before) if before else None, None, cause, text)


def _init_cause(values: np.ndarray, shapes: dict[str, tuple[int, ...]], name: str) -> str | None:
    if not np.ptp(values):
        return f"it is {values[0] + 0.0:g} everywhere"
    shape = shapes[name]
    weight = shapes.get(name.rpartition(".")[0] + ".weight", shape)
    shape = weight if len(shape) < 2 <= len(weight) else shape
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    fan_out = math.prod((*shape[:1], *shape[2:]))
    rng = np.random.default_rng(0)
    best: tuple[float, str] | None = None
    for scheme, std, kind in _schemes(fan_in, fan_out):
        sample = _sample(rng, kind, std, 20_000)
        p = init.same_distribution(values, sample)
        if p > 1e-3 and (best is None or p > best[0]):
            best = p, scheme
    return f"it is drawn as {best[1]}" if best else None


def _sample(rng: np.random.Generator, kind: str, std: float, size: int) -> np.ndarray:
    if kind == "uniform":
        return rng.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, size)
    if kind == "normal":
        return rng.normal(0, std, size)
    if kind == "positive":
        return rng.uniform(0, std, size)
    values = rng.normal(0, 1, 2 * size)
    values = values[np.abs(values) < 2][:size]
    return values * std / 0.87962566103423978


def _schemes(fan_in: int, fan_out: int) -> list[tuple[str, float, str]]:
    scales = {
        "PyTorch's default, U(+-1 / sqrt(fan_in))": (1 / (3 * fan_in), "uniform"),
        "LeCun's truncated normal, Flax's default": (1 / fan_in, "truncated"),
        "LeCun's normal": (1 / fan_in, "normal"),
        "LeCun's uniform": (1 / fan_in, "uniform"),
        "He's normal of fan_in": (2 / fan_in, "normal"),
        "He's normal of fan_out": (2 / fan_out, "normal"),
        "He's truncated normal of fan_in": (2 / fan_in, "truncated"),
        "He's truncated normal of fan_out": (2 / fan_out, "truncated"),
        "He's uniform of fan_in": (2 / fan_in, "uniform"),
        "He's uniform of fan_out": (2 / fan_out, "uniform"),
        "Glorot's normal": (2 / (fan_in + fan_out), "normal"),
        "Glorot's truncated normal": (2 / (fan_in + fan_out), "truncated"),
        "Glorot's uniform": (2 / (fan_in + fan_out), "uniform"),
        "U(+-1 / sqrt(fan_out))": (1 / (3 * fan_out), "uniform"),
        "N(0, 0.01)": (1e-4, "normal"),
        "N(0, 0.02)": (4e-4, "normal"),
        "N(0, 1)": (1.0, "normal"),
    }
    found = [(name, math.sqrt(variance), kind) for name, (variance, kind) in scales.items()]
    return [*found, ("U(0, 1)", 1.0, "positive")]
