"""Why an optimizer departs from PyTorch's: the faults that reproduce what it did.

`Rules` says what is done at every step; its switches are the ways in which implementations are
known to differ from PyTorch. `trajectory` follows the rules in NumPy: with those of a spec it does
what torch.optim does, and with one switch turned what a faulty implementation does. The spec's
learning rates and momenta are PyTorch's own, read from its scheduler.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from parity.optimizers import ClipSpec, OptimizerSpec
from parity.pair import Tensors
from parity.tolerance import FLOAT64_TOLERANCE, relative_error

AGREEMENT = 1e-9
"""A cause agrees to so much, relative to a tensor's largest value, ..."""
IMPROVEMENT = 1e-3
"""... and to so small a part of the difference from PyTorch that it explains, ..."""
ROUNDING = 1e-13
"""... but is not asked for less than what exact implementations differ by after dozens of steps."""


class Departure(NamedTuple):
    """The first step, from 1, and tensor that differ from torch.optim's, and their difference."""

    step: int
    name: str
    error: float


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


def departure(
    spec: OptimizerSpec, params: Tensors, gradients: Sequence[Tensors], observed: Sequence[Tensors]
) -> Departure | None:
    """Where `observed` first differs from torch.optim by more than 1e-12; None if nowhere.

    Args: as of `cause`.
    """
    tensors = {
        n: torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for n, v in params.items()
    }
    optimizer = spec.to_torch(tensors.values())
    for step, (gradient, found) in enumerate(zip(gradients, observed, strict=True), 1):
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradient[name], dtype=torch.float64)
        optimizer.step()
        for name, tensor in tensors.items():
            error = relative_error(found[name], tensor.detach().numpy())
            if not error <= FLOAT64_TOLERANCE:
                return Departure(step, name, error)
    return None


def cause(
    spec: OptimizerSpec, params: Tensors, gradients: Sequence[Tensors], observed: Sequence[Tensors]
) -> str | None:
    """Why `observed` is not what torch.optim does.

    Every known fault is tried alone, as a change of the rules. Several may do the same: the answer
    names them all, the likeliest first, with ", or " between them.

    Args:
      params: the initial parameters by name, of any shapes.
      gradients: those of each step, before clipping.
      observed: the parameters after each step, computed in float64.

    Returns:
      The cause; None if there is no departure, or none of the known faults explains it.
    """
    if departure(spec, params, gradients, observed) is None:
        return None
    base = rules(spec, len(gradients))
    unexplained = _error(base, params, gradients, observed)
    limit = max(min(AGREEMENT, IMPROVEMENT * unexplained), ROUNDING)
    fits = [
        text
        for text, changed in faults(spec, base)
        if _error(changed, params, gradients, observed) <= limit
    ]
    return ", or ".join(dict.fromkeys(fits)) or None


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


def faults(spec: OptimizerSpec, base: Rules) -> Iterator[tuple[str, Rules]]:
    """Each known fault, in words, and the rules with it; those that apply to the spec."""

    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    yield "the step goes up the gradient", but(step_sign=-1.0)
    yield "the step goes up the gradient", but(gradient_sign=-1.0)
    if spec.schedule is not None:
        yield from _schedule_faults(spec, base)
    for factor in (10, 0.1, 2, 0.5):
        yield f"the learning rate is {factor:g} times too large", but(lrs=factor * base.lrs)
    if base.name == "adam":
        yield from _adam_faults(base)
    if base.name == "rmsprop":
        yield from _rmsprop_faults(base)
    if base.name != "adam":
        yield from _momentum_faults(base)
    if base.name != "sgd":
        for eps in (1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 0.0):
            if eps != base.eps:
                yield f"eps is {eps:g}", but(eps=eps)
    yield from _decay_faults(base)
    yield from _clip_faults(base)
    text = "the optimizer's state is reset at each step"
    yield text, but(reset=True)
    yield text, but(reset=True, lrs=np.full_like(base.lrs, base.lrs[0]))
    text = "the gradients are accumulated (zero_grad is missing)"
    yield text, but(accumulate="raw")
    yield text, but(accumulate="clipped")


def _schedule_faults(spec: OptimizerSpec, base: Rules) -> Iterator[tuple[str, Rules]]:
    for text, move in (
        ("the schedule is one step early", lambda values: np.append(values[1:], values[-1])),
        ("the schedule is one step late", lambda values: np.insert(values[:-1], 0, values[0])),
    ):
        both = {"lrs": move(base.lrs), "momenta": move(base.momenta)}
        yield text, dataclasses.replace(base, **both)
        yield text, dataclasses.replace(base, lrs=both["lrs"])
    plain = rules(dataclasses.replace(spec, schedule=None), len(base.lrs) - 1)
    text = "the schedule is ignored"
    yield text, dataclasses.replace(base, lrs=plain.lrs, momenta=plain.momenta)
    yield text, dataclasses.replace(base, lrs=plain.lrs)
    yield text, dataclasses.replace(base, lrs=np.full_like(base.lrs, base.lrs[0]))
    if (plain.momenta != base.momenta).any():
        yield (
            "the schedule's cycle of the momentum is ignored",
            dataclasses.replace(base, momenta=plain.momenta),
        )


def _adam_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    yield "Adam's eps is inside the root", but(eps_place="inside")
    yield "Adam's eps is inside the root", but(eps_place="both")
    yield "Adam's eps is added before the bias correction", but(eps_place="uncorrected")
    text = "Adam's bias correction is missing"
    yield f"{text} for the first moment", but(correct_first=False)
    yield f"{text} for the second moment", but(correct_second=False)
    yield f"{text} for both moments", but(correct_first=False, correct_second=False)
    if (base.momenta == base.momenta[0]).all():  # else a schedule moves beta1
        swapped = but(momenta=np.full_like(base.momenta, base.decay), decay=base.momenta[0])
        yield "Adam's betas are swapped", swapped
        for beta1, beta2 in ((0.9, 0.999), (0.9, 0.99), (0.9, 0.95)):
            if (beta1, beta2) != (base.momenta[0], base.decay):
                momenta = np.full_like(base.momenta, beta1)
                yield f"Adam's betas are {beta1, beta2}", but(momenta=momenta, decay=beta2)
    if base.amsgrad:
        yield "AMSGrad is off", but(amsgrad=False)
        text = "AMSGrad's maximum is taken after the bias correction"
        yield text, but(amsgrad_corrected=True)
    else:
        yield "AMSGrad is on", but(amsgrad=True)
        yield "AMSGrad is on", but(amsgrad=True, amsgrad_corrected=True)


def _rmsprop_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    yield "RMSprop's eps is inside the root", but(eps_place="inside")
    yield "RMSprop's eps is inside the root", but(eps_place="both")
    for decay in (0.9, 0.99):
        if decay != base.decay:
            yield f"RMSprop's decay (alpha) is {decay}", but(decay=decay)
    yield "RMSprop's mean square starts at 1", but(first_square=1.0)
    if base.centered:
        yield "RMSprop is not centred", but(centered=False)
    else:
        yield "RMSprop is centred", but(centered=True)


def _momentum_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    if not base.momenta.any():
        return
    yield "the momentum is missing", but(momenta=np.zeros_like(base.momenta), nesterov=False)
    average = {"dampening": base.momenta}
    text = "the momentum is an average, of (1 - m) g"
    yield text, but(**average, first_buffer_is_gradient=False)
    yield text, but(**average)
    yield text, but(**average, first_buffer_is_gradient=False, debiased_buffer=True)
    if base.nesterov:
        yield "the momentum is not Nesterov's", but(nesterov=False)
    else:
        yield "the momentum is Nesterov's", but(nesterov=True)
    if base.dampening.any():
        yield "the dampening is ignored", but(dampening=np.zeros_like(base.dampening))
        text = "the first momentum buffer is dampened, as from zero"
        yield text, but(first_buffer_is_gradient=False)
    if (base.lrs != base.lrs[0]).any():
        yield "the learning rate is inside the momentum buffer", but(lr_in_buffer=True)


def _decay_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    if base.weight_decay == 0:
        for decay in (1e-2, 1e-4):
            yield f"there is a weight decay of {decay:g}", but(weight_decay=decay)
            text = f"there is a decoupled weight decay of {decay:g}"
            yield text, but(weight_decay=decay, decoupled=True)
        return
    yield "the weight decay is missing", but(weight_decay=0.0)
    if base.decoupled:
        yield "the weight decay is coupled (L2) instead of decoupled", but(decoupled=False)
        text = "the decoupled weight decay is not multiplied by the learning rate"
        yield text, but(decay_without_lr=True)
    else:
        yield "the weight decay is decoupled instead of coupled (L2)", but(decoupled=True)
        text = "the weight decay is decoupled, and not multiplied by the learning rate"
        yield text, but(decoupled=True, decay_without_lr=True)
    text = "the weight decay skips parameters of one dimension (biases)"
    yield text, but(decay_skips_vectors=True)
    for decay in (1e-2, 1e-4):
        if decay != base.weight_decay:
            yield f"the weight decay is {decay:g}", but(weight_decay=decay)


def _clip_faults(base: Rules) -> Iterator[tuple[str, Rules]]:
    def but(**changes) -> Rules:
        return dataclasses.replace(base, **changes)

    if base.clip is None:
        return
    limit = base.clip.limit
    yield "the clipping is missing", but(clip=None)
    if base.clip.kind == "norm":
        yield "the clipping is by value instead of by norm", but(clip=ClipSpec("value", limit))
        text = "the clipping is per tensor instead of by the norm of all"
        yield text, but(clip_per_tensor=True)
        yield "the clipping divides by the norm without PyTorch's 1e-6", but(clip_eps=0.0)
    else:
        text = "the clipping is by norm instead of by value"
        yield text, but(clip=ClipSpec("norm", limit))
        yield text, but(clip=ClipSpec("norm", limit), clip_eps=0.0)
    # Either side of the multiplication by the learning rate; with and without PyTorch's 1e-6.
    for place in ("after", "last"):
        for eps in (1e-6, 0.0):
            text = "the clipping comes after the optimizer instead of before it"
            yield text, but(clip_place=place, clip_eps=eps)


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


def _error(
    followed: Rules, params: Tensors, gradients: Sequence[Tensors], observed: Sequence[Tensors]
) -> float:
    """The largest relative error of any tensor at any step."""
    made = trajectory(followed, params, gradients)
    return max(
        relative_error(found[name], value)
        for found, tensors in zip(observed, made, strict=True)
        for name, value in tensors.items()
    )


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
