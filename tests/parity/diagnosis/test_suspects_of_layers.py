"""Norms, attention, recurrence, embedding, activations: one suspect gives a faulty port's value."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from faults import Fault, array, one_suspect, same, softmax
from legal_calls import IDS, M, S, X, draw, module
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from parity.diagnosis.suspects import Call, Intercept, suspects


def standard(x, axes, eps=1e-5, ddof=0, centred=True, outside=False):
    x = array(x)
    mean = x.mean(axes, keepdims=True) if centred else 0
    var = x.var(axes, ddof=ddof, keepdims=True) if centred else (x**2).mean(axes, keepdims=True)
    return (x - mean) / (np.sqrt(var) + eps if outside else np.sqrt(var + eps))


def norm_faults() -> Iterator[tuple[Any, ...]]:
    layer, group = lambda: F.layer_norm(S, (8,)), lambda: F.group_norm(X, 2)
    yield layer, lambda: standard(S, -1, 1e-6), "eps is 1e-06 and not 1e-05"
    yield layer, lambda: standard(S, -1, ddof=1), "unbiased"
    yield layer, lambda: standard(S, -1, centred=False), "RMS"
    yield layer, lambda: standard(S, -1, outside=True), "added to the deviation"
    yield layer, lambda: standard(S, 1), "over axis 1"
    yield layer, lambda: standard(S, (1, 2)), "all axes but the batch's"
    yield layer, lambda: standard(S, 0), "over the batch's axis"
    yield (
        lambda: F.rms_norm(S, (8,), eps=1e-6),
        lambda: standard(S, -1, 1e-6, centred=False, outside=True),
        "added to the root",
    )
    yield lambda: F.rms_norm(S, (8,)), lambda: standard(S, -1, 1e-6, centred=False), "eps is 1e-06"
    grouped = array(X).reshape(2, 2, 2, 8, 6)
    yield (
        group,
        lambda: standard(grouped, (2, 3, 4), outside=True).reshape(X.shape),
        "added to the deviation",
    )
    strided = array(X).reshape(2, 2, 2, 8, 6)  # [n, in a group, groups, h, w]
    eight = draw(2, 8, 3, 3)
    yield (
        lambda: F.group_norm(eight, 2),
        lambda: standard(array(eight).reshape(2, 4, 2, 9), (1, 3)).reshape(eight.shape),
        "the channels of a group are strided",
    )
    yield group, lambda: standard(strided, 2).reshape(X.shape), "each place"
    yield group, lambda: standard(X, (1, 2, 3)), "the number of groups is 1 and not 2"
    yield group, lambda: standard(X, (2, 3)), "the number of groups is 4 and not 2"
    instance = lambda: F.instance_norm(X)  # noqa: E731
    yield instance, lambda: standard(X, (2, 3), ddof=1), "unbiased"
    yield instance, lambda: standard(X, (1, 2, 3)), "one mean and variance"
    yield instance, lambda: standard(X, (0, 2, 3)), "batch normalisation"
    unit = lambda: F.normalize(M, dim=1)  # noqa: E731
    length = np.linalg.norm(array(M), axis=1, keepdims=True)
    yield unit, lambda: array(M) / np.sqrt(length**2 + 1e-6), "1e-06 is added to the square"
    yield unit, lambda: array(M) / (length + 1e-6), "1e-06 is added to the norm"
    yield unit, lambda: array(M) / np.linalg.norm(array(M), axis=0), "over axis 0"
    yield unit, lambda: array(M) / abs(array(M)).sum(1, keepdims=True), "L1"

    def local(alpha):
        squares = np.pad(array(X) ** 2, [(0, 0), (1, 1), (0, 0), (0, 0)])
        total = squares[:, :4] + squares[:, 1:5] + squares[:, 2:]
        return array(X) / (1 + alpha * total) ** 0.75

    yield lambda: F.local_response_norm(X, 3), lambda: local(1e-4), "alpha is not divided"


def batch_norm_faults() -> Iterator[tuple[Any, ...]]:
    three = draw(4, 3, 5, 5)

    def mean_of_halves():
        x = array(three)
        var = (x[:2].var((0, 2, 3)) + x[2:].var((0, 2, 3))) / 2
        centred = x - x.mean((0, 2, 3), keepdims=True)
        return centred / np.sqrt(var + 1e-5).reshape(1, 3, 1, 1)

    made = module(nn.BatchNorm2d(3, affine=False), three)
    halves = lambda: np.concatenate(  # noqa: E731
        [standard(half, (0, 2, 3)) for half in three.chunk(2)]
    )
    yield made, halves, "each half of the batch is normalised by itself", "batch_norm"
    yield made, mean_of_halves, "the mean of the halves' variances", "batch_norm"
    yield made, lambda: standard(three, (0, 2, 3), ddof=1), "unbiased", "batch_norm"
    yield made, lambda: standard(three, 0), "each place has its own", "batch_norm"
    untracked = module(nn.BatchNorm2d(3, affine=False, track_running_stats=False), three)
    yield untracked, lambda: standard(three, (0, 2, 3), 1e-3), "eps is 0.001", "batch_norm"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weights_of(layer):
    return [array(t) for t in layer._flat_weights]


def lstm(weights, x, order="ifgo", forget=0.0, squash=np.tanh):
    w, u, b, c = weights
    h = s = np.zeros((len(x), u.shape[1]))
    found = []
    for t in range(x.shape[1]):
        parts = np.split(x[:, t] @ w.T + b + h @ u.T + c, 4, -1)
        i, f, g, o = (parts[order.index(gate)] for gate in "ifgo")
        s = sigmoid(f + forget) * s + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * squash(s)
        found.append(h)
    return np.stack(found, 1)


def gru(weights, x, order="rzn", reset="product", swapped=False):
    w, u, b, c = weights
    size = u.shape[1]
    h = np.zeros((len(x), size))
    at = {gate: slice(order.index(gate) * size, (order.index(gate) + 1) * size) for gate in "rzn"}
    found = []
    for t in range(x.shape[1]):
        ins, outs = x[:, t] @ w.T + b, h @ u.T + c
        r, z = (sigmoid(ins[:, at[g]] + outs[:, at[g]]) for g in "rz")
        n = at["n"]
        inner = {
            "product": r * outs[:, n],
            "state": (r * h) @ u[n].T + c[n],
            "bare": r * (h @ u[n].T) + c[n],
        }[reset]
        new = np.tanh(ins[:, n] + inner)
        h = z * new + (1 - z) * h if swapped else (1 - z) * new + z * h
        found.append(h)
    return np.stack(found, 1)


def recurrent_faults() -> Iterator[tuple[Any, ...]]:
    for kind, made in (("lstm", nn.LSTM), ("gru", nn.GRU)):
        layer = made(8, 3, batch_first=True)
        call = module(layer, S)
        numpy = {"lstm": lstm, "gru": gru}[kind]
        gates = {"lstm": "ifgo", "gru": "rzn"}[kind]
        run = lambda numpy=numpy, layer=layer, **how: numpy(  # noqa: E731
            weights_of(layer), array(S), **how
        )
        for order in itertools.islice(itertools.permutations(gates), 1, 6):
            port = lambda run=run, order=order: run(order="".join(order))  # noqa: E731
            yield call, port, f"in the order {', '.join(order)} and", kind
        w = lambda i, layer=layer: weights_of(layer)[i]  # noqa: E731
        for part, kept in (("state's bias is missing", (1, 0)), ("biases are missing", (0, 0))):
            port = lambda w=w, numpy=numpy, k=kept: numpy(  # noqa: E731
                [w(0), w(1), w(2) * k[0], w(3) * k[1]], array(S)
            )
            yield call, port, part, kind
        if kind == "lstm":
            yield call, lambda run=run: run(forget=1.0), "1 is added to the forget gate", kind
            yield call, lambda run=run: run(squash=lambda s: s), "goes out without tanh", kind
        else:
            yield call, lambda run=run: run(reset="state"), "to the state before the product", kind
            yield call, lambda run=run: run(reset="bare"), "outside the reset gate", kind
            yield call, lambda run=run: run(swapped=True), "the new state's share", kind
    both = nn.LSTM(8, 3, batch_first=True, bidirectional=True)
    call, x = module(both, S), array(S)
    ways = lambda: (weights_of(both)[:4], weights_of(both)[4:])  # noqa: E731
    join = lambda *parts: np.concatenate(parts, -1)  # noqa: E731
    yield (
        call,
        lambda: join(lstm(ways()[0], x), lstm(ways()[1], x[:, ::-1])),
        "not turned back",
        "lstm",
    )
    yield call, lambda: join(lstm(ways()[0], x), lstm(ways()[1], x)), "as the first does", "lstm"
    yield (
        call,
        lambda: join(lstm(ways()[1], x[:, ::-1])[:, ::-1], lstm(ways()[0], x)),
        "joined in the other order",
        "lstm",
    )
    one = nn.GRU(8, 3, batch_first=True)
    along = lambda: gru(weights_of(one), x.swapaxes(0, 1)).swapaxes(0, 1)  # noqa: E731
    yield module(one, S), along, "along the batch and not along time", "gru"
    plain = nn.RNN(8, 3, batch_first=True)

    def relu():
        w, u, b, c = weights_of(plain)
        h, found = np.zeros((2, 3)), []
        for t in range(5):
            h = np.maximum(x[:, t] @ w.T + b + h @ u.T + c, 0)
            found.append(h)
        return np.stack(found, 1)

    yield module(plain, S), relu, "relu in the place of tanh", "rnn_tanh"


def embedding_faults() -> Iterator[tuple[Any, ...]]:
    table, ids = draw(4, 8), array(IDS)
    call = lambda: F.embedding(IDS, table)  # noqa: E731
    yield call, lambda: array(table)[ids] * 8**0.5, "scaled by the root"
    yield call, lambda: array(table)[np.minimum(ids + 1, 3)], "one more"
    yield call, lambda: array(table)[ids] * (ids != 0)[..., None], "row 0 is zero"
    bags = lambda: F.embedding_bag(IDS, table)  # noqa: E731
    yield bags, lambda: array(table)[ids].sum(1), "the sum in the place of the mean"


def activation_faults() -> Iterator[tuple[Any, ...]]:
    x = 3 * draw(40)
    numbers = lambda: jnp.asarray(array(x))  # noqa: E731
    yield from (
        (lambda: F.gelu(x), lambda: jax.nn.gelu(numbers(), True), "gelu by tanh"),
        (
            lambda: F.gelu(x, approximate="tanh"),
            lambda: jax.nn.gelu(numbers(), False),
            "gelu without the approximation",
        ),
        (lambda: F.gelu(x), lambda: numbers() * sigmoid(1.702 * array(x)), "quick gelu"),
        (lambda: F.silu(x), lambda: jax.nn.hard_silu(numbers()), "hardswish in the place"),
        (lambda: F.relu6(x), lambda: jax.nn.relu(numbers()), "relu in the place"),
        (
            lambda: torch.sigmoid(x),
            lambda: np.clip(0.2 * array(x) + 0.5, 0, 1),
            "0.2 x + 0.5 cut",
        ),
        (lambda: F.leaky_relu(x, 0.2), lambda: jax.nn.leaky_relu(numbers()), "0.01 and not 0.2"),
        (lambda: F.elu(x, 0.5), lambda: jax.nn.elu(numbers()), "alpha is 1 and not 0.5"),
        (lambda: F.celu(x, 0.5), lambda: jax.nn.elu(numbers(), 0.5), "not divided by alpha"),
        (lambda: F.mish(x), lambda: jax.nn.silu(numbers()), "silu in the place"),
        (lambda: F.softplus(x, 2.0), lambda: jax.nn.softplus(numbers()), "beta is 1 and not 2"),
        (lambda: F.hardtanh(x, 0, 6), lambda: jax.nn.relu(numbers()), "relu in the place"),
        (lambda: F.logsigmoid(x), lambda: jax.nn.sigmoid(numbers()), "sigmoid in the place"),
    )
    value, gate = (array(t) for t in X.chunk(2, 1))
    glu = lambda: F.glu(X, 1)  # noqa: E731
    yield glu, lambda: gate * sigmoid(value), "the halves are exchanged"
    yield glu, lambda: value * np.tanh(gate), "the gate is tanh"
    yield glu, lambda: array(X)[:, ::2] * sigmoid(array(X)[:, 1::2]), "every other channel"
    slopes = draw(4)
    prelu = lambda: F.prelu(X, slopes)  # noqa: E731
    yield prelu, lambda: np.where(X > 0, X, array(X) * array(slopes)[0]), "the first one's slope"
    yield prelu, lambda: np.where(X > 0, X, array(X) * 0.25), "0.25 and not learnt"
    yield lambda: torch.softmax(S, 2), lambda: softmax(array(S), 1), "over axis 1"
    yield lambda: F.log_softmax(S, 2), lambda: softmax(array(S)), "softmax in the place of log"


GROUPS = (norm_faults, batch_norm_faults, recurrent_faults,
          embedding_faults, activation_faults)  # fmt: skip
FAULTS = [Fault(*fault) for group in GROUPS for fault in group()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.part)
def test_one_suspect_gives_what_a_faulty_port_gives(fault):
    one_suspect(fault)


@torch.no_grad()
def test_lengths_that_are_ignored():
    layer = nn.GRU(8, 3, batch_first=True)
    packed = pack_padded_sequence(S, [5, 3], batch_first=True)
    calls: list[Call] = []
    interceptor = Intercept()
    interceptor.on_call = lambda _, call: calls.append(call)
    with interceptor:
        module(layer, packed)()
    (call,) = (call for call in calls if call.name == "gru")
    (thunk,) = (thunk for text, thunk in suspects(call) if "the lengths are ignored" in text)
    x = array(S).copy()
    x[1, 3:] = 0
    assert not same(array(call.plain()[1]), gru(weights_of(layer), x)[:, -1][None])
    assert same(array(thunk()[1]), gru(weights_of(layer), x)[:, -1][None])
