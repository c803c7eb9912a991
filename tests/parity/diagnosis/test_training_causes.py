"""What is told of a training that departs where all of its parts agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch import nn

import parity
from parity.checking import climb_all

SGD = parity.named_optimizer("sgd", lr=0.1)


class Net(nn.Module):
    def __init__(self, frozen: bool = False):
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.norm.bias.requires_grad_(not frozen)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.norm(self.fc1(x))))


def apply(v, x, train, tanh=False, late=False, scaled=False, momentum=0.1):
    x = x @ v["fc1.weight"].T + v["fc1.bias"]
    mean, var = v["norm.running_mean"], v["norm.running_var"]
    if train:
        mean, var = x.mean(0), x.var(0)
        kept = {"mean": mean, "var": var * len(x) / (len(x) - 1)}
        old = {name: v[f"norm.running_{name}"] for name in kept}
        v = v | {f"norm.running_{n}": (1 - momentum) * old[n] + momentum * kept[n] for n in kept}
        v["norm.num_batches_tracked"] = v["norm.num_batches_tracked"] + 1
    x = (x - mean) / jnp.sqrt(var + 1e-5) * v["norm.weight"] + v["norm.bias"]
    x = jax.nn.gelu(x, approximate=tanh)
    if late and not train:  # as statistics that are only corrected once there have been some
        x = jnp.where(v["norm.num_batches_tracked"] > 0, 1.5 * x, x)
    if scaled and not train:  # of which no suspect is known
        x = x + 0.01 * x**3
    return x @ v["fc2.weight"].T + v["fc2.bias"], v


def net(frozen=False, **switches):
    inputs = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    return parity.Pair(
        "net",
        lambda: Net(frozen),
        lambda v, x, train: apply(v, x, train, **switches),
        lambda state: {name: jnp.asarray(value) for name, value in state.items()},
        example_inputs=inputs,
        optimizer=SGD,
    )


def step_of(left=()):
    """A loop of one's own: SGD of all but the entries `left`."""

    def jax_step(optimizer):
        def step(v, x, y):
            def loss(trained):
                logits, after = apply(v | trained, x, True)
                logs = jax.nn.log_softmax(logits)
                return -jnp.take_along_axis(logs, y[:, None], 1).mean(), after

            chosen = {n: w for n, w in v.items() if "norm.r" not in n and "num" not in n}
            chosen = {n: w for n, w in chosen.items() if n not in left}
            (value, after), grads = jax.value_and_grad(loss, has_aux=True)(chosen)
            return after | {n: w - 0.1 * grads[n] for n, w in chosen.items()}, value

        return lambda v: v, jax.jit(step), lambda v: v

    return jax_step


@pytest.mark.parametrize(
    "pair, cause",
    [
        (net(frozen=True), "norm.bias: trained, and frozen in PyTorch (requires_grad)"),
        (net(), "fc2.bias: not trained"),
    ],
)
def test_a_loop_that_trains_other_parameters_is_named(pair, cause):
    left = () if "frozen" in cause else ("fc2.bias",)
    faulty = dataclasses.replace(pair, jax_step=step_of(left))
    found = list(climb_all(faulty, ["trajectory"], steps=3))
    failing = [r for r in found if r.passed is False]
    assert failing and all(r.diagnosis and r.diagnosis.cause == cause for r in failing), failing


def test_a_loop_that_trains_the_same_parameters_passes():
    right = dataclasses.replace(net(), jax_step=step_of())
    assert all(r.passed for r in climb_all(right, ["trajectory"], steps=3))


def told(pair, rungs):
    """By rung, what is said of its first failure."""
    failing = [r for r in climb_all(pair, rungs, steps=3) if r.passed is False]
    return {r.rung: r.diagnosis.text for r in reversed(failing) if r.diagnosis}


def test_a_fault_after_training_does_not_follow_from_another():
    rungs = "forward", "trajectory"
    assert "follows from" in told(net(tanh=True), rungs)["eval_after_training"]
    both = told(net(tanh=True, late=True), rungs)
    assert "gelu by tanh" in both["forward"] and "follows from" in both["trajectory"]
    assert "output (in eval mode after training)" in both["eval_after_training"]


def test_what_follows_is_told_beside_what_is_not_explained():
    causes = told(net(scaled=True, momentum=0.02), ("batch_stats", "trajectory"))
    assert "momentum would be 0.02" in causes["batch_stats"]
    assert "follows from" in causes["trajectory"] and "momentum" in causes["trajectory"]
    assert "follows from" not in causes["eval_after_training"]
