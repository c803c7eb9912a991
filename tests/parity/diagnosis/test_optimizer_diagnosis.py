"""What an optimizer rung that fails is told by, for pairs' own optimizers of any kind."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

import parity
from parity.diagnosis.optimizer import find
from parity.ladder.bias_correction import FLOAT32
from parity.ladder.numeric import climb
from parity.pairs.case import Case
from parity.pairs.examples import shared_weights
from parity.pairs.pair import Batch, Pair

SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
RMSprop = torch.optim.RMSprop


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


def pair(make: Callable, transform: optax.GradientTransformation) -> Pair:
    def apply(p, x):
        hidden = jnp.tanh(x @ p["fc1.weight"].T + p["fc1.bias"])
        return hidden @ p["fc2.weight"].T + p["fc2.bias"]

    return Pair(
        "net",
        Net,
        apply,
        lambda state: {name: jnp.asarray(value) for name, value in state.items()},
        example_inputs=np.zeros((2, 12), np.float32),
        optimizer=parity.Optimizer(make, transform),
    )


def of(cls: Any, lr: float, **options: Any) -> Callable:
    return lambda parameters: cls(parameters, lr, **options)


def groups(
    cls: Any, key: str, first: float, second: float, by: str = "order", **options
) -> Callable:
    """Two parameter groups: fc1 and fc2, or weights and biases."""

    def make(parameters):
        parameters = list(parameters)
        if by == "rank":
            parts = [[p for p in parameters if (p.ndim > 1) is yes] for yes in (True, False)]
        else:
            parts = [parameters[:2], parameters[2:]]
        return cls(
            [{"params": part, key: v} for part, v in zip(parts, (first, second), strict=True)],
            **options,
        )

    return make


def matrices(params: Any) -> Any:
    return [leaf.ndim > 1 for leaf in params]


def mapped(function: Callable) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, _: jax.tree.map(function, updates))


VECTORS = "parameters of one dimension (biases)"
CASES: dict[str, tuple[Callable, optax.GradientTransformation, str]] = {
    "rmsprop's defaults": (
        of(RMSprop, 1e-2),
        optax.rmsprop(1e-2),
        "RMSprop's eps is inside the root, and RMSprop's decay (alpha) is 0.9",
    ),
    "rmsprop's eps": (
        of(RMSprop, 1e-3, eps=0.01),
        optax.rmsprop(1e-3, decay=0.99, eps=0.01),
        "RMSprop's eps is inside the root.",
    ),
    "centred": (
        of(RMSprop, 1e-2, centered=True),
        optax.rmsprop(1e-2, centered=True),
        "eps is inside the root, and RMSprop's decay (alpha) is 0.9",
    ),
    "eps_root": (
        of(Adam, 1e-3),
        optax.adam(1e-3, eps=0.0, eps_root=1e-8),
        "Adam's eps is inside the root",
    ),
    "nesterov": (
        of(SGD, 0.1, momentum=0.9),
        optax.sgd(0.1, 0.9, nesterov=True),
        "the momentum is Nesterov's",
    ),
    "adamw's defaults": (of(AdamW, 1e-3), optax.adamw(1e-3), "the weight decay is 0.0001"),
    "L2 or decoupled": (
        of(Adam, 1e-3, weight_decay=5e-4),
        optax.adamw(1e-3, weight_decay=5e-4),
        "the weight decay is decoupled instead of coupled (L2)",
    ),
    "an unusual decay": (
        of(AdamW, 1e-3, weight_decay=0.07),
        optax.adamw(1e-3, weight_decay=0.013),
        "the decoupled weight decay is 0.013",
    ),
    "a mask": (
        of(AdamW, 1e-3, weight_decay=0.1),
        optax.adamw(1e-3, weight_decay=0.1, mask=matrices),
        f"the weight decay skips {VECTORS}",
    ),
    "a mask and eps": (
        of(AdamW, 1e-3, weight_decay=0.1),
        optax.adamw(1e-3, weight_decay=0.1, eps=1e-6, mask=matrices),
        f"eps is 1e-06, and the weight decay is missing, for {VECTORS}",
    ),
    "decay in one group": (
        groups(AdamW, "weight_decay", 0.1, 0.0, by="rank", lr=1e-3),
        optax.adamw(1e-3, weight_decay=0.1),
        "the weight decay of 0.1 is applied to parameter group 2 of PyTorch (fc1.bias, fc2.bias)",
    ),
    "rates of groups": (
        groups(SGD, "lr", 0.1, 0.01),
        optax.sgd(0.1),
        "the learning rate is 0.1, that of another group, instead of 0.01, for parameter group 2",
    ),
    "an unusual rate": (
        of(Adam, 1e-3),
        optax.adam(3.3e-3),
        "the learning rate is 3.3 times PyTorch's",
    ),
    "rate and eps": (
        of(Adam, 1e-3),
        optax.adam(1.7e-3, eps=1e-6),
        "eps is 1e-06, and the learning rate is 1.7 times PyTorch's",
    ),
    "betas and eps": (
        of(AdamW, 1e-3),
        optax.adamw(1e-3, eps=1e-6, b2=0.99, weight_decay=0.01),
        "Adam's betas are (0.9, 0.99), and eps is 1e-06",
    ),
    "warm-up": (
        of(Adam, 1e-3),
        optax.adam(optax.linear_schedule(1e-4, 1e-3, 9)),
        "0.1, 0.2, 0.3 times PyTorch's at the steps (a linear warm-up)",
    ),
    "warm-up from zero": (
        of(Adam, 1e-3),
        optax.adam(optax.linear_schedule(0.0, 1e-3, 10)),
        "0, 0.1, 0.2 times PyTorch's at the steps (a linear warm-up)",
    ),
    "cosine": (
        of(SGD, 0.1, momentum=0.9),
        optax.sgd(optax.cosine_decay_schedule(0.1, 10), 0.9),
        "(a cosine over 10 steps)",
    ),
    "exponential": (
        of(SGD, 0.1, momentum=0.9),
        optax.sgd(optax.exponential_decay(0.1, 1, 0.9), 0.9),
        "(exponential, 0.9 times a step)",
    ),
    "step": (
        of(SGD, 0.1, momentum=0.9),
        optax.sgd(optax.piecewise_constant_schedule(0.1, {1: 0.1}), 0.9),
        "(constant, and 0.1 times so much from step 2)",
    ),
    "another schedule": (
        of(SGD, 0.1),
        optax.sgd(lambda step: 0.1 * jnp.array([1.0, 0.3, 0.8])[step]),
        "the learning rate follows a schedule: 1, 0.3, 0.8 times PyTorch's",
    ),
    "a rate of float32": (
        of(SGD, 0.1),
        optax.sgd(lambda step: jnp.float32(0.1)),
        "the learning rate is rounded to float32",
    ),
    "rate inside the buffer": (
        of(SGD, 0.1, momentum=0.9),
        optax.chain(
            optax.scale_by_learning_rate(optax.linear_schedule(0.1, 0.01, 9)), optax.trace(0.9)
        ),
        "the learning rate is inside the momentum buffer, and the learning rate follows a schedule",
    ),
    "clipping by norm": (
        of(SGD, 0.1),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
        "the gradients are clipped to a norm of 1, of all together",
    ),
    "clipping by an unusual norm": (
        of(SGD, 0.1),
        optax.chain(optax.clip_by_global_norm(0.37), optax.sgd(0.1)),
        "the gradients are clipped to a norm of 0.37, of all together",
    ),
    "clipping tensors": (
        of(Adam, 1e-3),
        optax.chain(optax.clip_by_block_rms(0.01), optax.adam(1e-3)),
        "the gradients are clipped to a root mean square of 0.01, tensor by tensor",
    ),
    "MultiSteps": (
        of(SGD, 0.1),
        optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
        "at every 2 gradients, with their mean (optax.MultiSteps)",
    ),
    "sign": (of(SGD, 0.1), optax.sign_sgd(0.1), "the signs of the gradients are taken"),
    "ema": (
        of(SGD, 0.1),
        optax.chain(optax.sgd(0.1), optax.ema(0.99)),
        "averaged with decay 0.99 (optax.ema)",
    ),
    "dampening": (
        of(SGD, 0.1, momentum=0.9, dampening=0.5),
        optax.sgd(0.1, 0.9),
        "the dampening is ignored",
    ),
    "maximize": (
        of(SGD, 0.1, momentum=0.9, maximize=True),
        optax.sgd(0.1, 0.9),
        "the step goes up the gradient",
    ),
    "lion": (
        of(AdamW, 1e-3),
        optax.lion(1e-4),
        "JAX's optimizer does what optax.lion does, PyTorch's is AdamW, and its learning rate is "
        "0.0001",
    ),
    "yogi": (of(Adam, 1e-3), optax.yogi(1e-3), "JAX's optimizer does what optax.yogi does"),
    "adagrad": (
        of(torch.optim.Adagrad, 1e-2),
        optax.adagrad(1e-2),
        "Adagrad's sum of squares starts at 0.1, and eps is 1e-07 and inside the root",
    ),
    "adagrad's start": (
        of(torch.optim.Adagrad, 1e-2, eps=1e-5),
        optax.adagrad(1e-2, 0.1, eps=1e-5),
        "Adagrad's eps is inside the root, and Adagrad's sum of squares starts at 0.1",
    ),
    "nadam": (of(torch.optim.NAdam, 1e-3), optax.nadam(1e-3), "no schedule of the momentum"),
    "adamax": (
        of(torch.optim.Adamax, 1e-3),
        optax.adamax(1e-3, b2=0.99),
        "betas (0.9, 0.99) in place of PyTorch's (0.9, 0.999)",
    ),
    "adadelta": (
        of(torch.optim.Adadelta, 1.0),
        optax.adadelta(1.0, rho=0.95),
        "decay rho 0.95 in place of PyTorch's 0.9",
    ),
    "adadelta's rate": (
        of(torch.optim.Adadelta, 1.0),
        optax.adadelta(0.3),
        "the learning rate is 0.3 times PyTorch's",
    ),
    "adadelta's clipping": (
        of(torch.optim.Adadelta, 1.0),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adadelta(1.0)),
        "the gradients are clipped to a norm of 0.5, of all together",
    ),
}


def diagnosed(make: Callable, transform: optax.GradientTransformation):
    case = Case(pair(make, transform), "float64", jit=False)
    return find(case, shared_weights(case.pair, 0))


@pytest.mark.parametrize("name", CASES)
def test_a_cause_is_named(name):
    make, transform, text = CASES[name]
    found = diagnosed(make, transform)
    assert found.cause is not None, found.text
    assert text in f"{found.cause}.", found.text
    assert ", or " not in found.cause or name == "sign", found.cause


UNKNOWN = {
    "tanh": (
        of(SGD, 0.1),
        optax.chain(mapped(lambda g: jnp.tanh(3 * g)), optax.sgd(0.1)),
        "JAX's first step is another function of the gradient.",
    ),
    "a beta": (
        of(Adam, 1e-3),
        optax.adam(1e-3, b2=0.9123),
        "the steps agree up to step 1 and depart at step 2",
    ),
    "a norm": (
        of(SGD, 0.1),
        optax.chain(optax.normalize_by_update_norm(), mapped(jnp.tanh), optax.sgd(0.1)),
        "A tensor's step depends on the gradients of the others (a global norm).",
    ),
    "biases": (
        of(SGD, 0.1),
        optax.chain(mapped(lambda g: jnp.tanh(g) if g.ndim == 1 else g), optax.sgd(0.1)),
        f"only {VECTORS} depart; JAX's first step is another function",
    ),
    "a decay": (
        of(SGD, 0.1),
        optax.chain(mapped(jnp.tanh), optax.add_decayed_weights(0.2), optax.sgd(0.1)),
        "it also moves a parameter p by -0.02 p, PyTorch's by 0 p (a weight decay)",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_departs_of_an_unknown_update(name):
    make, transform, text = UNKNOWN[name]
    found = diagnosed(make, transform)
    assert found.cause is None
    assert text in found.text


RIGHT = {
    "rmsprop": (of(RMSprop, 1e-2), optax.rmsprop(1e-2, decay=0.99, eps_in_sqrt=False)),
    "adamax": (of(torch.optim.Adamax, 1e-3), optax.adamax(1e-3)),
    "groups": (
        groups(AdamW, "weight_decay", 0.1, 0.0, by="rank", lr=1e-3),
        optax.adamw(1e-3, weight_decay=0.1, mask=matrices),
    ),
}


BATCH = Batch(np.ones((2, 3), np.float32), np.arange(2))
"""Optimizers are stepped from gradients that do not depend on it."""


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_said_of_a_right_one(name):
    found = diagnosed(*RIGHT[name])
    assert found.cause is None and found.module is None


def test_a_bias_correction_in_float32(monkeypatch):
    """As Optax computes it where the count or the decay is of 32 bits."""

    def narrow(moment, decay, count):
        correction = (1 - jnp.float32(decay) ** count.astype(jnp.float32)).astype(jnp.float32)
        return jax.tree.map(lambda m: m / correction.astype(m.dtype), moment)

    def climbed(case):
        return climb("optimizer", case.pair, shared_weights(case.pair, 0), [BATCH], jit=False)

    right = Case(pair(of(Adam, 1e-3), optax.adam(1e-3)), "float64", jit=False)
    wrong = Case(pair(of(Adam, 1e-3), optax.adam(1e-3, eps=1e-6)), "float64", jit=False)
    state = shared_weights(right.pair, 0)
    assert [r.remarks for r in climbed(right)] == [(), (FLOAT32,)]
    original = optax.tree_utils.tree_bias_correction
    for module in (optax.tree_utils, optax.tree):
        for name, value in list(vars(module).items()):
            if value is original:
                monkeypatch.setattr(module, name, narrow)
    results = climbed(right)
    assert all(r.passed and r.remarks == (FLOAT32,) for r in results)
    assert not climb("optimizer", right.pair, state, [BATCH], jit=False, strict=True)[0].passed
    assert find(right, state).cause == "Optax's bias correction is computed in float32"
    assert not any(r.passed for r in climbed(wrong))
    found = find(wrong, state)
    assert found.cause == "eps is 1e-06"
    assert "Besides, Optax's bias correction is computed in float32" in found.text
