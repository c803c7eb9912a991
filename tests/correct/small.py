"""Small nets, each with one thing of its own: dropout, two inputs, frozen parameters, ..."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

import parity
from correct import common
from correct.common import integers, linear, nnx_state, normal


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.fc1, self.fc2 = nn.Dropout(0.1), nn.Linear(12, 24), nn.Linear(24, 5)
        self.late = nn.Dropout(0.3)

    def forward(self, x):
        return self.fc2(self.late(self.fc1(self.drop(x)).relu()))


class FlaxDropped(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic):
        x = linen.Dropout(0.1, name="drop")(x, deterministic)
        x = linen.relu(linen.Dense(24, name="fc1")(x))
        return linen.Dense(5, name="fc2")(linen.Dropout(0.3, name="late")(x, deterministic))


def dropout(seed: int) -> parity.Pair:
    """Linen's Dropout at 0.1 and 0.3; the mode is told by `deterministic`."""

    def apply(variables, x, deterministic):
        rngs = {"dropout": jax.random.key(seed)}
        return FlaxDropped().apply(variables, x, deterministic, rngs=rngs)

    return parity.Pair(
        "dropout",
        Dropped,
        apply,
        common.by_names,
        example_inputs=normal(seed, 8, 12),
        labels=integers(seed, 5, 8),
    )


class NnxDropped(nnx.Module):
    def __init__(self, rngs):
        self.drop, self.late = nnx.Dropout(0.1, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(12, 24, rngs=rngs), nnx.Linear(24, 5, rngs=rngs)

    def __call__(self, x, train):
        x = nnx.relu(self.fc1(self.drop(x, deterministic=not train)))
        return self.fc2(self.late(x, deterministic=not train))


def nnx_dropout(seed: int) -> parity.Pair:
    """The same in NNX, whose Rngs are no part of the variables."""
    graph, like, rest = nnx.split(NnxDropped(nnx.Rngs(seed)), nnx.Param, ...)
    return parity.Pair(
        "NNX dropout",
        Dropped,
        lambda state, x, train: nnx.merge(graph, state, rest, copy=True)(x, train),
        lambda state: nnx_state(like, state),
        example_inputs=normal(seed, 8, 12),
        labels=integers(seed, 5, 8),
        optimizer=common.adamw(),
    )


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, a, b):
        return self.out((torch.tanh(self.fc(a)) - torch.tanh(self.fc(b))).square())


def two_inputs(seed: int) -> parity.Pair:
    """A tuple of inputs, and one layer that is called twice."""

    def apply(p, a, b):
        a, b = (jnp.tanh(parity.tap("fc", linear(p, "fc", x))) for x in (a, b))
        return parity.tap("out", linear(p, "out", jnp.square(a - b)))

    return parity.Pair(
        "two inputs",
        Siamese,
        apply,
        common.as_they_are,
        example_inputs=(normal(seed, 8, 6), normal(seed + 50, 8, 6)),
        labels=integers(seed, 3, 8),
    )


class Frozen(nn.Module):
    """A table of positions and a first layer that are not trained."""

    def __init__(self):
        super().__init__()
        self.pos = nn.Parameter(torch.randn(7, 6), requires_grad=False)
        self.fc1, self.fc2 = nn.Linear(6, 8).requires_grad_(False), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(torch.sigmoid(self.fc1(x + self.pos)).mean(1))


def frozen(seed: int) -> parity.Pair:
    """Parameters with requires_grad=False, under AdamW with its decay."""

    def apply(p, x):
        y = jax.nn.sigmoid(linear(p, "fc1", x + p["pos"]))
        return linear(p, "fc2", y.mean(1))

    return parity.Pair(
        "frozen parameters",
        Frozen,
        apply,
        common.as_they_are,
        example_inputs=normal(seed, 6, 7, 6),
        labels=integers(seed, 3, 6),
        optimizer=common.adamw(),
    )


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(9, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


def regression(seed: int) -> parity.Pair:
    """One output, its labels floating-point numbers."""

    class FlaxRegression(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1, name="fc2")(linen.tanh(linen.Dense(16, name="fc1")(x)))

    x = normal(seed, 16, 9)
    return parity.Pair(
        "regression",
        Regression,
        FlaxRegression().apply,
        common.by_names,
        example_inputs=x,
        labels=x[:, :1] * x[:, 1:2],
        loss=common.squared_error(),
        optimizer=common.sgd_momentum(),
    )


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.fc = nn.Embedding(30, 12), nn.Linear(12, 4)

    def forward(self, ids):
        return self.fc(self.words(ids).mean(1))


def embeddings(seed: int) -> parity.Pair:
    """Integers, some of them several times in an example; initial weights of both frameworks."""

    def init(number):
        words, weight, bias = jax.random.split(jax.random.key(number), 3)
        bound = 12**-0.5
        return {
            "words.weight": jax.random.normal(words, (30, 12)),
            "fc.weight": jax.random.uniform(weight, (4, 12), minval=-bound, maxval=bound),
            "fc.bias": jax.random.uniform(bias, (4,), minval=-bound, maxval=bound),
        }

    def apply(p, ids):
        return linear(p, "fc", jnp.take(p["words.weight"], ids, axis=0).mean(1))

    return parity.Pair(
        "embeddings",
        Bag,
        apply,
        common.as_they_are,
        example_inputs=integers(seed + 1, 30, 8, 9),
        labels=integers(seed, 4, 8),
        init=init,
    )
