"""Optimizers, with their schedules, clipping and groups of parameters."""

from functools import partial

import optax

from planted.bug import OPTIMIZER, Bug, bug, fault
from planted.nets import lstm_text, mixer, regression, tcn
from planted.nets import optimizers as made

WARM_UP_FROM_ZERO = optax.warmup_cosine_decay_schedule(0.0, 1.0, made.WARM, made.TOTAL)
MAKERS = {"tcn": tcn.make, "mixer": mixer.make, "lstm_text": lstm_text.make}
MAKERS["regression"] = regression.make


def optimizer_bug(name: str, net: str, optimizer, *causes: str) -> Bug:
    make = partial(MAKERS[net], options={"optimizer": optimizer})
    return bug(name, net, make, "optimizer", fault(OPTIMIZER, *causes))


BUGS = (
    optimizer_bug(
        "warm-up that begins at 0",
        "tcn",
        made.scheduled(WARM_UP_FROM_ZERO),
        "schedule",
        "warm",
        "learning rate",
        "one step",
        "step late",
    ),
    optimizer_bug(
        "clipped value by value", "mixer", made.clipped(optax.clip(0.1)), "clip", "norm", "value"
    ),
    optimizer_bug(
        "biases and scales decay too",
        "mixer",
        made.decayed_in_groups(None),
        "group",
        "weight decay",
        "decay & bias",
        "decay",
    ),
    optimizer_bug(
        "Adagrad that begins at 0.1",
        "regression",
        made.adagrad(0.1),
        "initial",
        "accumulator",
        "0.1",
    ),
    optimizer_bug(
        "Adamax without bias correction",
        "lstm_text",
        made.adamax(False),
        "bias correction",
        "correct",
    ),
    optimizer_bug(
        "NAdam of constant momentum",
        "lstm_text",
        made.nadam(0.0),
        "momentum",
        "0.004",
        "0.96",
        "schedule",
    ),
    optimizer_bug(
        "Lion's betas exchanged", "tcn", made.lion(0.99, 0.9), "beta", "b1", "b2", "exchang", "swap"
    ),
    optimizer_bug(
        "weight decay apart from the gradient",
        "mixer",
        made.adam_with_l2(True),
        "decoupled",
        "coupled",
        "l2",
        "adamw",
        "weight decay",
    ),
)
