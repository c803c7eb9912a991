"""What is told of a training that departs where all of its parts agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from correct import attention
from correct.common import adam
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


def step_of(left=(), given=lambda x, y: (x, y)):
    """A loop of one's own: SGD of all but the entries `left`, on what is `given` of a batch."""

    def jax_step(optimizer):
        def taken(v, x, y):
            batch = given(x, y)
            return (v, 0.0) if batch is None else step(v, *batch)

        @jax.jit
        def step(v, x, y):
            def loss(trained):
                logits, after = apply(v | trained, x, True)
                logs = jax.nn.log_softmax(logits)
                return -jnp.take_along_axis(logs, y[:, None], 1).mean(), after

            chosen = {n: w for n, w in v.items() if "norm.r" not in n and "num" not in n}
            chosen = {n: w for n, w in chosen.items() if n not in left}
            (value, after), grads = jax.value_and_grad(loss, has_aux=True)(chosen)
            return after | {n: w - 0.1 * grads[n] for n, w in chosen.items()}, value

        return lambda v: v, taken, lambda v: v

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


def told(pair, rungs, steps=3):
    """By rung, what is said of its first failure."""
    failing = [r for r in climb_all(pair, rungs, steps=steps) if r.passed is False]
    return {r.rung: r.diagnosis.text for r in reversed(failing) if r.diagnosis}


def test_a_fault_after_training_does_not_follow_from_another():
    rungs = "forward", "trajectory"
    assert "follows from" in told(net(tanh=True), rungs)["eval_after_training"]
    both = told(net(tanh=True, late=True), rungs)
    assert "gelu by tanh" in both["forward"] and "follows from" in both["trajectory"]
    assert "output (in eval mode after training)" in both["eval_after_training"]


class Attention(attention.Separate):
    def forward(self, x):
        q, k, v = (attention.split_heads(layer(x)) for layer in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.fc((x + nn.functional.gelu(self.out(y))).mean(1))


def test_a_training_follows_also_where_a_zero_gradient_is_rounded_to_float32():
    """Adam makes steps of a key's bias of the rounding, which is JAX's float32 attention's."""

    def attend(q, k, v):
        return jax.nn.dot_product_attention(q, k, v)

    pair = attention.attention_pair("keys", Attention, attend, 0, optimizer=adam(), act=jax.nn.gelu)
    texts = told(pair, ("forward", "trajectory"), steps=12)
    assert "gelu by tanh" in texts.pop("forward") and texts
    assert all("follows from" in text for text in texts.values()), texts


def test_what_follows_is_told_beside_what_is_not_explained():
    causes = told(net(scaled=True, momentum=0.02), ("batch_stats", "trajectory"))
    assert "momentum would be 0.02" in causes["batch_stats"]
    assert "follows from" in causes["trajectory"] and "momentum" in causes["trajectory"]
    assert "follows from" not in causes["eval_after_training"]


def drawn(sizes=(8, 8, 3)):
    """Batches of these sizes."""
    rng = np.random.default_rng(1)
    return [
        parity.Batch(rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 3, n))
        for n in sizes
    ]


def cause_of(pair, **options):
    """The cause of the first failure of training."""
    found = climb_all(pair, ["trajectory"], **options)
    failing = [r for r in found if r.passed is False]
    assert failing and failing[0].diagnosis, failing
    return failing[0].diagnosis.cause


def filled(index):
    return lambda x, y: (x[index(len(x))], y[index(len(x))])


SMALL = {
    "left out": lambda x, y: (x, y) if len(x) == 8 else None,
    "filled up with its first example": filled(lambda n: np.arange(8) % 8 * (np.arange(8) < n)),
    "filled up with its last example": filled(lambda n: np.minimum(np.arange(8), n - 1)),
    "filled up with its own examples, repeated": filled(lambda n: np.arange(8) % n),
}


@pytest.mark.parametrize("what", SMALL)
def test_what_is_done_to_a_batch_that_is_not_full_is_named(what):
    faulty = dataclasses.replace(net(), jax_step=step_of(given=SMALL[what]))
    assert (
        cause_of(faulty, batches=drawn(), steps=6) == f"a batch of less than 8 examples is {what}"
    )


def test_noise_that_a_step_hides_is_named():
    rng = np.random.default_rng(0)
    noisy = step_of(given=lambda x, y: (x + rng.normal(0, 0.1, x.shape).astype(x.dtype), y))
    cause = cause_of(dataclasses.replace(net(), jax_step=noisy), steps=3)
    assert cause is not None and "differs from call to call" in cause


def averaged(optimizer):
    start, step, _ = step_of()(optimizer)

    def also(state, x, y):
        after, value = step(state[0], x, y)
        mean = {n: 0.9 * w + 0.1 * after[n] for n, w in state[1].items()}
        return (after, mean), value

    def trained(v):
        return {n: w for n, w in v.items() if "norm.r" not in n and "num" not in n}

    return lambda v: (start(v), trained(v)), also, lambda state: state[0] | state[1]


def test_a_moving_average_that_is_given_back_is_named():
    cause = cause_of(dataclasses.replace(net(), jax_step=averaged), steps=3)
    assert cause == "what is given back is a moving average of the weights, of decay 0.9"


def test_a_training_of_ones_own_is_given_the_precision_of_the_run():
    seen = []
    step = step_of(given=lambda x, y: (seen.append((x.dtype.name, y.dtype.name)), (x, y))[1])
    pair = dataclasses.replace(net(), jax_step=step)
    assert all(r.passed for r in climb_all(pair, ["trajectory"], batches=drawn(), steps=3))
    assert {("float64", "int64")} <= set(seen) <= {("float64", "int64"), ("float32", "int64")}


def optimizer(jax_side):
    return parity.Optimizer(lambda p: torch.optim.Adamax(p, 1e-2), jax_side)


def adamax(b1=0.9, b2=0.999, corrected=True):
    """Kingma and Ba's, with or without the correction of the first moment."""

    def update(updates, state, params=None):
        count, m, u = state
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, updates)
        u = jax.tree.map(lambda u, g: jnp.maximum(b2 * u, abs(g) + 1e-8), u, updates)
        rate = 1e-2 / (1 - b1 ** (count + 1) if corrected else 1)
        return jax.tree.map(lambda m, u: -rate * m / u, m, u), (count + 1, m, u)

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.zeros([]), zeros, zeros

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize(
    "jax_side, cause",
    [
        (adamax(corrected=False), "the bias correction, 1 / (1 - 0.9^t), is missing"),
        (adamax(0.999, 0.9), "betas (0.999, 0.9) in place of PyTorch's (0.9, 0.999)"),
    ],
)
def test_a_training_follows_from_its_optimizer(jax_side, cause):
    pair = dataclasses.replace(net(), optimizer=optimizer(jax_side))
    texts = told(pair, ("optimizer", "trajectory"))
    assert texts["optimizer"].endswith(f"Cause: {cause}.")
    assert texts["trajectory"] == f"follows from what was found before: the optimizer: {cause}"
    # What is wrong beside the optimizer does not follow from it.
    both = dataclasses.replace(pair, jax_step=step_of(("fc2.bias",)))
    assert "follows" not in told(both, ("optimizer", "trajectory"))["trajectory"]


class Plain(torch.optim.Optimizer):
    """One of the user's own, without a learning rate among its options."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        for parameter in self.param_groups[0]["params"]:
            parameter.sub_(0.1 * parameter.grad)


@pytest.mark.parametrize(
    "theirs, ours, cause",
    [
        (Plain, optax.sgd(0.2), "its learning rate is 0.2"),
        (lambda p: torch.optim.Adam(p, torch.tensor(1e-3), foreach=False), optax.adam(2e-3),
         "Cause: the learning rate is 2 times PyTorch's."),
        (lambda p: torch.optim.Adam(p, torch.tensor(1e-3), foreach=False), optax.adam(1e-3),
         "Cause: the learning rate is a tensor in PyTorch, rounded to float32."),
    ],
)  # fmt: skip
def test_optimizers_whose_learning_rate_is_no_number_are_explained(theirs, ours, cause):
    pair = dataclasses.replace(net(), optimizer=parity.Optimizer(theirs, ours))
    assert cause in told(pair, ("optimizer",))["optimizer"]
    assert not told(dataclasses.replace(pair, optimizer=parity.Optimizer(Plain, optax.sgd(0.1))),
                    ("optimizer", "trajectory"))  # fmt: skip


def test_an_optimizer_that_is_accepted_is_so_in_training_too():
    faulty = dataclasses.replace(net(), optimizer=optimizer(adamax(corrected=False)))
    pair = dataclasses.replace(faulty, accept=("bias correction",))
    found = list(climb_all(pair, ("optimizer", "trajectory"), steps=3))
    assert all(r.passed for r in found), found
    assert all(any("bias correction" in text for text in r.remarks) for r in found), found
    # In float32 1 - 0.999^t has lost digits, which no accepted cause of float64 explains.
    noisy = dataclasses.replace(net(), optimizer=optimizer(adamax(0.999, 0.9)), accept=("betas",))
    found = {r.dtype: r.passed for r in climb_all(noisy, ("optimizer",))}
    assert found == {"float64": True, "float32": False}


def test_an_optimizer_as_it_should_be_passes():
    pair = dataclasses.replace(net(), optimizer=optimizer(adamax()))
    assert not told(pair, ("optimizer", "trajectory"))
