"""What an optimizer does at every step, as switches that NumPy follows.

`Rules` says what is done; its switches are the ways in which implementations are known to differ
from PyTorch. `follow` follows the rules: with those of a spec it does what torch.optim does, and
with one switch turned what a faulty implementation does. A spec's learning rates and momenta are
PyTorch's own, read from its scheduler.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from parity.diagnosis.optimizer_problem import Problem, problem
from parity.pairs.optimizers import ClipSpec, OptimizerSpec
from parity.pairs.pair import Tensors

NAMES = {
    torch.optim.SGD: "sgd",
    torch.optim.Adam: "adam",
    torch.optim.AdamW: "adam",
    torch.optim.RMSprop: "rmsprop",
    torch.optim.Adagrad: "adagrad",
}
"""The optimizers whose rules are known."""


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
    decay_after: bool = False
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
    sign: str = ""  # or "gradient", "update"
    every: int = 1
    every_of: str = ""  # or "mean" of the gradients, "sum" of the updates
    average: float = 0.0  # of the steps, as optax.ema's
    average_debiased: bool = False
    reset: bool = False
    accumulate: str = ""  # or "raw", "clipped"


class State(NamedTuple):
    """First moment or momentum buffer, second moment, its largest, mean gradient: [starts, n].

    And what is summed up over steps, and the average of the steps.
    """

    first: np.ndarray
    second: np.ndarray
    largest: np.ndarray
    mean: np.ndarray
    total: np.ndarray
    average: np.ndarray


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
    name = NAMES[type(optimizer)]
    made = _of_group(name, group, np.array(lrs), np.array(momenta), spec.clip)
    return dataclasses.replace(made, decoupled=spec.name == "adamw")


def learning_rate(group: Mapping[str, Any]) -> float:
    """A parameter group's; of a float32 tensor the short number that it was made of."""
    lr = group["lr"]
    return float(f"{float(lr):.7g}") if is_rounded(group) else float(lr)


def is_rounded(group: Mapping[str, Any]) -> bool:
    """Whether its learning rate is a float32 tensor."""
    return isinstance(group["lr"], torch.Tensor) and group["lr"].dtype == torch.float32


def group_rules(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], steps: int
) -> Rules | None:
    """PyTorch's for a parameter group of an optimizer; None for one whose rules are not known."""
    name = NAMES.get(type(optimizer))
    if name is None or group.get("lr_decay"):
        return None
    momentum = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
    lrs = np.full(steps + 1, learning_rate(group))
    made = _of_group(name, group, lrs, np.full(steps + 1, float(momentum)), None)
    return dataclasses.replace(
        made,
        decoupled=bool(group.get("decoupled_weight_decay", type(optimizer) is torch.optim.AdamW)),
        step_sign=-1.0 if group.get("maximize") and not made.weight_decay else 1.0,
        gradient_sign=-1.0 if group.get("maximize") and made.weight_decay else 1.0,
    )


def _of_group(
    name: str, group: Mapping[str, Any], lrs: np.ndarray, momenta: np.ndarray, clip: ClipSpec | None
) -> Rules:
    return Rules(
        name,
        lrs,
        momenta,
        # Without momentum PyTorch's SGD takes no notice of the dampening.
        np.where(momenta, group.get("dampening", 0.0), 0.0),
        group["betas"][1] if "betas" in group else group.get("alpha", 0.0),
        group.get("eps", 0.0),
        group["weight_decay"],
        group.get("nesterov", False),
        group.get("centered", False),
        group.get("amsgrad", False),
        clip,
        first_square=float(group.get("initial_accumulator_value", 0.0)),
    )


def trajectory(
    followed: Rules, params: Tensors, gradients: Sequence[Tensors]
) -> list[dict[str, np.ndarray]]:
    """The parameters after each step, float64."""
    given = problem(params, gradients)
    return [given.named(values) for values in follow(followed, given)[0]]


def follow(followed: Rules, given: Problem) -> np.ndarray:
    """The parameters after each step, [starts, steps, n]."""
    point = given.starts
    zeros = np.zeros_like(point)
    fresh = State(zeros, np.full_like(zeros, followed.first_square), *[zeros] * 4)
    state, total, found = fresh, zeros[:1], []
    with np.errstate(all="ignore"):  # a fault may well diverge
        for step, raw in enumerate(given.gradients):
            gradient = followed.gradient_sign * raw[None]
            if followed.accumulate:
                gradient = total = total + gradient
            if followed.clip_place == "before":
                gradient = _clipped(
                    followed, gradient, given, None if followed.accumulate else step
                )
            if followed.accumulate == "clipped":
                total = gradient
            if followed.reset:
                state = fresh
            point, state = _accumulated(followed, step, point, gradient, state, given)
            found.append(point)
    return np.stack(found, 1)


def _accumulated(
    followed: Rules,
    step: int,
    point: np.ndarray,
    gradient: np.ndarray,
    state: State,
    given: Problem,
) -> tuple[np.ndarray, State]:
    """A step, or where steps are taken together what is kept for it."""
    if followed.every_of == "mean":
        total = state.total + gradient / followed.every
        if (step + 1) % followed.every:
            return point, state._replace(total=total)
        taken = step // followed.every
        point, state = _step(followed, taken, point, total, state, given)
        return point, state._replace(total=np.zeros_like(total))
    moved, state = _step(followed, step, point, gradient, state, given)
    if followed.every_of == "sum":
        total = state.total + moved - point
        if (step + 1) % followed.every:
            return point, state._replace(total=total)
        return point + total, state._replace(total=np.zeros_like(total))
    return moved, state


def _step(
    followed: Rules,
    step: int,
    point: np.ndarray,
    gradient: np.ndarray,
    state: State,
    given: Problem,
) -> tuple[np.ndarray, State]:
    """One step of the optimizer, from 0, and its state after it."""
    lr = followed.lrs[step]
    count = 0 if followed.reset else step
    penalty = followed.weight_decay * point
    if not followed.decoupled:
        gradient = gradient + penalty
    if followed.sign == "gradient":
        gradient = np.sign(gradient)
    make = _adam if followed.name == "adam" else _with_momentum
    update, state = make(followed, step, count, gradient, state)
    if followed.sign == "update":
        update = np.sign(update)
    if followed.clip_place == "after":
        update = _clipped(followed, update, given)
    before = followed.decoupled and not followed.decay_after
    if before and not followed.decay_without_lr:
        update = update + penalty
    if not followed.lr_in_buffer:
        update = lr * update
    if before and followed.decay_without_lr:
        update = update + penalty
    if followed.clip_place == "last":
        update = _clipped(followed, update, given)
    if followed.average:
        average = followed.average * state.average + (1 - followed.average) * update
        state = state._replace(average=average)
        debias = 1 - followed.average ** (count + 1) if followed.average_debiased else 1.0
        update = average / debias
    moved = point - followed.step_sign * update
    if followed.decoupled and followed.decay_after:
        moved = moved * (1 - lr * followed.weight_decay)
    return moved, state


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
    mean = first / correction1
    if followed.nesterov:  # Optax's, of nadam
        later = 1 - beta1 ** (count + 2) if followed.correct_first else 1.0
        mean = beta1 * first / later + (1 - beta1) * gradient / correction1
    return mean / divisor, state._replace(first=first, second=second, largest=largest)


def _with_momentum(
    followed: Rules, step: int, count: int, gradient: np.ndarray, state: State
) -> tuple[np.ndarray, State]:
    """SGD, RMSprop and Adagrad: the gradient, scaled or not, then the momentum."""
    second, mean, momentum = state.second, state.mean, followed.momenta[step]
    scaled = gradient
    if followed.name == "rmsprop":
        second = followed.decay * second + (1 - followed.decay) * gradient**2
        mean = followed.decay * mean + (1 - followed.decay) * gradient
        scaled = gradient / _root(followed, second - mean**2 if followed.centered else second)
    if followed.name == "adagrad":
        second = second + gradient**2
        scaled = gradient / _root(followed, second)
    if followed.lr_in_buffer:
        scaled = followed.lrs[step] * scaled
    gain = 1 - followed.dampening[step]
    if count == 0 and followed.first_buffer_is_gradient:
        gain = 1.0
    first = momentum * state.first + gain * scaled
    update = first / (1 - momentum ** (count + 1)) if followed.debiased_buffer else first
    if followed.nesterov:
        update = scaled + momentum * update
    return update, state._replace(first=first, second=second, mean=mean)


def _root(followed: Rules, square: np.ndarray) -> np.ndarray:
    """What the step is divided by: the root of the mean square, and eps."""
    inside = followed.eps if followed.eps_place in ("inside", "both") else 0.0
    return np.sqrt(square + inside) + (0.0 if followed.eps_place == "inside" else followed.eps)


def _clipped(
    followed: Rules, values: np.ndarray, given: Problem, step: int | None = None
) -> np.ndarray:
    """Values [starts, n] clipped; at `step` they are the gradients, whose norms are known."""
    clip = followed.clip
    if clip is None:
        return values
    if clip.kind == "value":
        return np.clip(values, -clip.limit, clip.limit)
    if step is None:
        norms = np.sqrt(np.stack([(values[:, p] ** 2).sum(1) for p in given.parts], 1))
        others = 0.0
    else:
        norms, others = given.norms[step : step + 1], given.others[step]
    if clip.kind == "rms":
        norms = norms / np.sqrt(given.sizes)
    elif not followed.clip_per_tensor:
        total = np.sqrt((norms**2).sum(1) + others**2)
        return values * _shrinking(total, clip.limit, followed.clip_eps)[:, None]
    factors = _shrinking(norms, clip.limit, followed.clip_eps)
    return values * np.repeat(factors, [p.stop - p.start for p in given.parts], axis=1)


def _shrinking(norms: np.ndarray, limit: float, eps: float) -> np.ndarray:
    return np.where(norms > 0, np.minimum(1.0, limit / np.maximum(norms + eps, 1e-300)), 1.0)


def _is_over(spec: OptimizerSpec, steps: int) -> bool:
    """Whether PyTorch's schedule refuses to be stepped on after `steps` steps."""
    schedule = spec.schedule
    return (
        schedule is not None
        and schedule.name == "one_cycle"
        and steps > schedule.options["total_steps"]
    )
