"""Losses of dicts, maps and sequences, two faults at once, and gradients that are stopped."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from parity.diagnosis import loss as diagnosis
from parity.ladder.rungs import loss as rung
from parity.ladder.tolerance import relative_error
from parity.pairs.case import Case, precision
from parity.pairs.pair import CROSS_ENTROPY, Batch, Loss, Pair, arrays_of

N, T, V = 4, 6, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 8)).astype(np.float32)
CLASSES = RNG.integers(0, V, N)
VALUES = RNG.normal(size=(N, 3)).astype(np.float32)
TOKENS = RNG.integers(0, V, (N, T))
MASK = np.arange(T) < np.array([6, 3, 4, 2])[:, None]
PADDED = np.where(MASK, TOKENS, -100)
MAPS = RNG.integers(0, V, (N, 3, 2))


@dataclass
class Output:
    """As of a model of Hugging Face's."""

    logits: torch.Tensor
    hidden: tuple
    attention: None = None


class Net(nn.Module):
    def __init__(self, made, width):
        super().__init__()
        self.linear, self.made = nn.Linear(8, width), made

    def forward(self, x):
        return self.made(self.linear(x))


def pair_of(loss, labels, torch_made=lambda x: x, jax_made=None, width=V, **options):
    torch.manual_seed(0)
    jax_made = jax_made or torch_made
    return Pair(
        "loss",
        Net(torch_made, width),
        lambda v, x: jax_made(x @ v["w"].T + v["b"]),
        lambda s: {"w": jnp.asarray(s["linear.weight"]), "b": jnp.asarray(s["linear.bias"])},
        example_inputs=X,
        labels=labels,
        loss=loss,
        **options,
    )


def arguments(pair):
    return arrays_of(pair.make_torch()), Batch(pair.example_inputs, pair.labels)


def found(pair):
    return diagnosis.find(Case(pair, "float64"), *arguments(pair))


def entropy(x, y):
    return optax.softmax_cross_entropy_with_integer_labels(x, y)


def tokens(x):
    return x.reshape(N, T, V)


SEQUENCE = {"torch_made": tokens, "width": T * V}
MAP = {
    "torch_made": lambda x: x.reshape(N, V, 3, 2),
    "jax_made": lambda x: x.reshape(N, V, 3, 2).transpose(0, 2, 3, 1),
    "width": V * 6,
    "channels_last": True,
}
VAE = {
    "torch_made": lambda x: {"mean": x[:, :3], "log_var": x[:, 3:6], "decoded": x[:, 6:]},
    "width": 9,
}
DATA = {
    "torch_made": lambda x: Output(x[:, :V], (x[:, V:],)),
    "jax_made": lambda x: {"hidden": [x[:, V:]], "logits": x[:, :V]},
    "width": V + 3,
}
ONE = {"width": 1}


def vae_torch(o, y):
    kl = -0.5 * (1 + o["log_var"] - o["mean"] ** 2 - torch.exp(o["log_var"])).sum(1).mean()
    return F.mse_loss(o["decoded"], y) + 0.1 * kl


def vae(beta=0.1, half=0.5, square=2, exp=1.0):
    def loss(o, y):
        inner = 1 + o["log_var"] - o["mean"] ** square - jnp.exp(exp * o["log_var"])
        return jnp.square(o["decoded"] - y).mean() - beta * half * inner.sum(1).mean()

    return loss


def padded_torch(x, y):
    return F.cross_entropy(x.reshape(-1, V), y.reshape(-1))


def ours_padded(x, y):
    kept = y != -100
    return entropy(x, jnp.where(kept, y, 0)) * kept, kept


def by_example(x, y):
    losses, kept = ours_padded(x, y)
    return (losses.sum(1) / kept.sum(1)).mean()


def shifted_torch(x, y):
    return F.cross_entropy(x[:, :-1].reshape(-1, V), y[:, 1:].reshape(-1))


def masked_torch(x, y):
    losses = F.cross_entropy(x.transpose(1, 2), y["ids"], reduction="none")
    return (losses * y["mask"]).sum() / y["mask"].sum()


def masked(mask, divisor):
    def loss(x, y):
        return (entropy(x, y["ids"]) * mask(y["mask"])).sum() / divisor(y["mask"])

    return loss


def of_maps(over):
    return lambda x, y: over(entropy(x, y))


def two_torch(o, y):
    return F.cross_entropy(o.logits, y, label_smoothing=0.1) + 0.3 * o.hidden[0].square().mean()


def two(smoothing=0.1, factor=0.3, over=jnp.mean):
    def loss(o, y):
        hot = jax.nn.one_hot(y, V, dtype=o["logits"].dtype) * (1 - smoothing) + smoothing / V
        return (
            over(-(hot * jax.nn.log_softmax(o["logits"])).sum(1))
            + factor * jnp.square(o["hidden"][0]).mean()
        )

    return loss


def squares(x, y):
    return jnp.square(x - y).mean()


def over_axis_1(x, y):
    logs = jax.nn.log_softmax(x, 1)
    return -jnp.take_along_axis(logs, y[..., None], -1).mean()


MASKED = {"ids": TOKENS, "mask": MASK.astype(np.float32)}

CASES = {
    "vae: beta": ("0.1 is 0.2", vae_torch, vae(0.2), VALUES, VAE),
    "vae: no kl": ("the term with the factor 0.1 is missing", vae_torch, vae(0), VALUES, VAE),
    "vae: half": ("-0.5 is -1", vae_torch, vae(half=1), VALUES, VAE),
    "vae: deviation": ("exp(2 x)", vae_torch, vae(exp=2.0), VALUES, VAE),
    "padding: by example": ("then the examples", padded_torch, by_example, PADDED, SEQUENCE),
    "padding: divisor": (
        "are counted in the divisor", padded_torch,
        lambda x, y: ours_padded(x, y)[0].mean(), PADDED, SEQUENCE,
    ),
    "padding: as class 0": (
        "taken as class 0", padded_torch,
        lambda x, y: entropy(x, jnp.maximum(y, 0)).mean(), PADDED, SEQUENCE,
    ),
    "padding: nan": (
        "the labels -100, which PyTorch ignores, are taken as classes", padded_torch,
        lambda x, y: -jnp.take_along_axis(jax.nn.log_softmax(x), y[..., None], -1).mean(),
        PADDED, SEQUENCE,
    ),
    "shift: missing": (
        "not shifted by one position", shifted_torch,
        lambda x, y: entropy(x, y).mean(), TOKENS, SEQUENCE,
    ),
    "shift: twice": (
        "shifted by one position twice", shifted_torch,
        lambda x, y: entropy(x[:, :-2], y[:, 2:]).mean(), TOKENS, SEQUENCE,
    ),
    "shift: too much": (
        "labels are shifted by one position", padded_torch,
        lambda x, y: entropy(x[:, :-1], y[:, 1:]).mean(), TOKENS, SEQUENCE,
    ),
    "mask: unused": (
        "the mask mask is not used", masked_torch,
        masked(jnp.ones_like, lambda m: m.size), MASKED, SEQUENCE,
    ),
    "mask: divisor": (
        "counted in the divisor", masked_torch,
        masked(lambda m: m, lambda m: m.size), MASKED, SEQUENCE,
    ),
    "maps: pixels": (
        "summed over the 6 labels of an example", F.cross_entropy,
        of_maps(lambda x: x.sum((1, 2)).mean()), MAPS, MAP,
    ),
    "maps: axis": ("the softmax is over axis 2", F.cross_entropy, over_axis_1, MAPS, MAP),
    "two: ignored and weighted": (
        "the label smoothing is ignored; and the factor 0.3 is 0.5",
        two_torch, two(0.0, 0.5), CLASSES, DATA,
    ),
    "two: ignored and summed": (
        "label smoothing is ignored; and the loss is summed",
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y: entropy(x, y).sum(), CLASSES, {},
    ),
    "one column": (
        "broadcast to [n, n]", lambda x, y: F.mse_loss(x[:, 0], y), squares, VALUES[:, 0], ONE,
    ),
    "one column, by hand": (
        "broadcast to [n, n]", lambda x, y: ((x[:, 0] - y) ** 2).mean(), squares,
        VALUES[:, 0], ONE,
    ),
    "overflow": (
        "exp overflows", lambda x, y: F.cross_entropy(x, y),
        lambda x, y: -jnp.log((jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True))[
            jnp.arange(N), y]).mean(), CLASSES, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_cause_is_named(name):
    text, theirs, ours, labels, options = CASES[name]
    diagnosed = found(pair_of(Loss(theirs, ours), labels, **options))
    assert text in (diagnosed.cause or ""), diagnosed.text


RIGHT = {
    "a dict": (Loss(vae_torch, vae()), VALUES, VAE),
    "a dataclass and a dict": (Loss(two_torch, two()), CLASSES, DATA),
    "maps": (Loss(F.cross_entropy, of_maps(jnp.mean)), MAPS, MAP),
    "tokens": (Loss(shifted_torch, lambda x, y: entropy(x[:, :-1], y[:, 1:]).mean()), TOKENS,
               SEQUENCE),
    "labels of a dict": (Loss(masked_torch, masked(lambda m: m, jnp.sum)), MASKED, SEQUENCE),
    "one column": (Loss(F.mse_loss, squares), VALUES[:, :1], ONE),
    "one class": (CROSS_ENTROPY, np.zeros(N, int), ONE),
    "probabilities": (
        Loss(F.binary_cross_entropy,
             lambda p, y: -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean()),
        VALUES.clip(0, 1),
        {"torch_made": torch.sigmoid, "jax_made": jax.nn.sigmoid, "width": 3}),
    "class weights in float32": (
        Loss(lambda x, y: F.cross_entropy(x, y, weight=torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5])),
             lambda x, y: (w := jnp.asarray([1.0, 2.0, 0.5, 3.0, 1.5])[y]) @ entropy(x, y)
             / w.sum()), CLASSES, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_departs_where_both_are_right(name):
    loss, labels, options = RIGHT[name]
    pair = pair_of(loss, labels, **options)
    case, (state, batch) = Case(pair, "float64"), arguments(pair)
    with precision("float64"):
        ours = rung.ours(case)(state, batch)
    theirs = rung.theirs(case)(state, batch)
    assert ours.keys() == theirs.keys()
    assert max(relative_error(ours[name], theirs[name]) for name in theirs) < 1e-12
    assert diagnosis.gradient_cause(case, state, batch) is None


def stop(x):
    return jax.lax.stop_gradient(x)


GRADIENTS = {
    "stopped in JAX": (
        "stopped at tanh in the loss",
        lambda x, y: (x[:, 0].tanh() + x[:, 1] ** 2).mean(),
        lambda x, y: (stop(jnp.tanh(x[:, 0])) + x[:, 1] ** 2).mean(),
    ),
    "one factor of two": (
        "second argument of mul",
        lambda x, y: (x[:, 0] * x[:, 1]).mean(),
        lambda x, y: (x[:, 0] * stop(x[:, 1])).mean(),
    ),
    "stopped in PyTorch": (
        "not stopped where PyTorch's is",
        lambda x, y: ((x[:, 0] - x[:, 1].detach()) ** 2).mean(),
        lambda x, y: ((x[:, 0] - x[:, 1]) ** 2).mean(),
    ),
    "reversed": (
        "-1 times",
        lambda x, y: (x**2).mean(),
        lambda x, y: 2 * stop((x**2).mean()) - (x**2).mean(),
    ),
    "the loss itself": (
        "the loss is summed",
        F.cross_entropy,
        lambda x, y: entropy(x, y).sum(),
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_gradient_that_departs_has_its_cause(name):
    text, theirs, ours = GRADIENTS[name]
    pair = pair_of(Loss(theirs, ours), CLASSES)
    diagnosed = diagnosis.gradient_cause(Case(pair, "float64"), *arguments(pair))
    assert diagnosed is not None
    assert diagnosed.text.startswith("the gradient of the loss by the outputs departs")
    assert text in (diagnosed.cause or ""), diagnosed.text


def test_gradients_by_the_outputs_have_pytorchs_paths_and_layout():
    ours, theirs = (
        side(*arguments(pair_of(*RIGHT["maps"][:2], **MAP)))
        for side in rung.output_gradients(Case(pair_of(*RIGHT["maps"][:2], **MAP), "float32"))
    )
    assert {path: g.shape for path, g in ours.items()} == {"": (N, V, 3, 2)}
    assert relative_error(ours[""], theirs[""]) < 1e-5
    pair = pair_of(*RIGHT["a dataclass and a dict"][:2], **DATA)
    ours, _ = rung.output_gradients(Case(pair, "float32"))
    assert set(ours(*arguments(pair))) == {"logits", "hidden.0"}


def test_what_nobody_does_has_no_cause():
    pair = pair_of(Loss(F.cross_entropy, lambda x, y: jnp.sin(entropy(x, y) ** 3).sum()), CLASSES)
    diagnosed = found(pair)
    assert diagnosed.module == "the loss"
    assert diagnosed.cause is None


def test_what_agrees_with_the_models_own_outputs_by_chance_is_no_cause():
    pair = pair_of(Loss(F.cross_entropy, lambda x, y: entropy(x, y).mean()), CLASSES)
    outputs = rung.scaled(Case(pair, "float64"), *arguments(pair))[0][1]
    twice = float(F.cross_entropy(outputs, torch.from_numpy(CLASSES)) * 2)
    size = float(outputs.square().sum())
    ours = lambda x, y: twice * jnp.square(x).sum() / size  # noqa: E731
    diagnosed = found(pair_of(Loss(F.cross_entropy, ours), CLASSES))
    assert diagnosed.error == pytest.approx(1.0)
    assert diagnosed.cause is None


def test_a_loss_of_nothing_is_told():
    diagnosed = found(pair_of(Loss(F.cross_entropy, lambda x, y: x.sum() * 0 + 3), CLASSES))
    assert diagnosed.cause == "JAX's loss does not depend on the outputs"
