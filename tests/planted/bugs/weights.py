"""The converter, tied weights, gradients that one side stops, initial weights."""

import dataclasses
from functools import partial

import numpy as np

import parity
from planted.bug import STEP, WHOLE, bug, fault, inside
from planted.bugs.training_steps import cross_entropy
from planted.nets import bert, convnext, gpt, mobilenet_v3, regression, resnet, seq2seq, tcn, vit
from planted.nets.loops import loop
from planted.nets.optimizers import sgd


def frozen_and_trained() -> parity.Pair:
    """A loop of one's own trains all parameters; the suite's would leave the frozen one."""

    def apply(params, x, train):
        return convnext.apply({"params": params}, x), params

    step = loop(
        apply,
        cross_entropy,
        prepare=lambda x: x.transpose(0, 2, 3, 1),
        read=lambda state: {"params": state.params},
    )
    frozen = partial(convnext.TorchNet, trained=False)
    return dataclasses.replace(convnext.make(frozen), jax_step=step, optimizer=sgd())


MLPS = inside("layers.0.mlp layers.1.mlp", "gate", "up")


def lecun(rng, name, shape, shapes):
    """Flax's: a normal of fan_in that is cut at two deviations, and biases of 0."""
    if len(shape) == 1:  # a norm's scale, alone, is 1
        return np.full(shape, float(name.startswith("norm") and name.endswith("weight")))
    values = rng.normal(size=(4, *shape))
    for more in values[1:]:
        values[0] = np.where(np.abs(values[0]) > 2, more, values[0])
    return np.clip(values[0], -2, 2) / np.sqrt(shape[1]) / 0.87962566103423978


BUGS = (
    bug(
        "gate and up exchanged by the converter",
        "gpt",
        partial(gpt.make, convert=gpt.gate_and_up_exchanged),
        "forward",
        fault(MLPS, "exchang", "swap", "gate & up", "weights of", "other's", "silu"),
    ),
    bug(
        "head untied",
        "bert",
        partial(bert.make, convert=bert.untied, head="decoder.weight"),
        "gradients optimizer trajectory",
        fault(
            "decoder words", "tied", "shared", "own copy", "separate", "no gradient", "not train"
        ),
    ),
    bug(
        "positions are constants",
        "vit",
        partial(vit.make, fixed_positions=True),
        "gradients",
        fault(
            {"pos_embed", "patch", *WHOLE},
            "no gradient",
            "stop_gradient",
            "not trained",
            "constant",
            "frozen",
            "gradient & 0",
            "stopped",
        ),
    ),
    bug(
        "a frozen parameter is trained",
        "convnext",
        frozen_and_trained,
        "trajectory",
        fault(
            {"block2", "block2.gamma"} | STEP,
            "requires_grad",
            "frozen",
            "not trained",
            "trains",
            "no gradient",
            "does not train",
        ),
    ),
    bug(
        "no gradient through the squeeze",
        "mobilenet_v3",
        partial(mobilenet_v3.make, detached=True),
        "gradients",
        fault(
            inside("block1.se block2.se block1 block2"),
            "stop_gradient",
            "detach",
            "no gradient",
            "stopped",
        ),
    ),
    bug(
        "the encoder's state is detached in PyTorch",
        "seq2seq",
        partial(seq2seq.make, detached=True),
        "gradients",
        fault("encoder decoder", "detach", "stop_gradient", "no gradient", "stopped"),
    ),
    bug(
        "relu in place on the shortcut in PyTorch",
        "tcn",
        partial(tcn.make, inplace=True),
        "forward",
        fault(
            inside("block1 block2 block3", "relu"), "in place", "inplace", "in-place", "shortcut"
        ),
    ),
    bug(
        "He's normal of fan_in",
        "resnet",
        partial(resnet.make, rule=partial(resnet.draw, fan="in")),
        "init",
        fault(
            {"stem", *inside("block1 block2", "conv1", "conv2", "shortcut")},
            "fan_in",
            "fan in",
            "variance",
            "deviation",
        ),
    ),
    bug(
        "Flax's default kernels and biases",
        "regression",
        partial(regression.make, rule=lecun),
        "init",
        fault("fc1 fc2 fc3", "lecun", "truncated", "cut", "normal", "0 everywhere", "zero"),
    ),
)
