"""The optimizers against torch.optim, in float64 exactly and in float32 to its own noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jax_impl import optim
from jax_impl.errors import InputError

STEPS = 20
CASES = {
    "adam": (lambda: optim.adam(1e-3), lambda p: torch.optim.Adam(p, 1e-3)),
    "adam, all options": (
        lambda: optim.adam(0.01, (0.8, 0.95), 1e-4, 0.1),
        lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.95), 1e-4, 0.1),
    ),
    "adamw": (lambda: optim.adamw(1e-3), lambda p: torch.optim.AdamW(p, 1e-3)),
    "adamw, all options": (
        lambda: optim.adamw(0.01, (0.8, 0.95), 1e-4, 0.1),
        lambda p: torch.optim.AdamW(p, 0.01, (0.8, 0.95), 1e-4, 0.1),
    ),
    "sgd": (lambda: optim.sgd(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd, all options": (
        lambda: optim.sgd(0.1, 0.9, 1e-2, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1e-2, nesterov=True),
    ),
    "sgd with momentum": (
        lambda: optim.sgd(0.1, 0.9),
        lambda p: torch.optim.SGD(p, 0.1, 0.9),
    ),
}


def trajectories(case: str, dtype: str, start: float) -> tuple[np.ndarray, np.ndarray]:
    """Parameters after each of STEPS steps on the same gradients, [steps, n], ours and theirs."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(STEPS, 1000)).astype(np.float32)
    initial = (start * rng.normal(size=1000)).astype(np.float32)
    make_ours, make_theirs = CASES[case]
    optimizer = make_ours()
    params = jnp.asarray(initial, dtype)
    state, step = optimizer.init(params), jax.jit(optimizer.update)
    parameter = torch.nn.Parameter(torch.from_numpy(initial).to(getattr(torch, dtype)))
    twin = make_theirs([parameter])
    ours, theirs = [], []
    for gradient in gradients:
        updates, state = step(jnp.asarray(gradient, dtype), state, params)
        params = optax.apply_updates(params, updates)
        ours.append(np.asarray(params, np.float64))
        parameter.grad = torch.from_numpy(gradient).to(parameter)
        twin.step()
        theirs.append(parameter.detach().double().numpy().copy())
    return np.array(ours), np.array(theirs)


@pytest.mark.parametrize("case", CASES)
def test_float64_steps_are_torchs(case):
    with jax.enable_x64(True):
        ours, theirs = trajectories(case, "float64", 1.0)
    assert np.abs(ours - theirs).max() <= 1e-14 * STEPS * np.abs(theirs).max()


@pytest.mark.parametrize("case", CASES)
def test_float32_steps_are_as_exact_as_torchs(case):
    """From zeros, so that the steps themselves count; optax.adam fails this by a factor of ten."""
    with jax.enable_x64(True):
        _, exact = trajectories(case, "float64", 0.0)
    ours, theirs = trajectories(case, "float32", 0.0)
    scale = np.abs(exact).max(1)
    our_noise = (np.abs(ours - exact).max(1) / scale).max()
    their_noise = (np.abs(theirs - exact).max(1) / scale).max()
    assert our_noise <= 4 * their_noise


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_defaults_are_torchs(name):
    params = jnp.ones(3)
    optimizer = optim.create_optimizer(name, 0.1)
    updates, _ = optimizer.update(jnp.full(3, 0.5), optimizer.init(params), params)
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.full((3,), 0.5)
    {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name](
        [parameter], lr=0.1
    ).step()
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(np.asarray(params), parameter.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("lr", [-1.0, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none(lr):
    with pytest.raises(InputError, match="learning rate"):
        optim.create_optimizer("adam", lr)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(InputError, match="lion.*adam"):
        optim.create_optimizer("lion", 0.1)
