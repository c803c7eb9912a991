"""Gates in another order or place, biases, directions, states."""

from functools import partial

from planted.bug import bug, fault
from planted.nets import lstm_text, seq2seq
from planted.nets.recurrent import gru

CELLS = "encoder decoder"

BUGS = (
    bug(
        "gates in the order of TensorFlow",
        "lstm_text",
        partial(lstm_text.make, order="igfo"),
        "forward",
        fault("lstm", "gate", "order"),
    ),
    bug(
        "reverse outputs left in reverse",
        "lstm_text",
        partial(lstm_text.make, turn_back=False),
        "forward",
        fault("lstm", "revers", "direction", "backward", "flip"),
    ),
    bug(
        "reset gate before the product",
        "seq2seq",
        partial(seq2seq.make, cell=partial(gru, reset="before")),
        "forward",
        fault(CELLS, "reset"),
    ),
    bug(
        "bias outside the reset gate",
        "seq2seq",
        partial(seq2seq.make, cell=partial(gru, reset="without the bias")),
        "forward",
        fault(CELLS, "reset & bias", "bias & gate", "bias_hh", "bias_hn", "b_hn", "reset"),
    ),
    bug(
        "update gate before the reset gate",
        "seq2seq",
        partial(seq2seq.make, cell=partial(gru, order="zrn")),
        "forward",
        fault(CELLS, "order", "exchang", "swap", "gate"),
    ),
)
