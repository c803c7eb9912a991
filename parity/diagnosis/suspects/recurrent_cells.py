"""LSTM, GRU and the plain recurrence in their parts, each of which can be another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

Activation = Callable[[torch.Tensor], torch.Tensor]


def hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Keras's, of old: 0.2 x + 0.5, cut to 0 and 1."""
    return (0.2 * x + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Rule:
    """How a layer computes; PyTorch's way by default."""

    gate: Activation = torch.sigmoid
    candidate: Activation | None = None
    """The new values' activation; None for the layer's own."""
    output: Activation = torch.tanh
    reset: str = "product"
    """A GRU's reset gate applies to the "product" with its bias, to the "bare" product, or to the
    "state" before the product (Keras's reset_after=False)."""
    coupled: bool = False
    """An LSTM's forget gate is 1 - i."""
    reads: str = "turned"
    """The second direction reads from the end, and its output is turned back ("turned"); is not
    turned back ("unturned"); or it reads as the first does ("forward")."""
    exchanged: bool = False
    """The second direction's output comes first."""
    lengths: bool = True
    """Sequences end where they do, and are not run on over the padding."""


def lstm_step(rule: Rule, x: torch.Tensor, state: Any, weights: list[Any]) -> Any:
    """One step of `torch.nn.LSTM`: gates i, f, g, o; state (h, c); with or without projection."""
    h, c = state
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    i, f, g, o = (F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)).chunk(4, -1)
    i, f, o = rule.gate(i), rule.gate(f), rule.gate(o)
    c = (1 - i if rule.coupled else f) * c + i * (rule.candidate or torch.tanh)(g)
    h = o * rule.output(c)
    return (h if w_hr is None else F.linear(h, w_hr)), c


def gru_step(rule: Rule, x: torch.Tensor, state: Any, weights: list[Any]) -> Any:
    """One step of `torch.nn.GRU`: gates r, z, n."""
    (h,) = state
    w_ih, w_hh, b_ih, b_hh, _ = weights
    r_x, z_x, n_x = F.linear(x, w_ih, b_ih).chunk(3, -1)
    r_h, z_h, n_h = F.linear(h, w_hh, b_hh).chunk(3, -1)
    r, z = rule.gate(r_x + r_h), rule.gate(z_x + z_h)
    if rule.reset == "product":
        inner = r * n_h
    else:
        w_n = w_hh.chunk(3)[2]
        b_n = torch.zeros_like(w_n[:, 0]) if b_hh is None else b_hh.chunk(3)[2]
        bare = rule.reset == "bare"
        inner = (r * F.linear(h, w_n) if bare else F.linear(r * h, w_n)) + b_n
    n = (rule.candidate or torch.tanh)(n_x + inner)
    return ((1 - z) * n + z * h,)


def rnn_step(own: Activation) -> Callable[..., Any]:
    """One step of `torch.nn.RNN` with its own activation."""

    def step(rule: Rule, x: torch.Tensor, state: Any, weights: list[Any]) -> Any:
        (h,) = state
        w_ih, w_hh, b_ih, b_hh, _ = weights
        return ((rule.candidate or own)(F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)),)

    return step


STEPS: dict[str, Callable[..., Any]] = {
    "lstm": lstm_step,
    "gru": gru_step,
    "rnn_tanh": rnn_step(torch.tanh),
    "rnn_relu": rnn_step(torch.relu),
}


def grouped_weights(
    flat: list[torch.Tensor], has_biases: bool, directions: int, layers: int
) -> list[list[Any]]:
    """[w_ih, w_hh, b_ih, b_hh, w_hr], None for what there is not, by layer and direction."""
    size = len(flat) // (layers * directions)
    groups = []
    for i in range(0, len(flat), size):
        part = list(flat[i : i + size])
        biases = part[2:4] if has_biases else [None, None]
        projection = part[-1] if size in (3, 5) else None
        groups.append([*part[:2], *biases, projection])
    return groups


def run(
    name: str, rule: Rule, x: torch.Tensor, states: tuple[torch.Tensor, ...],
    groups: list[list[Any]], directions: int, layers: int, dropout: float = 0.0,
    lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:  # fmt: skip
    """Layers over x [t, n, c] from states [layers * directions, n, h]; the output and last states.

    `lengths` [n] says where each sequence ends.
    """
    ends = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            state = tuple(s[index] for s in states)
            backwards = direction == 1 and rule.reads != "forward"
            out, end = _scan(name, rule, x, state, groups[index], backwards, lengths)
            outputs.append(out)
            ends.append(end)
        x = torch.cat(outputs[::-1] if rule.exchanged else outputs, -1)
        if dropout and layer < layers - 1:
            x = F.dropout(x, dropout)
    return x, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _scan(
    name: str,
    rule: Rule,
    x: torch.Tensor,
    state: Any,
    weights: list[Any],
    backwards: bool,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, Any]:
    """One direction of one layer over time."""
    outputs = []
    times = range(len(x))
    for t in reversed(times) if backwards else times:
        new = STEPS[name](rule, x[t], state, weights)
        out = new[0]
        if lengths is not None:
            inside = (t < lengths)[:, None].to(x.device)
            new = tuple(torch.where(inside, n, s) for n, s in zip(new, state, strict=True))
            out = torch.where(inside, out, torch.zeros_like(out))
        state = new
        outputs.append(out)
    turned = outputs[::-1] if backwards and rule.reads == "turned" else outputs
    return torch.stack(turned), state
