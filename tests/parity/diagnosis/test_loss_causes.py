"""A user's own loss that departs: the cause is named, and none where the two agree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from parity.diagnosis import loss as diagnosis
from parity.pairs.case import Case
from parity.pairs.pair import Batch, Loss, Pair, arrays_of

N, C, T = 6, 5, 7
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype(np.float32)
CLASSES = RNG.integers(0, C, N)
VALUES = RNG.normal(size=(N, C)).astype(np.float32)
BITS = (RNG.random((N, C)) < 0.4).astype(np.float32)
WEIGHT = np.array([1.0, 2.1, 0.5, 3.3, 1.4], np.float32)


class Net(nn.Module):
    """A linear map, and what makes outputs of it."""

    def __init__(self, made, width: int = C):
        super().__init__()
        self.linear, self.made = nn.Linear(4, width), made

    def forward(self, x):
        return self.made(self.linear(x))


def pair_of(theirs, ours, labels, torch_made=lambda x: x, jax_made=None, width=C, **options):
    torch.manual_seed(0)
    jax_made = jax_made or torch_made
    return Pair(
        "loss",
        Net(torch_made, width),
        lambda v, x: jax_made(x @ v["w"].T + v["b"]),
        lambda s: {"w": jnp.asarray(s["linear.weight"]), "b": jnp.asarray(s["linear.bias"])},
        example_inputs=X,
        labels=labels,
        loss=Loss(theirs, ours),
        **options,
    )


def found(pair: Pair) -> Any:
    state = arrays_of(pair.make_torch())
    return diagnosis.find(Case(pair, "float64"), state, Batch(X, np.asarray(pair.labels)))


def entropy(x, y):
    return optax.softmax_cross_entropy_with_integer_labels(x, y)


def smoothed(x, y, eps):
    hot = jax.nn.one_hot(y, x.shape[-1], dtype=x.dtype) * (1 - eps) + eps / x.shape[-1]
    return -(hot * jax.nn.log_softmax(x)).sum(-1)


def weighted(x, y):
    return jnp.asarray(WEIGHT, x.dtype)[y] * entropy(x, y)


def smoothed_torch(x, y):
    return F.cross_entropy(x, y, label_smoothing=0.1)


def weighted_torch(x, y):
    return F.cross_entropy(x, y, weight=torch.tensor(WEIGHT))


def focal(gamma, alpha):
    def loss(x, y):
        p = jax.nn.sigmoid(x)
        ce = optax.sigmoid_binary_cross_entropy(x, y)
        p_t = p * y + (1 - p) * (1 - y)
        return ((alpha * y + (1 - alpha) * (1 - y)) * ce * (1 - p_t) ** gamma).mean()

    return loss


def focal_torch(x, y):
    p, ce = torch.sigmoid(x), F.binary_cross_entropy_with_logits(x, y, reduction="none")
    p_t = p * y + (1 - p) * (1 - y)
    return ((0.25 * y + 0.75 * (1 - y)) * ce * (1 - p_t) ** 2).mean()


def bce(p, y):
    return -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean()


def huber(delta, factor=1.0):
    return lambda x, y: factor * optax.huber_loss(x, y, delta=delta).mean()


def kl_torch(x, y):
    return F.kl_div(F.log_softmax(x, 1), F.softmax(y, 1), reduction="batchmean")


def kl(x, y, over=lambda x: x.sum() / len(x)):
    p, q = jax.nn.softmax(y), jax.nn.log_softmax(x)
    return over(p * (jnp.log(p) - q))


def kl_exchanged(x, y):
    p, q = jax.nn.log_softmax(y), jax.nn.log_softmax(x)
    return (jnp.exp(q) * (q - p)).sum() / len(x)


def triplet(x, y, margin=1.0, eps=1e-6, power=1.0):
    a, b, c = x, x[::-1], y
    distance = lambda u, v: jnp.sqrt(jnp.square(u - v + eps).sum(-1)) ** power  # noqa: E731
    return jnp.maximum(distance(a, b) - distance(a, c) + margin, 0).mean()


def triplet_torch(x, y):
    return F.triplet_margin_loss(x, x.flip(0), y)


def contrastive_torch(x, y):
    z, w = F.normalize(x, dim=1), F.normalize(y, dim=1)
    return F.cross_entropy(z @ w.T / 0.1, torch.arange(len(x)))


def contrastive(x, y, temperature=0.1, normal=True):
    z, w = (v / jnp.linalg.norm(v, axis=1, keepdims=True) if normal else v for v in (x, y))
    return entropy(z @ w.T / temperature, jnp.arange(len(x))).mean()


CLASS_CASES = [
    ("summed", F.cross_entropy, lambda x, y: entropy(x, y).sum()),
    ("averaged over the classes too", F.cross_entropy, lambda x, y: entropy(x, y).mean() / C),
    ("to the base 2", F.cross_entropy, lambda x, y: entropy(x, y).mean() / jnp.log(2.0)),
    ("the sign is wrong", F.cross_entropy, lambda x, y: -entropy(x, y).mean()),
    ("0.37 times", F.cross_entropy, lambda x, y: 0.37 * entropy(x, y).mean()),
    ("softmax is applied twice", F.cross_entropy,
     lambda x, y: entropy(jax.nn.softmax(x), y).mean()),
    ("softmax is missing", F.cross_entropy,
     lambda x, y: -jnp.take_along_axis(x, y[:, None], 1).mean()),
    ("smoothed by 0.15", F.cross_entropy, lambda x, y: smoothed(x, y, 0.15).mean()),
    ("smoothing is ignored", smoothed_torch, lambda x, y: entropy(x, y).mean()),
    ("smoothed by 0.2 and not 0.1", smoothed_torch, lambda x, y: smoothed(x, y, 0.2).mean()),
    ("class weights are ignored", weighted_torch, lambda x, y: entropy(x, y).mean()),
    ("not by the sum of their class weights", weighted_torch, lambda x, y: weighted(x, y).mean()),
    ("1e-07 is added to the probabilities", F.cross_entropy,
     lambda x, y: -jnp.log(jax.nn.softmax(x)[jnp.arange(N), y] + 1e-7).mean()),
    ("mean square error of one-hot", F.cross_entropy,
     lambda x, y: jnp.square(x - jax.nn.one_hot(y, C, dtype=x.dtype)).mean()),
    ("temperature of 2", F.cross_entropy, lambda x, y: entropy(x / 2, y).mean()),
    ("2 is 0.7", lambda x, y: F.cross_entropy(x / 2, y), lambda x, y: entropy(x / 0.7, y).mean()),
    ("labels belong to other rows", F.cross_entropy,
     lambda x, y: entropy(x, jnp.roll(y, 1)).mean()),
    ("shifted by one class", F.cross_entropy, lambda x, y: entropy(x, (y + 1) % C).mean()),
    ("computed in bfloat16", F.cross_entropy,
     lambda x, y: entropy(x.astype(jnp.bfloat16), y).mean().astype(x.dtype)),
    ("computed in float16", F.cross_entropy,
     lambda x, y: entropy(x.astype(jnp.float16), y).mean().astype(x.dtype)),
    ("computed in float32", F.cross_entropy,
     lambda x, y: entropy(x.astype(jnp.float32), y).mean().astype(x.dtype)),
    ("the term with the factor 0.4 is missing",
     lambda x, y: F.cross_entropy(x, y) + 0.4 * x.square().mean(),
     lambda x, y: entropy(x, y).mean()),
    ("the factor 0.4 is 0.5", lambda x, y: F.cross_entropy(x, y) + 0.4 * x.square().mean(),
     lambda x, y: entropy(x, y).mean() + 0.5 * jnp.square(x).mean()),
    ("the label smoothing is ignored", lambda x, y: smoothed_torch(x, y) + x.square().mean(),
     lambda x, y: entropy(x, y).mean() + jnp.square(x).mean()),
    ("shared by the other classes alone", smoothed_torch,
     lambda x, y: smoothed(x, y, 0.1 * C / (C - 1)).mean()),
    ("added to a whole label", smoothed_torch,
     lambda x, y: (entropy(x, y) - 0.1 * jax.nn.log_softmax(x).mean(1)).mean()),
    ("class weights are ignored", lambda x, y: F.cross_entropy(x, y, torch.tensor(WEIGHT).to(x),
                                                               label_smoothing=0.1),
     lambda x, y: entropy(x, y).mean()),
    ("the label smoothing is ignored, in all 2 places",
     lambda x, y: smoothed_torch(x, y) + smoothed_torch(2 * x, y),
     lambda x, y: entropy(x, y).mean() + entropy(2 * x, y).mean()),
    ("the label smoothing is ignored; and it is computed in float32", smoothed_torch,
     lambda x, y: entropy(x.astype(jnp.float32), y).mean().astype(x.dtype)),
    ("some of the loss is computed in float32",
     lambda x, y: F.cross_entropy(x, y) + x.square().mean(),
     lambda x, y: entropy(x.astype(jnp.float32), y).mean() + jnp.square(x).mean()),
    ("left for each example", F.cross_entropy, entropy),
]  # fmt: skip

VALUE_CASES = [
    ("the factor 0.5 is missing", lambda x, y: 0.5 * F.mse_loss(x, y),
     lambda x, y: jnp.square(x - y).mean()),
    ("a factor 0.5 in JAX alone", F.mse_loss, lambda x, y: jnp.square(x - y).mean() / 2),
    ("mean absolute error", F.mse_loss, lambda x, y: jnp.abs(x - y).mean()),
    ("abs in the place of square", lambda x, y: (x - y).square().mean(),
     lambda x, y: jnp.abs(x - y).mean()),
    ("square root is taken", F.mse_loss, lambda x, y: jnp.sqrt(jnp.square(x - y).mean())),
    ("summed over the 5 numbers of an output", F.mse_loss,
     lambda x, y: jnp.square(x - y).sum(1).mean()),
    ("delta is 0.5 and not 1", F.huber_loss, huber(0.5)),
    ("it is the Huber loss: beta times", lambda x, y: F.smooth_l1_loss(x, y, beta=0.5),
     huber(0.5)),
    ("beta is 1 and not 0.3", lambda x, y: F.smooth_l1_loss(x, y, beta=0.3), huber(1.0)),
    ("the other direction", kl_torch, kl_exchanged),
    ("divided by the 5 numbers of an output", kl_torch, lambda x, y: kl(x, y, jnp.mean)),
    ("target's entropy is missing", kl_torch,
     lambda x, y: -(jax.nn.softmax(y) * jax.nn.log_softmax(x)).sum() / N),
    ("margin is 0.5 and not 1", triplet_torch, lambda x, y: triplet(x, y, 0.5)),
    ("eps is 0 and not 1e-06", triplet_torch, lambda x, y: triplet(x, y, eps=0.0)),
    ("0.1 is 0.07", contrastive_torch, lambda x, y: contrastive(x, y, 0.07)),
    ("not normalised, in all 2", contrastive_torch, lambda x, y: contrastive(x, y, normal=False)),
    ("0.8 is 0.9, and 1.2 is 1.1",
     lambda x, y: -torch.min(x.exp() * y, x.exp().clamp(0.8, 1.2) * y).mean(),
     lambda x, y: -jnp.minimum(jnp.exp(x) * y, jnp.exp(x).clip(0.9, 1.1) * y).mean()),
    ("maximum in the place of minimum",
     lambda x, y: torch.min(x.exp() * y, x * y).mean(),
     lambda x, y: jnp.maximum(jnp.exp(x) * y, x * y).mean()),
    ("summand 1e-06 is 0.001", lambda x, y: torch.sqrt((x - y) ** 2 + 1e-6).mean(),
     lambda x, y: jnp.sqrt((x - y) ** 2 + 1e-3).mean()),
    ("biased: divided by n", lambda x, y: (x - y).var(), lambda x, y: (x - y).var()),
]  # fmt: skip

BIT_CASES = [
    ("the exponent is 1 and not 2", focal_torch, focal(1, 0.25)),
    ("the number 0.25 is 0.75", focal_torch, focal(2, 0.75)),
    ("the relu is squared", lambda x, y: F.relu(1 - x * y).mean(),
     lambda x, y: jnp.square(jnp.maximum(1 - x * y, 0)).mean()),
    ("labels are not made -1 and 1", lambda x, y: F.relu(1 - x * (2 * y - 1)).mean(),
     lambda x, y: jnp.maximum(1 - x * y, 0).mean()),
    ("the summand 1 is 1e-05 in JAX, in all 2 places",
     lambda x, y: (2 * (x.sigmoid() * y).sum() + 1) / (x.sigmoid().sum() + y.sum() + 1),
     lambda x, y: (2 * (jax.nn.sigmoid(x) * y).sum() + 1e-5)
     / (jax.nn.sigmoid(x).sum() + y.sum() + 1e-5)),
    ("pos_weight is ignored",
     lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(WEIGHT).to(x)),
     lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).mean()),
    ("sigmoid is applied twice", F.binary_cross_entropy_with_logits,
     lambda x, y: optax.sigmoid_binary_cross_entropy(jax.nn.sigmoid(x), y).mean()),
    ("summed over the 5 numbers of an output", F.binary_cross_entropy_with_logits,
     lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).sum(1).mean()),
    ("1e-07 is added to the probabilities",
     lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(3.0)),
     lambda x, y: -(3 * y * jnp.log(jax.nn.sigmoid(x) + 1e-7)
                    + (1 - y) * jnp.log(1 - jax.nn.sigmoid(x) + 1e-7)).mean()),
    ("it is averaged and not summed, in the 1st sum",
     lambda x, y: 0.5 * (x**2).sum(1).mean() + (x - y).abs().sum(),
     lambda x, y: 0.5 * (x**2).mean() + jnp.abs(x - y).sum()),
    ("1e-06 is added to the probabilities",
     lambda x, y: F.binary_cross_entropy(x.sigmoid(), y),
     lambda x, y: -(y * jnp.log(jax.nn.sigmoid(x) + 1e-6)
                    + (1 - y) * jnp.log(1 - jax.nn.sigmoid(x) + 1e-6)).mean()),
    ("term of the negative labels is missing", F.binary_cross_entropy_with_logits,
     lambda x, y: -(y * jax.nn.log_sigmoid(x)).mean()),
]  # fmt: skip

CASES = [
    pytest.param(*case, labels, id=f"{kind}: {case[0]}")
    for kind, cases, labels in (
        ("classes", CLASS_CASES, CLASSES),
        ("values", VALUE_CASES, VALUES),
        ("bits", BIT_CASES, BITS),
    )
    for case in cases
]


@pytest.mark.parametrize(("text", "theirs", "ours", "labels"), CASES)
def test_a_cause_is_named(text, theirs, ours, labels):
    diagnosed = found(pair_of(theirs, ours, labels))
    assert text in (diagnosed.cause or ""), diagnosed.text
