"""PyTorch's optimizers and clipping as Optax gradient transformations.

Names and defaults are PyTorch's, and the formulas those of
`torch/optim/{sgd,adam,adamw,rmsprop}.py`. A transformation maps a pytree of floating-point
gradients to the updates that `optax.apply_updates` adds; its state and the updates have the
gradients' precision. A learning rate, and what PyTorch's `OneCycleLR` cycles, may be a schedule of
`jax_impl.training.schedules`.
"""

import math
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jax_impl.errors import InputError
from jax_impl.training.optimizer_names import OPTIMIZERS
from jax_impl.training.schedules import Schedule


class Lazy(optax.GradientTransformation):
    """A transformation that leaves a number alone while its gradient and state are zero.

    It treats each number on its own, and its own state stays as it is too: `train.make_train_epoch`
    then passes over weights that the model never reads.
    """


def _lazy_without(decay: float, *parts: optax.GradientTransformation, eps: float = 1.0):
    """The chain of `parts`: decay moves weights that have no gradient, and 0 / eps may be NaN."""
    made = optax.chain(*parts)
    return made if decay or not eps else Lazy(*made)


def create_optimizer(
    name: str, lr: float | Schedule, **options: Any
) -> optax.GradientTransformation:
    """The optimizer `name`, one of `OPTIMIZERS`, with PyTorch's defaults but for `lr` and options.

    Raises:
        InputError: an unknown name, or a learning rate that is not a number >= 0.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"no optimizer named {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    if not callable(lr) and not 0 <= lr < math.inf:
        raise InputError(f"the learning rate is {lr}: give a number of 0 or more")
    return getattr(sys.modules[__name__], name)(lr, **options)


def sgd(
    lr: float | Schedule = 1e-3,
    momentum: float | Schedule = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    dampening: float = 0.0,
) -> optax.GradientTransformation:
    """`torch.optim.SGD`: v <- momentum v + (1 - dampening) g, p <- p - lr v; the first v is g.

    `weight_decay` adds weight_decay * p to the gradient g. `nesterov` steps by g + momentum v.

    Raises:
        InputError: nesterov without momentum or with dampening, which PyTorch refuses too.
    """
    moving = callable(momentum) or momentum != 0
    if nesterov and (not moving or dampening):
        raise InputError("nesterov needs a momentum and no dampening")
    return _lazy_without(
        weight_decay,
        _add_l2(weight_decay),
        trace(momentum, nesterov, dampening) if moving else optax.identity(),
        optax.scale_by_learning_rate(lr),
    )


def adam(
    lr: float | Schedule = 1e-3,
    betas: tuple[float | Schedule, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.Adam` (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, Algorithm 1).

    As in PyTorch, `weight_decay` is an L2 penalty: it adds weight_decay * p to the gradient.
    `amsgrad` is Reddi et al. 2018, https://arxiv.org/abs/1904.09237, with bias correction.
    """
    return _lazy_without(
        weight_decay,
        _add_l2(weight_decay),
        scale_by_adam(betas, eps, amsgrad),
        optax.scale_by_learning_rate(lr),
        eps=eps,
    )


def adamw(
    lr: float | Schedule = 1e-3,
    betas: tuple[float | Schedule, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.AdamW` (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101).

    As in PyTorch, the decoupled decay is p <- p - lr * weight_decay * p.
    """
    return _lazy_without(
        weight_decay,
        scale_by_adam(betas, eps, amsgrad),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(lr),
        eps=eps,
    )


def rmsprop(
    lr: float | Schedule = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float | Schedule = 0.0,
    centered: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.RMSprop`: s <- alpha s + (1 - alpha) g**2, p <- p - lr g / (sqrt(s) + eps).

    `centered` subtracts the square of the gradients' running mean from s under the root. With
    `momentum`, p <- p - lr v and v <- momentum v + g / (sqrt(s) + eps). `weight_decay` adds
    weight_decay * p to the gradient.
    """
    moving = callable(momentum) or momentum != 0
    return _lazy_without(
        weight_decay,
        _add_l2(weight_decay),
        scale_by_rms(alpha, eps, centered),
        trace(momentum) if moving else optax.identity(),
        optax.scale_by_learning_rate(lr),
        eps=eps,
    )


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """`torch.nn.utils.clip_grad_norm_`: g <- g min(1, max_norm / (norm + 1e-6)).

    The norm is that of all gradients together. `optax.clip_by_global_norm` has no 1e-6.

    Raises:
        InputError: a norm that is not a number >= 0.
    """
    _check_limit("max_norm", max_norm)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        factor = jnp.minimum(max_norm / (optax.tree.norm(updates) + 1e-6), 1.0)
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_value(clip_value: float) -> optax.GradientTransformation:
    """`torch.nn.utils.clip_grad_value_`: every g into [-clip_value, clip_value].

    Raises:
        InputError: a value that is not a number >= 0.
    """
    _check_limit("clip_value", clip_value)
    return optax.clip(clip_value)


class TraceState(NamedTuple):
    """Steps taken, and the momentum buffer."""

    steps: jax.Array
    trace: Any


def trace(
    momentum: float | Schedule, nesterov: bool = False, dampening: float = 0.0
) -> optax.GradientTransformation:
    """`v <- momentum v + (1 - dampening) g`; PyTorch's first v is g whatever the dampening."""

    def init(params: Any) -> TraceState:
        return TraceState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        decay = momentum(state.steps) if callable(momentum) else momentum
        gain = jnp.where(state.steps == 0, 1.0, 1 - dampening) if dampening else 1.0

        def buffer(v: jax.Array, g: jax.Array) -> jax.Array:
            return jnp.asarray(decay, g.dtype) * v + jnp.asarray(gain, g.dtype) * g

        moved = jax.tree.map(buffer, state.trace, updates)
        steps = jnp.asarray(optax.safe_increment(state.steps))
        if nesterov:
            updates = jax.tree.map(lambda v, g: g + jnp.asarray(decay, g.dtype) * v, moved, updates)
        else:
            updates = moved
        return updates, TraceState(steps, moved)

    return optax.GradientTransformation(init, update)


def scale_by_adam(
    betas: tuple[float | Schedule, float], eps: float, amsgrad: bool = False
) -> optax.GradientTransformation:
    """Gradients -> Adam's steps before the learning rate, rounded as PyTorch rounds them.

    `optax.scale_by_adam` is the same formula, but takes 1 - beta**t in float32, where 1 - 0.999
    has lost five digits: its steps are off by 1e-5 relative, those of PyTorch by 3e-7. Here
    1 - beta**t = -expm1(t log beta). A scheduled beta1 enters 1 - beta1**t with its value at t.
    """
    b1, b2 = betas

    def init(params: Any) -> optax.ScaleByAdamState | optax.ScaleByAmsgradState:
        count, zeros = jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)
        moments = (zeros, jax.tree.map(jnp.zeros_like, params))
        if amsgrad:
            largest = jax.tree.map(jnp.zeros_like, params)
            return optax.ScaleByAmsgradState(count, *moments, largest)
        return optax.ScaleByAdamState(count, *moments)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        beta1 = b1(state.count) if callable(b1) else b1
        log1 = jnp.log(beta1) if callable(b1) else math.log(b1) if b1 else -math.inf
        log2 = math.log(b2) if b2 else -math.inf

        def mean(m: jax.Array, g: jax.Array) -> jax.Array:
            return m + jnp.asarray(1 - beta1, m.dtype) * (g - m)

        mu = jax.tree.map(mean, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * (g * g), state.nu, updates)

        def step(m: jax.Array, v: jax.Array) -> jax.Array:
            correction1, correction2 = (
                -jnp.expm1(count.astype(m.dtype) * jnp.asarray(log, m.dtype))
                for log in (log1, log2)
            )
            return m / correction1 / (jnp.sqrt(v) / jnp.sqrt(correction2) + eps)

        if amsgrad:
            largest = jax.tree.map(jnp.maximum, state.nu_max, nu)
            steps = jax.tree.map(step, mu, largest)
            return steps, optax.ScaleByAmsgradState(count, mu, nu, largest)
        return jax.tree.map(step, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


class RmsState(NamedTuple):
    """The running means of the gradients' squares and, where centred, of the gradients."""

    nu: Any
    mu: Any


def scale_by_rms(alpha: float, eps: float, centered: bool = False) -> optax.GradientTransformation:
    """Steps g / (sqrt(s) + eps), s the running mean of g**2 from 0 or, centred, its variance.

    `optax.scale_by_rms` has eps under the root by default.
    """

    def init(params: Any) -> RmsState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return RmsState(zeros, jax.tree.map(jnp.zeros_like, params) if centered else None)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        nu = jax.tree.map(lambda s, g: alpha * s + (1 - alpha) * (g * g), state.nu, updates)
        if not centered:
            steps = jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + eps), nu, updates)
            return steps, RmsState(nu, None)
        mu = jax.tree.map(lambda m, g: m + (1 - alpha) * (g - m), state.mu, updates)
        steps = jax.tree.map(lambda s, m, g: g / (jnp.sqrt(s - m * m) + eps), nu, mu, updates)
        return steps, RmsState(nu, mu)

    return optax.GradientTransformation(init, update)


def _add_l2(weight_decay: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()


def _check_limit(name: str, value: float) -> None:
    if not value >= 0:
        raise InputError(f"{name} is {value}: give a number of 0 or more")
