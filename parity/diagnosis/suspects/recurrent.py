"""Recurrent layers and cells: what porting one tends to get wrong."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from parity.diagnosis.suspects.call import Call, Changed, Suspects
from parity.diagnosis.suspects.recurrent_cells import (
    STEPS,
    Rule,
    grouped_weights,
    hard_sigmoid,
    run,
)

GATES = {"lstm": "ifgo", "gru": "rzn"}
LIKELY = {"lstm": ("igfo", "ifog", "iofg", "figo", "gifo"), "gru": ("zrn", "nrz", "nzr")}
"""Orders of gates of other libraries: Haiku's and TensorFlow's, CNTK's, ONNX's; Keras's GRU."""


def recurrent_suspects(call: Call) -> Suspects:
    """Another order of gates, bias, activation, rule of a gate, direction or axis of time."""
    form = _Form.of(call)
    if form is None:
        return
    yield from _weight_suspects(form)
    if call.name == "gru":
        yield (
            "the reset gate is applied to the state before the product, and not after",
            form.by(Rule(reset="state")),
        )
        yield (
            "the bias of the state's product is outside the reset gate",
            form.by(Rule(reset="bare")),
        )
    yield from _rules(form)
    yield from _directions(form)
    yield from _sequences(form)


def _rules(form: "_Form") -> Suspects:
    name = form.call.name
    if name in ("rnn_tanh", "rnn_relu"):
        other = {"rnn_tanh": "relu", "rnn_relu": "tanh"}[name]
        yield (
            f"{other} in the place of {name.partition('_')[2]}",
            form.by(Rule(candidate=getattr(torch, other))),
        )
        return
    if name == "lstm":
        yield "the cell goes out without tanh", form.by(Rule(output=lambda c: c))
        yield "the forget gate is 1 - i", form.by(Rule(coupled=True))
        yield "the cell goes out through relu", form.by(Rule(output=torch.relu))
    yield "the gates are hard sigmoids", form.by(Rule(gate=hard_sigmoid))
    yield "relu in the place of tanh", form.by(Rule(candidate=torch.relu))
    if name == "lstm":
        yield (
            "relu in the place of both tanh",
            form.by(Rule(candidate=torch.relu, output=torch.relu)),
        )


def _directions(form: "_Form") -> Suspects:
    if form.directions < 2:
        return
    base = {
        "the second direction's output is not turned back": Rule(reads="unturned"),
        "the second direction reads as the first does, from the beginning": Rule(reads="forward"),
        "the two directions are joined in the other order": Rule(exchanged=True),
    }
    for cause, rule in base.items():
        yield cause, form.by(rule)
    half = len(form.weights) // (form.layers * 2)

    def exchanged() -> list[torch.Tensor]:
        w = form.weights
        starts = range(0, len(w), 2 * half)
        return [t for i in starts for t in (*w[i + half : i + 2 * half], *w[i : i + half])]

    yield "the two directions have each other's weights", form.with_weights(exchanged)


def _sequences(form: "_Form") -> Suspects:
    call = form.call
    if form.packed:
        yield (
            "the lengths are ignored: it runs on over the padding",
            form.by(Rule(lengths=False)),
        )
    else:
        axis = (1 if form.batch_first else 0) if form.x.ndim == 3 else 0
        yield "the sequence is read from its end", call.with_input(lambda: form.x.flip(axis))
        if form.x.ndim == 3:
            yield (
                "it runs along the batch and not along time",
                lambda: _along_batch(form),
            )
    state = call.args[form.state_index]

    def zeros() -> Any:
        return tuple(s * 0 for s in state) if isinstance(state, list | tuple) else state * 0

    states = state if isinstance(state, list | tuple) else (state,)
    if any(bool(s.any()) for s in states):
        yield "the first state is zeros", call.with_arg(form.state_index, zeros)
    if call.name == "lstm":
        yield "the last h and c are exchanged", call.then(lambda out: (out[0], out[2], out[1]))
    if form.dropout:
        yield "the dropout between layers is missing", form.with_(dropout=0.0)


class _Form:
    """The arguments of a recurrent layer's call, of a tensor or of packed sequences."""

    def __init__(self, call: Call, packed: bool):
        self.call, self.kind, self.packed, a = call, call.name, packed, call.args
        self.x, self.sizes = a[0], a[1] if packed else None
        self.state_index = 2 if packed else 1
        self.weights: list[torch.Tensor] = list(a[3 if packed else 2])
        rest = a[4:] if packed else a[3:]
        self.biases, self.layers, dropout, self.train, both = rest[:5]
        self.batch_first = False if packed else bool(rest[5])
        self.dropout = dropout if self.train and self.layers > 1 else 0.0
        self.directions = 2 if both else 1

    @classmethod
    def of(cls, call: Call) -> "_Form | None":
        """The form of a call by position, as nn.LSTM makes it; None where it is another."""
        a = call.args
        if len(a) != 9 or call.kwargs or not call.floats:
            return None
        if not isinstance(a[2], torch.Tensor) and isinstance(a[2], list | tuple):
            if isinstance(a[3], bool):
                return cls(call, packed=False)
        if isinstance(a[3], list | tuple) and isinstance(a[1], torch.Tensor):
            return cls(call, packed=True)
        return None

    def places(self) -> range:
        """Where the weights of each layer and direction begin."""
        return range(0, len(self.weights), len(self.weights) // (self.layers * self.directions))

    def with_weights(self, weights: Callable[[], list[torch.Tensor]]) -> Changed:
        """The call with the weights that a function gives."""
        return self.call.with_arg(3 if self.packed else 2, weights)

    def with_(self, dropout: float) -> Changed:
        """The call with another dropout between layers."""
        return self.call.with_arg(6 if self.packed else 5, dropout)

    def by(self, rule: Rule) -> Changed:
        """The call by another rule."""
        return self.call.by(lambda *args: self.computed(rule, *args))

    def computed(self, rule: Rule, *args: Any) -> tuple[torch.Tensor, ...]:
        """The layer's result by a rule, of these arguments."""
        name = self.call.name
        form = _Form(self.call._replace(args=args), self.packed)
        x, lengths, packed = form.x, None, None
        state = args[form.state_index]
        states = tuple(state) if isinstance(state, list | tuple) else (state,)
        batched = x.ndim == 3 or self.packed
        if self.packed:
            packed = PackedSequence(x, args[1])
            x, lengths = pad_packed_sequence(packed)
        elif form.batch_first and batched:
            x = x.transpose(0, 1)
        if not batched:
            x, states = x.unsqueeze(1), tuple(s.unsqueeze(1) for s in states)
        groups = grouped_weights(form.weights, form.biases, form.directions, form.layers)
        used = lengths if rule.lengths else None
        out, ends = run(
            name, rule, x, states, groups, form.directions, form.layers, form.dropout, used
        )
        if packed is not None and lengths is not None:
            out = pack_padded_sequence(out, lengths).data
        elif not batched:
            out, ends = out.squeeze(1), tuple(e.squeeze(1) for e in ends)
        elif form.batch_first:
            out = out.transpose(0, 1)
        return (out, *ends)


def _along_batch(form: _Form) -> Any:
    call = form.call
    turned = form.x.transpose(0, 1)
    batch = turned.shape[0] if form.batch_first else turned.shape[1]
    state = call.args[1]
    states = state if isinstance(state, list | tuple) else (state,)
    zeros = [s.new_zeros(s.shape[0], batch, s.shape[2]) for s in states]
    args = [turned, tuple(zeros) if isinstance(state, list | tuple) else zeros[0], *call.args[2:]]
    out, *ends = call.function(*args)
    return (out.transpose(0, 1), *ends)


def _gates(name: str, weights: Iterable[torch.Tensor], order: Iterable[int]) -> list[torch.Tensor]:
    """Weights and biases whose gates are in another order; a projection stays."""
    number, order = len(GATES[name]), list(order)
    wide = {len(w) for w in weights}
    return [
        torch.cat([w.chunk(number)[i] for i in order]) if len(w) == max(wide) else w
        for w in weights
    ]


def _weight_suspects(form: "_Form | _Cell") -> Suspects:
    """What another order of gates, or other biases, make of the weights."""
    name, weights = form.kind, form.weights
    gates = GATES.get(name)
    yield from _bias_suspects(form)
    if gates is None:
        return
    orders = ["".join(order) for order in itertools.permutations(gates)]
    for other in dict.fromkeys((*LIKELY[name], *orders)):
        if other != gates:
            numbers = [gates.index(g) for g in other]
            back = [numbers.index(i) for i in range(len(gates))]
            yield (
                f"the gates are in the order {', '.join(other)} and not {', '.join(gates)}",
                form.with_weights(lambda back=back: _gates(name, weights, back)),
            )
    if name == "gru":
        yield (
            "the update gate is the new state's share and not the old one's",
            form.with_weights(lambda: [_signed(w, 1, 3) for w in weights]),
        )


def _signed(w: torch.Tensor, gate: int, number: int) -> torch.Tensor:
    """The weights with the sign of one gate's changed: its sigmoid is then 1 less it."""
    parts = list(w.chunk(number))
    parts[gate] = -parts[gate]
    return torch.cat(parts)


def _bias_suspects(form: "_Form | _Cell") -> Suspects:
    groups = form.places()
    if not form.biases:
        return

    def without(places: Iterable[int]) -> Callable[[], list[torch.Tensor]]:
        gone = set(places)
        return lambda: [w * 0 if i in gone else w for i, w in enumerate(form.weights)]

    inputs = [start + 2 for start in groups]
    states = [start + 3 for start in groups]
    yield "the biases are missing", form.with_weights(without([*inputs, *states]))
    yield "the state's bias is missing", form.with_weights(without(states))
    yield "the input's bias is missing", form.with_weights(without(inputs))
    if form.kind == "lstm":

        def more() -> list[torch.Tensor]:
            return [_forgetting(w) if i in inputs else w for i, w in enumerate(form.weights)]

        yield "1 is added to the forget gate", form.with_weights(more)
    if form.kind == "gru":
        exchanged = dict(zip([*inputs, *states], [*states, *inputs], strict=True))
        yield (
            "the input's and the state's bias are exchanged",
            form.with_weights(
                lambda: [form.weights[exchanged.get(i, i)] for i in range(len(form.weights))]
            ),
        )


def _forgetting(bias: torch.Tensor) -> torch.Tensor:
    i, f, g, o = bias.chunk(4)
    return torch.cat([i, f + 1, g, o])


class _Cell:
    """The arguments of one step's call."""

    def __init__(self, call: Call):
        a = call.given
        self.call, self.kind = call, call.name.removesuffix("_cell")
        self.biases = a["b_ih"] is not None and a["b_hh"] is not None
        names = ("w_ih", "w_hh", "b_ih", "b_hh") if self.biases else ("w_ih", "w_hh")
        self.weights: list[torch.Tensor] = [a[name] for name in names]
        self.names = names

    def places(self) -> range:
        """Where the weights of each layer and direction begin."""
        return range(0, 1)

    def with_weights(self, weights: Callable[[], list[torch.Tensor]]) -> Changed:
        """The call with other weights."""
        return self.call.with_(
            **{name: (lambda i=i: weights()[i]) for i, name in enumerate(self.names)}
        )

    def by(self, rule: Rule) -> Changed:
        """The call by another rule."""

        def cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
            state = tuple(hx) if isinstance(hx, list | tuple) else (hx,)
            new = STEPS[self.kind](rule, input, state, [w_ih, w_hh, b_ih, b_hh, None])
            return new if len(new) > 1 else new[0]

        return self.call.by(cell)


def cell_suspects(call: Call) -> Suspects:
    """Of one step: another order of gates, bias, activation or rule of a gate."""
    if not call.floats:
        return
    cell = _Cell(call)
    yield from _weight_suspects(cell)
    if cell.kind == "gru":
        yield (
            "the reset gate is applied to the state before the product, and not after",
            cell.by(Rule(reset="state")),
        )
        yield (
            "the bias of the state's product is outside the reset gate",
            cell.by(Rule(reset="bare")),
        )
