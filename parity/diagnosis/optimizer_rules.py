"""What an optimizer does at every step, as switches that NumPy follows.

`Rules` says what is done; its switches are the ways in which implementations are known to differ
from PyTorch. `trajectory` follows the rules: with those of a spec it does what torch.optim does,
and with one switch turned what a faulty implementation does. The spec's learning rates and momenta
are PyTorch's own, read from its scheduler.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from parity.pairs.optimizers import ClipSpec, OptimizerSpec
from parity.pairs.pair import Tensors


@dataclasses.dataclass(frozen=True)
class Rules:
    """What one step does. The defaults of the switches, from `decoupled` on, are PyTorch's.

    The arrays have a value for each step: `lrs`, `momenta` (Adam's beta1, or the momentum of SGD
    and RMSprop) and `dampening`. `decay` is Adam's beta2 or RMSprop's alpha.
    """

    name: str
    lrs: np.ndarray
    momenta: np.ndarray
    dampening: np.ndarray
    decay: float = 0.0
    eps: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    centered: bool = False
    amsgrad: bool = False
    clip: ClipSpec | None = None
    decoupled: bool = False
    decay_without_lr: bool = False
    decay_skips_vectors: bool = False
    eps_place: str = "outside"  # or "inside", "both", "uncorrected"
    correct_first: bool = True
    correct_second: bool = True
    amsgrad_corrected: bool = False
    first_square: float = 0.0
    first_buffer_is_gradient: bool = True
    debiased_buffer: bool = False
    lr_in_buffer: bool = False
    clip_place: str = "before"  # or "after", "last"
    clip_per_tensor: bool = False
    clip_eps: float = 1e-6
    step_sign: float = 1.0
    gradient_sign: float = 1.0
    reset: bool = False
    accumulate: str = ""  # or "raw", "clipped"


class State(NamedTuple):
    """Flat vectors: first moment or momentum buffer, second moment, its largest, mean gradient."""

    first: np.ndarray
    second: np.ndarray
    largest: np.ndarray
    mean: np.ndarray


def rules(spec: OptimizerSpec, steps: int) -> Rules:
    """PyTorch's, for `steps` steps and, in the arrays, one more."""
    optimizer, scheduler, _ = spec.to_torch([torch.nn.Parameter(torch.zeros(1))])
    (group,) = optimizer.param_groups
    lrs, momenta = [], []
    for _ in range(steps + 1):
        lrs.append(group["lr"])
        momenta.append(group["betas"][0] if "betas" in group else group["momentum"])
        optimizer.step()  # without gradients: the scheduler warns if it is not called
        if scheduler is not None and not _is_over(spec, len(lrs)):
            scheduler.step()
    return Rules(
        "adam" if spec.name == "adamw" else spec.name,
        np.array(lrs),
        np.array(momenta),
        # Without momentum PyTorch's SGD takes no notice of the dampening.
        np.where(momenta, group.get("dampening", 0.0), 0.0),
        group["betas"][1] if "betas" in group else group.get("alpha", 0.0),
        group.get("eps", 0.0),
        group["weight_decay"],
        group.get("nesterov", False),
        group.get("centered", False),
        group.get("amsgrad", False),
        spec.clip,
        decoupled=spec.name == "adamw",
    )


def trajectory(
    followed: Rules, params: Tensors, gradients: Sequence[Tensors]
) -> list[dict[str, np.ndarray]]:
    """The parameters after each step, float64."""
    shapes = {name: np.shape(value) for name, value in params.items()}
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    ends = np.cumsum(sizes)
    parts = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    ranks = np.repeat([len(shape) for shape in shapes.values()], sizes)
    decayed = (ranks > 1) | (not followed.decay_skips_vectors)

    point = _flat(params, shapes)
    zeros = np.zeros_like(point)
    fresh = State(zeros, np.full_like(zeros, followed.first_square), zeros, zeros)
    state, total, found = fresh, zeros, []
    with np.errstate(all="ignore"):  # a fault may well diverge
        for step, tensors in enumerate(gradients):
            gradient = followed.gradient_sign * _flat(tensors, shapes)
            if followed.accumulate:
                gradient = total = total + gradient
            if followed.clip_place == "before":
                gradient = _clipped(followed, gradient, parts)
            if followed.accumulate == "clipped":
                total = gradient
            if followed.reset:
                state = fresh
            point, state = _step(followed, step, point, gradient, state, decayed, parts)
            values = zip(shapes.items(), parts, strict=True)
            found.append({name: point[part].reshape(shape) for (name, shape), part in values})
    return found


def _step(
    followed: Rules,
    step: int,
    point: np.ndarray,
    gradient: np.ndarray,
    state: State,
    decayed: np.ndarray,
    parts: Sequence[slice],
) -> tuple[np.ndarray, State]:
    """One step of the optimizer, from 0, and its state after it."""
    lr = followed.lrs[step]
    count = 0 if followed.reset else step
    penalty = followed.weight_decay * decayed * point
    if not followed.decoupled:
        gradient = gradient + penalty
    make = _adam if followed.name == "adam" else _with_momentum
    update, state = make(followed, step, count, gradient, state)
    if followed.clip_place == "after":
        update = _clipped(followed, update, parts)
    if followed.decoupled and not followed.decay_without_lr:
        update = update + penalty
    if not followed.lr_in_buffer:
        update = lr * update
    if followed.decoupled and followed.decay_without_lr:
        update = update + penalty
    if followed.clip_place == "last":
        update = _clipped(followed, update, parts)
    return point - followed.step_sign * update, state


def _adam(
    followed: Rules, step: int, count: int, gradient: np.ndarray, state: State
) -> tuple[np.ndarray, State]:
    beta1, beta2, eps = followed.momenta[step], followed.decay, followed.eps
    first = beta1 * state.first + (1 - beta1) * gradient
    second = beta2 * state.second + (1 - beta2) * gradient**2
    correction1 = 1 - beta1 ** (count + 1) if followed.correct_first else 1.0
    correction2 = 1 - beta2 ** (count + 1) if followed.correct_second else 1.0
    square = second / correction2
    largest = np.maximum(state.largest, square if followed.amsgrad_corrected else second)
    if followed.amsgrad:
        square = largest if followed.amsgrad_corrected else largest / correction2
    divisor = _root(followed, square)
    if followed.eps_place == "uncorrected":
        divisor = np.sqrt(square) + eps / np.sqrt(correction2)
    return first / correction1 / divisor, State(first, second, largest, state.mean)


def _with_momentum(
    followed: Rules, step: int, count: int, gradient: np.ndarray, state: State
) -> tuple[np.ndarray, State]:
    """SGD and RMSprop: the gradient, scaled or not, then the momentum."""
    second, mean, momentum = state.second, state.mean, followed.momenta[step]
    scaled = gradient
    if followed.name == "rmsprop":
        second = followed.decay * second + (1 - followed.decay) * gradient**2
        mean = followed.decay * mean + (1 - followed.decay) * gradient
        scaled = gradient / _root(followed, second - mean**2 if followed.centered else second)
    if followed.lr_in_buffer:
        scaled = followed.lrs[step] * scaled
    gain = 1 - followed.dampening[step]
    if count == 0 and followed.first_buffer_is_gradient:
        gain = 1.0
    first = momentum * state.first + gain * scaled
    update = first / (1 - momentum ** (count + 1)) if followed.debiased_buffer else first
    if followed.nesterov:
        update = scaled + momentum * update
    return update, State(first, second, state.largest, mean)


def _root(followed: Rules, square: np.ndarray) -> np.ndarray:
    """What the step is divided by: the root of the mean square, and eps."""
    inside = followed.eps if followed.eps_place in ("inside", "both") else 0.0
    return np.sqrt(square + inside) + (0.0 if followed.eps_place == "inside" else followed.eps)


def _clipped(followed: Rules, gradient: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
    clip = followed.clip
    if clip is None:
        return gradient
    if clip.kind == "value":
        return np.clip(gradient, -clip.limit, clip.limit)
    if followed.clip_per_tensor:
        return np.concatenate([_shortened(gradient[part], clip, followed) for part in parts])
    return _shortened(gradient, clip, followed)


def _shortened(gradient: np.ndarray, clip: ClipSpec, followed: Rules) -> np.ndarray:
    norm = np.sqrt(np.sum(gradient**2)) + followed.clip_eps
    return gradient * min(1.0, clip.limit / norm) if norm > 0 else gradient


def _flat(tensors: Tensors, names: Sequence[str] | dict[str, tuple[int, ...]]) -> np.ndarray:
    return np.concatenate([np.asarray(tensors[name], np.float64).ravel() for name in names])


def _is_over(spec: OptimizerSpec, steps: int) -> bool:
    """Whether PyTorch's schedule refuses to be stepped on after `steps` steps."""
    schedule = spec.schedule
    return (
        schedule is not None
        and schedule.name == "one_cycle"
        and steps > schedule.options["total_steps"]
    )
