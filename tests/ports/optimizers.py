"""Losses with a gradient of their own, optimizers as they come, and initial weights."""

import jax
import jax.numpy as jnp
import optax
import torch
from correct.common import as_they_are, linear, normal
from torch import nn

import parity


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


def net(stopped=False, **fields):
    def apply(p, x):
        x = jnp.tanh(linear(p, "fc1", x))
        return linear(p, "fc2", jax.lax.stop_gradient(x) if stopped else x)

    return parity.Pair("net", Net, apply, as_they_are, example_inputs=normal(0, 8, 6), **fields)


def optimized(ours, theirs):
    return net(optimizer=parity.Optimizer(theirs, ours))


def rmsprop_eps():
    """Optax adds eps inside the root, PyTorch outside."""
    return optimized(
        optax.rmsprop(1e-3, decay=0.99, eps=0.01),
        lambda ps: torch.optim.RMSprop(ps, 1e-3, alpha=0.99, eps=0.01),
    )


def rmsprop_right():
    return optimized(
        optax.rmsprop(1e-3, decay=0.99, eps=0.01, eps_in_sqrt=False),
        lambda ps: torch.optim.RMSprop(ps, 1e-3, alpha=0.99, eps=0.01),
    )


def rmsprop_defaults():
    """Another decay too: 0.9 in Optax, 0.99 in PyTorch."""
    return optimized(optax.rmsprop(1e-2), lambda ps: torch.optim.RMSprop(ps, 1e-2))


def sample_loss(library, stop=lambda a: a):
    """The loss of a drawn action's log-probability under tanh, as in SAC, and half a square."""

    def loss(outputs, noise):
        mean, log_std = outputs[:, :2], outputs[:, 2:]
        action = mean + library.exp(log_std) * noise
        correction = library.log(1 - library.tanh(stop(action)) ** 2 + 1e-6)
        return ((action**2).sum(1) - log_std.sum(1) - 2 * correction.sum(1)).mean()

    return loss


def stopped_in_the_loss():
    """The same value, another gradient."""
    loss = parity.Loss(sample_loss(torch), sample_loss(jnp, jax.lax.stop_gradient))
    return net(loss=loss, labels=normal(1, 8, 2))


def stopped_in_the_net():
    loss = parity.Loss(sample_loss(torch), sample_loss(jnp))
    return net(stopped=True, loss=loss, labels=normal(1, 8, 2))


def same_loss():
    loss = parity.Loss(sample_loss(torch), sample_loss(jnp))
    return net(loss=loss, labels=normal(1, 8, 2))


def cut_normal(initialise, deviation):
    """JAX's weights are of a normal cut at two deviations, `deviation` that before the cut."""

    def make_torch():
        layer = nn.Linear(256, 64)
        initialise(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def init(seed):
        drawn = jax.random.truncated_normal(jax.random.key(seed), -2, 2, (64, 256))
        return {"weight": drawn * deviation, "bias": jnp.zeros(64)}

    return parity.Pair(
        "initial weights",
        make_torch,
        lambda p, x: x @ p["weight"].T + p["bias"],
        as_they_are,
        example_inputs=normal(0, 8, 256),
        init=init,
    )


def haiku():
    """Haiku's default against PyTorch's, which is uniform."""
    return cut_normal(lambda weight: weight, 1 / 16)


def vit():
    """PyTorch's trunc_normal_ cuts at -2 and 2, which is nowhere."""
    return cut_normal(lambda weight: nn.init.trunc_normal_(weight, std=0.02), 0.02)
