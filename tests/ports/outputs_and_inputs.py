"""How a net is called, told the mode, and what it returns."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from correct import common
from correct.common import as_they_are, batch_norm, by_names, integers, linear, normal
from torch import nn
from torch.nn import functional as F

import parity
from parity import tap

ENTROPY = common.token_loss().jax


class Heads(nn.Module):
    """Two heads; `packed` makes what is returned of their outputs."""

    def __init__(self, packed):
        super().__init__()
        self.fc, self.logits, self.hidden = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 4)
        self.packed = packed

    def forward(self, x):
        x = torch.tanh(self.fc(x))
        return self.packed(self.logits(x), self.hidden(x))


def heads(packed, chosen, off=1.0, **fields):
    """JAX's second output is `off` times too large; `chosen` has the logits of the outputs."""

    def apply(p, x):
        x = jnp.tanh(linear(p, "fc", x))
        return packed(linear(p, "logits", x), off * linear(p, "hidden", x))

    loss = parity.Loss(
        lambda o, y: F.cross_entropy(chosen(o), y), lambda o, y: ENTROPY(chosen(o), y)
    )
    return parity.Pair(
        "two heads",
        lambda: Heads(packed),
        apply,
        as_they_are,
        example_inputs=normal(0, 6, 6),
        labels=integers(0, 3, 6),
        loss=loss,
        **fields,
    )


def dict_outputs(off=1.0):
    """As transformers' and detection models return them."""
    return heads(lambda a, b: {"logits": a, "hidden": b}, lambda o: o["logits"], off)


def two_outputs(off=1.0):
    """A tuple of two, which (outputs, updated variables) is as well."""
    return heads(lambda a, b: (a, b), lambda o: o[0], off)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(x)


def attention_too(**fields):
    """JAX returns (logits, something else), PyTorch the logits alone."""
    return parity.Pair(
        "a second output in JAX",
        Classifier,
        lambda p, x: (linear(p, "fc", x), x.mean(1)),
        as_they_are,
        example_inputs=normal(0, 6, 6),
        labels=integers(0, 3, 6),
        **fields,
    )


def first_of_both():
    """The same with the logits chosen."""
    return attention_too(outputs=parity.Outputs(torch=lambda o: o, jax=lambda o: o[0]))


class Difference(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, a, b):
        return self.out((self.fc(a).relu() - self.fc(b).relu()).abs())


def two_inputs():
    """A siamese net; its labels are made up."""

    def apply(p, a, b):
        a, b = (jax.nn.relu(linear(p, "fc", x)) for x in (a, b))
        return linear(p, "out", jnp.abs(a - b))

    inputs = normal(0, 5, 6), normal(1, 5, 6)
    return parity.Pair("siamese", Difference, apply, as_they_are, example_inputs=inputs)


class FlaxClassifier(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, name="fc")(x)


def bound_apply():
    """Linen's own `apply`, which takes any keyword, of a net that is not told the mode."""
    x = normal(0, 6, 6)
    return parity.Pair("bound", Classifier, FlaxClassifier().apply, by_names, example_inputs=x)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.bn(self.fc1(x)))


def normed_apply(p, x, training=False):
    y, new = batch_norm(p, "bn", tap("fc1", linear(p, "fc1", x)), training)
    y = tap("fc2", linear(p, "fc2", tap("bn", y)))
    return (y, {**p, **new}) if training else y


def training_by_default():
    """The mode is called `training` and need not be told; updates are returned in training."""
    x = normal(0, 8, 6)
    return parity.Pair("training=False", Normed, normed_apply, as_they_are, example_inputs=x)


def training_required():
    """The same where it must be told."""

    def apply(p, x, training):
        return normed_apply(p, x, training)

    x = normal(0, 8, 6)
    return parity.Pair("training", Normed, apply, as_they_are, example_inputs=x)


class Column(nn.Module):
    def __init__(self, squeezed):
        super().__init__()
        self.fc, self.squeezed = nn.Linear(5, 1), squeezed

    def forward(self, x):
        return self.fc(x)[:, 0] if self.squeezed else self.fc(x)


def one_output(squeezed=False, **fields):
    def apply(p, x):
        return linear(p, "fc", x)[:, 0] if squeezed else linear(p, "fc", x)

    return parity.Pair(
        "one output",
        lambda: Column(squeezed),
        apply,
        as_they_are,
        example_inputs=normal(0, 8, 5),
        **fields,
    )


def column():
    """A regression: outputs and labels [n, 1]."""
    return one_output(labels=normal(0, 8, 5)[:, :1] / 2, loss=common.squared_error())


def squeezed():
    """Outputs and labels [n]."""
    return one_output(True, labels=normal(0, 8, 5)[:, 0] / 2, loss=common.squared_error())


def made_up_labels():
    """Without labels: the made-up classes are of one class."""
    return one_output()


class Dropped(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.fc1, self.drop, self.fc2 = nn.Linear(6, 8), nn.Dropout(rate), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.drop(self.fc1(x)).relu())


class FlaxDropped(linen.Module):
    rate: float
    after_relu: bool = False

    @linen.compact
    def __call__(self, x, train):
        x, drop = linen.Dense(8, name="fc1")(x), linen.Dropout(self.rate, name="drop")
        x = drop(linen.relu(x), not train) if self.after_relu else linen.relu(drop(x, not train))
        return linen.Dense(3, name="fc2")(x)


def dropped(rate, flax_rate, after_relu=False):
    net = FlaxDropped(flax_rate, after_relu)

    def apply(variables, x, train):
        return net.apply(variables, x, train, rngs={"dropout": jax.random.key(0)})

    x = normal(0, 8, 6)
    return parity.Pair("dropout", lambda: Dropped(rate), apply, by_names, example_inputs=x)


def dropout():
    """The same rate, with random numbers of each framework's own."""
    return dropped(0.1, 0.1)


def other_dropout():
    """Another rate in JAX."""
    return dropped(0.1, 0.3)


def inner_name():
    """A module of the same name elsewhere in the net, of which the outputs do not depend."""
    return dropped(0.0, 0.0, after_relu=True)
