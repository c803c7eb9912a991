"""Optimizers of both frameworks that are the same, for nets to be trained by."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch

import parity

WARM, TOTAL = 4, 24


def warm_up_and_cosine(step: Any) -> Any:
    """The factor of the learning rate: (step + 1) / 4 at first, then half a cosine."""
    xp = math if isinstance(step, int) else jnp
    part = 0.5 * (1 + xp.cos(math.pi * (step - WARM) / (TOTAL - WARM)))
    if isinstance(step, int):
        return (step + 1) / WARM if step < WARM else part
    return jnp.where(step < WARM, (step + 1) / WARM, part)


def scheduled(schedule: Callable[[Any], Any] = warm_up_and_cosine, rate: float = 0.1):
    """SGD with momentum whose PyTorch optimizer moves its schedule on by itself."""

    def make(parameters):
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up_and_cosine)
        optimizer.register_step_post_hook(lambda *_: scheduler.step())
        return optimizer

    return parity.Optimizer(make, optax.sgd(lambda count: rate * schedule(count), momentum=0.9))


def clip_as_torch(limit: float) -> optax.GradientTransformation:
    """Of all gradients' norm, with PyTorch's 1e-6."""

    def init(params):
        return optax.EmptyState()

    def update(updates, state, params=None):
        factor = jnp.minimum(limit / (optax.tree.norm(updates) + 1e-6), 1.0)
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformation(init, update)


def clipped(clip: optax.GradientTransformation | None = None, limit: float = 0.1):
    """SGD after clipping, which PyTorch's optimizer does by itself."""

    def make(parameters):
        parameters = list(parameters)
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

        def clip_first(*_: Any) -> None:
            torch.nn.utils.clip_grad_norm_(parameters, limit)

        optimizer.register_step_pre_hook(clip_first)
        return optimizer

    clip = clip_as_torch(limit) if clip is None else clip
    return parity.Optimizer(make, optax.chain(clip, optax.sgd(0.1, momentum=0.9)))


def matrices(params: Any) -> Any:
    """True of kernels, False of biases and scales."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def decayed_in_groups(mask: Any = matrices):
    """AdamW that decays no bias and no scale."""

    def make(parameters):
        parameters = list(parameters)
        kernels = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim <= 1]
        groups = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)

    return parity.Optimizer(make, optax.adamw(1e-2, weight_decay=0.1, mask=mask))


def adagrad(start: float = 0.0):
    def init(params):
        return jax.tree.map(lambda p: jnp.full_like(p, start), params)

    def update(updates, state, params=None):
        sums = jax.tree.map(lambda s, g: s + g * g, state, updates)
        steps = jax.tree.map(lambda s, g: -0.05 * g / (jnp.sqrt(s) + 1e-10), sums, updates)
        return steps, sums

    return parity.Optimizer(
        lambda parameters: torch.optim.Adagrad(parameters, lr=0.05),
        optax.GradientTransformation(init, update),
    )


def adamax(corrected: bool = True):
    own = optax.adamax(2e-3)
    if not corrected:
        own = without_bias_correction()
    return parity.Optimizer(lambda parameters: torch.optim.Adamax(parameters, lr=2e-3), own)


def without_bias_correction() -> optax.GradientTransformation:
    """Adamax whose first moment is taken as it is."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, (params, params))

    def update(updates, state, params=None):
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], updates)
        largest = jax.tree.map(
            lambda u, g: jnp.maximum(0.999 * u, jnp.abs(g) + 1e-8), state[1], updates
        )
        steps = jax.tree.map(lambda m, u: -2e-3 * m / u, first, largest)
        return steps, (first, largest)

    return optax.GradientTransformation(init, update)


def nadam(decay: float = 0.004):
    """NAdam (Dozat 2016), whose momentum rises by PyTorch's schedule unless `decay` is 0."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return zeros, zeros, jnp.zeros((), int), jnp.ones(())

    def update(updates, state, params=None):
        first, second, count, product = state
        count = count + 1
        now = 0.9 * (1 - 0.5 * 0.96 ** (count * decay)) if decay else 0.9
        after = 0.9 * (1 - 0.5 * 0.96 ** ((count + 1) * decay)) if decay else 0.9
        product = product * now
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, updates)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, updates)

        def step(m, v, g):
            root = jnp.sqrt(v / (1 - 0.999**count)) + 1e-8
            return (
                -2e-3 * ((1 - now) / (1 - product) * g + after / (1 - product * after) * m) / root
            )

        return jax.tree.map(step, first, second, updates), (first, second, count, product)

    return parity.Optimizer(
        lambda parameters: torch.optim.NAdam(parameters, lr=2e-3),
        optax.GradientTransformation(init, update),
    )


class TorchLion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023), which PyTorch does not have."""

    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> Any:
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (b1 * average + (1 - b1) * p.grad).sign())
                average.mul_(b2).add_(p.grad, alpha=1 - b2)


def lion(b1: float = 0.9, b2: float = 0.99):
    return parity.Optimizer(
        lambda parameters: TorchLion(parameters, lr=1e-3, weight_decay=0.1),
        optax.lion(1e-3, b1, b2, weight_decay=0.1),
    )


def rmsprop(decay: float = 0.99, inside: bool = False):
    return parity.Optimizer(
        lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3),
        optax.rmsprop(1e-3, decay, 1e-8, eps_in_sqrt=inside),
    )


def adam_with_l2(decoupled: bool = False):
    decay, adam = optax.add_decayed_weights(0.1), optax.scale_by_adam()
    order = (adam, decay) if decoupled else (decay, adam)
    return parity.Optimizer(
        lambda parameters: torch.optim.Adam(parameters, lr=1e-3, weight_decay=0.1),
        optax.chain(*order, optax.scale(-1e-3)),
    )


def sgd(rate: float = 0.05):
    return parity.Optimizer(
        lambda parameters: torch.optim.SGD(parameters, lr=rate),
        optax.sgd(rate),
    )


OPTIMIZERS = {
    "scheduled": scheduled,
    "clipped": clipped,
    "decayed in groups": decayed_in_groups,
    "adagrad": adagrad,
    "adamax": adamax,
    "nadam": nadam,
    "lion": lion,
    "rmsprop": rmsprop,
    "adam with L2": adam_with_l2,
    "sgd": sgd,
}
"""By name, what makes the optimizers of both sides alike."""
