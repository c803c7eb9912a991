"""Training loops of one's own that do not do what PyTorch's does."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import parity
from planted.bug import STEP, Bug, bug, fault
from planted.nets import conv_bn, tcn
from planted.nets.data import integers, normal
from planted.nets.loops import State, join, loop, updated
from planted.nets.optimizers import sgd

SIZE = 8


def cross_entropy(logits: jax.Array, labels: Any) -> jax.Array:
    logs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(logs, jnp.asarray(labels)[:, None], -1).mean()


def tcn_apply(variables, x, train):
    return tcn.apply(variables, x), variables


def tcn_pair(**departures: Any) -> parity.Pair:
    options = {"optimizer": sgd(), "jax_step": loop(tcn_apply, cross_entropy, **departures)}
    return tcn.make(options=options)


def conv_pair(**departures: Any) -> parity.Pair:
    step = loop(conv_bn.apply, cross_entropy, prepare=conv_bn.nchw_to_nhwc, **departures)
    return conv_bn.make({"optimizer": sgd(), "jax_step": step})


def batches() -> list[parity.Batch]:
    """Two batches, and a third of three examples."""
    sizes = (SIZE, SIZE, 3)
    return [
        parity.Batch(normal(n, 4, 20, seed=i), integers(6, n, seed=i))
        for i, n in enumerate(sizes, 5)
    ]


def parts_added(loss_of, params, rest, x, y):
    """The gradients of two halves are added, and not averaged."""
    gradient = jax.value_and_grad(loss_of, has_aux=True)
    half = len(x) // 2
    (one, _), first = gradient(params, rest, x[:half], y[:half])
    (two, rest), second = gradient(params, rest, x[half:], y[half:])
    return ((one + two) / 2, rest), jax.tree.map(jnp.add, first, second)


def last_left_out(count, x, y):
    """A batch that is not full takes no part."""
    return (x, y) if len(x) == SIZE else None


def padded(count, x, y):
    """A batch that is not full is filled by its first example."""
    missing = max(SIZE - len(x), 0)
    return (
        np.concatenate([x, x[:1].repeat(missing, 0)]),
        np.concatenate([y, y[:1].repeat(missing)]),
    )


def rolled_later(count, x, y):
    """From the second epoch on, of three batches, labels belong to the examples before."""
    return x, (np.roll(y, 1) if count >= 3 else y)


class Jitter:
    """Noise of a generator that the loop does not show."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, count, x, y):
        return x + self.rng.normal(0, 0.1, x.shape).astype(x.dtype), y


def jittered_pair() -> parity.Pair:
    return tcn_pair(given=Jitter())


def twice(optimizer, grads, state):
    params, opt_state = updated(optimizer, grads, state)
    return updated(optimizer, grads, state._replace(params=params, opt_state=opt_state))


def slow_average(state: State) -> Any:
    return join(state.average, state.rest)


def step_bug(name: str, net: str, make, *causes: str, **given: Any) -> Bug:
    return bug(name, net, make, "trajectory", fault(STEP, *causes), **given)


BUGS = (
    step_bug(
        "accumulated gradients are added",
        "tcn",
        partial(tcn_pair, gradient=parts_added),
        "accumul",
        "sum",
        "twice",
        "factor",
        "add",
        "2 times",
        "micro",
        "doubled",
    ),
    step_bug(
        "a last batch that is not full left out",
        "tcn",
        partial(tcn_pair, given=last_left_out),
        "last batch",
        "smaller batch",
        "left out",
        "dropped",
        "drop_last",
        batches=batches,
    ),
    step_bug(
        "a last batch that is filled up",
        "tcn",
        partial(tcn_pair, given=padded),
        "pad",
        "last batch",
        "filled",
        "smaller batch",
        "repeat",
        batches=batches,
    ),
    step_bug(
        "labels of other examples from the second epoch",
        "tcn",
        partial(tcn_pair, given=rolled_later),
        "other examples",
        "second epoch",
        "label",
        "shift",
        "rolled",
        "order",
        batches=batches,
    ),
    step_bug(
        "noise of a hidden generator",
        "tcn",
        jittered_pair,
        "noise",
        "random",
        "state outside",
        "closure",
        "not a function",
        "input",
        "augment",
        "determin",
        "differs from call to call",
    ),
    step_bug(
        "statistics not carried on",
        "conv_bn",
        partial(conv_pair, carried=False),
        "statistics",
        "not carried",
        "batch_stats",
        "running",
    ),
    step_bug(
        "parameters updated twice",
        "tcn",
        partial(tcn_pair, update=twice),
        "twice",
        "two times",
        "two steps",
        "2 times",
        "doubled",
    ),
    step_bug(
        "a moving average is given back",
        "tcn",
        partial(tcn_pair, average=0.9, read=slow_average),
        "average",
        "ema",
    ),
)

CORRECT = {"tcn": tcn_pair, "conv_bn": conv_pair}
"""The loops without a fault."""
