"""Examples, and initial weights drawn as PyTorch's defaults are."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def normal(*shape: int, seed: int = 0, scale: float = 1.0, mean: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(mean, scale, shape)
    return values.astype(np.float32)


def integers(high: int, *shape: int, seed: int = 0, low: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape)


Rule = Callable[[np.random.Generator, str, tuple[int, ...], Mapping[str, tuple]], np.ndarray]


def initialiser(
    make_torch: Callable[[], Any], rule: Rule, to_flax: Callable[[Mapping[str, np.ndarray]], Any]
) -> Callable[[int], Any]:
    """seed -> variables, each parameter drawn by `rule(rng, name, shape, all shapes)`."""

    def init(seed: int) -> Any:
        module = make_torch()
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        state = {name: value.numpy() for name, value in module.state_dict().items()}
        rng = np.random.default_rng(seed)
        drawn = {name: rule(rng, name, shape, shapes) for name, shape in shapes.items()}
        return to_flax(state | {k: v.astype(np.float32) for k, v in drawn.items()})

    return init


def torch_default(rng: np.random.Generator, name: str, shape: Any, shapes: Any) -> np.ndarray:
    """Linear's and Conv's: uniform within 1 / sqrt(fan_in); a norm's scale 1 and bias 0."""
    weight = shapes[name.rpartition(".")[0] + ".weight"]
    if len(weight) == 1:
        return np.full(shape, float(name.endswith("weight")))
    bound = 1 / math.sqrt(math.prod(weight[1:]))
    return rng.uniform(-bound, bound, shape)
