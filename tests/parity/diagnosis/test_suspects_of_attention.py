"""Attention, alone and in `nn.MultiheadAttention`: one suspect gives what a faulty port gives."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from faults import Fault, array, one_suspect, softmax
from legal_calls import draw
from torch import nn
from torch.nn import functional as F

Q, K, V = draw(2, 3, 5, 4), draw(2, 3, 5, 4, seed=1), draw(2, 3, 5, 4, seed=2)
MASK = torch.ones(5, 5, dtype=torch.bool).tril() & (draw(5, 5, seed=4) > -1) | torch.eye(5).bool()


def attend(q, k, v, scale=0.5, mask=None, after=None, axis=-1):
    q, k, v = map(array, (q, k, v))
    scores = q @ k.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = softmax(scores, axis)
    return (weights if after is None else after(scores, weights)) @ v


ROW = torch.tensor([[True], [False]])
"""Of two examples the first."""


def hidden(scores, mask):
    """The weights where what is seen is hidden, by a large number as ports do."""
    return softmax(np.where(mask, -1e30, scores))


def attention_faults() -> Iterator[tuple[Any, ...]]:
    call, mask = lambda: F.scaled_dot_product_attention(Q, K, V), array(MASK)
    masked = lambda: F.scaled_dot_product_attention(Q, K, V, MASK)  # noqa: E731
    yield call, lambda: attend(Q, K, V, 1), "not scaled"
    yield call, lambda: attend(Q, K, V, 1 / 4), "number of channels, not its root"
    yield call, lambda: attend(Q, K, V, 12**-0.5), "of the model's width"
    yield call, lambda: attend(Q, K, V, mask=np.tri(5, dtype=bool)), "is causal"
    yield call, lambda: attend(Q, K, V, axis=-2), "over the queries"
    yield call, lambda: attend(K, Q, V), "query and key are exchanged"
    yield call, lambda: attend(Q, V, K), "key and value are exchanged"
    yield (
        call,
        lambda: attend(Q.swapaxes(1, 2), K.swapaxes(1, 2), V.swapaxes(1, 2)).swapaxes(1, 2),
        "over the heads",
    )
    other = lambda t: array(t).swapaxes(1, 2).reshape(2, 5, 4, 3).swapaxes(1, 2)  # noqa: E731
    yield (
        call,
        lambda: (
            attend(other(Q), other(K), other(V), 3**-0.5)
            .swapaxes(1, 2)
            .reshape(2, 5, 3, 4)
            .swapaxes(1, 2)
        ),
        "the number of heads is 4 and not 3",
    )
    yield masked, lambda: attend(Q, K, V), "the mask is ignored"
    yield masked, lambda: attend(Q, K, V, after=lambda s, w: softmax(s + mask)), "added"
    yield masked, lambda: attend(Q, K, V, after=lambda s, w: hidden(s, mask)), "is inverted"
    yield masked, lambda: attend(Q, K, V, after=lambda s, w: w * mask), "after the softmax"
    yield masked, lambda: attend(Q, K, V, after=lambda s, w: softmax(s * mask)), "before the soft"
    yield masked, lambda: attend(Q, K, V, mask=mask.T), "the mask is transposed"
    numbers = torch.zeros(5, 5, dtype=torch.float64).masked_fill(~MASK, -1e9)
    finite = lambda: F.scaled_dot_product_attention(Q, K, V, numbers)  # noqa: E731
    yield finite, lambda: attend(Q, K, V, after=lambda s, w: w * mask), "after the softmax"
    short = lambda: F.scaled_dot_product_attention(Q[:, :, :3], K, V, is_causal=True)  # noqa: E731
    yield short, lambda: attend(Q[:, :, :3], K, V, mask=np.tri(3, 5, 2, bool)), "the last key"
    yield short, lambda: attend(Q[:, :, :3], K, V, mask=np.tri(3, 5, 1, bool)), "shifted by one"
    yield short, lambda: attend(Q[:, :, :3], K, V), "not causal"
    more = draw(2, 6, 5, 4)
    yield (
        lambda: F.scaled_dot_product_attention(more, K, V, enable_gqa=True),
        lambda: attend(more, np.tile(K, (1, 2, 1, 1)), np.tile(V, (1, 2, 1, 1))),
        "tiled and not repeated",
    )


def heads_faults() -> Iterator[tuple[Any, ...]]:
    """`nn.MultiheadAttention` of width 6 and 2 heads, batch first."""
    x = draw(2, 5, 6)
    made = nn.MultiheadAttention(6, 2, batch_first=True).double()
    w, b = draw(18, 6), draw(18)
    with torch.no_grad():
        made.in_proj_weight.copy_(w)
        made.in_proj_bias.copy_(b)
        made.out_proj.bias.copy_(draw(6))
    out, out_bias = array(made.out_proj.weight), array(made.out_proj.bias)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[:, 3:] = True

    def port(split="hd", merged="hd", order=(0, 1, 2), mask=None, scale=3**-0.5, after=None):
        parts = (array(x) @ array(w).T + array(b)).reshape(2, 5, 3, 6)
        q, k, v = (parts[:, :, i] for i in order)

        def heads(t):
            if split == "hd":
                return t.reshape(2, 5, 2, 3).transpose(0, 2, 1, 3)
            return t.reshape(2, 5, 3, 2).transpose(0, 3, 1, 2)

        found = attend(heads(q), heads(k), heads(v), scale, mask, after)  # [n, heads, positions, d]
        axes = (0, 2, 1, 3) if merged == "hd" else (0, 2, 3, 1)
        return found.transpose(axes).reshape(2, 5, 6) @ out.T + out_bias

    def port_of(heads):
        parts = (array(x) @ array(w).T + array(b)).reshape(2, 5, 3, heads, 6 // heads)
        q, k, v = (parts[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        found = attend(q, k, v, (6 // heads) ** -0.5)
        return found.transpose(0, 2, 1, 3).reshape(2, 5, 6) @ out.T + out_bias

    def port_together():
        """[heads, 3, d] in the place of [3, heads, d]."""
        parts = (array(x) @ array(w).T + array(b)).reshape(2, 5, 2, 3, 3)
        q, k, v = (parts[:, :, :, i].transpose(0, 2, 1, 3) for i in range(3))
        return attend(q, k, v, 3**-0.5).transpose(0, 2, 1, 3).reshape(2, 5, 6) @ out.T + out_bias

    name = "multi_head_attention_forward"
    turned = lambda port: lambda: port().transpose(1, 0, 2)  # noqa: E731
    call = lambda: made(x, x, x)  # noqa: E731
    padded = lambda: made(x, x, x, key_padding_mask=padding)  # noqa: E731
    seen, ragged = array(padding)[:, None, None], array(padding & ROW)[:, None, None]
    some = lambda: made(x, x, x, key_padding_mask=padding & ROW)  # noqa: E731
    for made_call, value, part in (
        (call, lambda: port("dh", "dh"), "[d, h] in the place of [h, d]"),
        (call, lambda: port("dh", "hd"), "in q, k and v and not in the output"),
        (call, lambda: port("hd", "dh"), "merged [d, h]"),
        (call, lambda: port(order=(1, 0, 2)), "in the order k, q, v"),
        (call, lambda: port(order=(2, 0, 1)), "in the order v, q, k"),
        (call, port_together, "q, k and v together"),
        (call, lambda: port(scale=6**-0.5), "model's width"),
        (call, lambda: port(scale=1), "not scaled"),
        (call, lambda: port_of(3), "the number of heads is 3 and not 2"),
        (padded, lambda: port(mask=seen), "padding mask is inverted"),
        (some, lambda: port(after=lambda s, w: hidden(s, ~ragged)), "padding mask is inverted"),
        (padded, port, "padding mask is ignored"),
    ):
        yield made_call, turned(value), part, name


FAULTS = [Fault(*fault) for group in (attention_faults, heads_faults) for fault in group()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.part)
def test_one_suspect_gives_what_a_faulty_port_gives(fault):
    one_suspect(fault)
