"""PyTorch's optimizers as Optax gradient transformations, with PyTorch's names and defaults."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_impl.errors import InputError

OPTIMIZERS = ("adam", "adamw", "sgd")


def create_optimizer(name: str, lr: float) -> optax.GradientTransformation:
    """The optimizer `name`, one of `OPTIMIZERS`, with PyTorch's defaults but for `lr`.

    Raises:
        InputError: an unknown name, or a learning rate that is not a number >= 0.
    """
    makers = {"adam": adam, "adamw": adamw, "sgd": sgd}
    if name not in makers:
        raise InputError(f"no optimizer named {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    if not 0 <= lr < math.inf:
        raise InputError(f"the learning rate is {lr}: give a number of 0 or more")
    return makers[name](lr)


def sgd(
    lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
    """`torch.optim.SGD` without dampening: v <- momentum v + g, p <- p - lr v.

    `weight_decay` adds weight_decay * p to the gradient g.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        optax.trace(momentum, nesterov) if momentum else optax.identity(),
        optax.scale_by_learning_rate(lr),
    )


def adam(
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """`torch.optim.Adam` (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, Algorithm 1).

    As in PyTorch, `weight_decay` is an L2 penalty: it adds weight_decay * p to the gradient.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        scale_by_adam(betas, eps),
        optax.scale_by_learning_rate(lr),
    )


def adamw(
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> optax.GradientTransformation:
    """`torch.optim.AdamW` (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101).

    As in PyTorch, the decoupled decay is p <- p - lr * weight_decay * p.
    """
    return optax.chain(
        scale_by_adam(betas, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(lr),
    )


def scale_by_adam(betas: tuple[float, float], eps: float) -> optax.GradientTransformation:
    """Gradients -> Adam's steps before the learning rate, rounded as PyTorch rounds them.

    `optax.scale_by_adam` is the same formula, but takes 1 - beta**t in float32, where 1 - 0.999
    has lost five digits: its steps are off by 1e-5 relative, those of PyTorch by 3e-7. Here
    1 - beta**t = -expm1(t log beta).
    """
    b1, b2 = betas

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(
            jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = jax.tree.map(lambda m, g: m + (1 - b1) * (g - m), state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * (g * g), state.nu, updates)

        def step(m: jax.Array, v: jax.Array) -> jax.Array:
            correction1, correction2 = (
                -jnp.expm1(count.astype(m.dtype) * math.log(beta)) for beta in betas
            )
            return m / correction1 / (jnp.sqrt(v) / jnp.sqrt(correction2) + eps)

        return jax.tree.map(step, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
