"""Activations that have a namesake."""

from functools import partial

import flax.linen as linen
import jax

from planted.bug import bug, fault, inside
from planted.nets import (
    mixer,
    mobilenet_v2,
    mobilenet_v3,
    super_resolution,
    vit,
)

BLOCKS = "block1 block2"

BUGS = (
    bug(
        "gelu by tanh",
        "vit",
        partial(vit.make, block={"approximate": True}),
        "forward",
        fault(inside(BLOCKS, "act"), "tanh", "approx"),
    ),
    bug(
        "exact gelu where it is by tanh",
        "mixer",
        partial(mixer.make, act=mixer.exact_gelu),
        "forward",
        fault(
            {
                f"block{i}.{mlp}{act}"
                for i in (1, 2)
                for mlp in ("tokens", "channels")
                for act in ("", ".act")
            },
            "erf",
            "exact",
            "tanh",
            "approx",
        ),
    ),
    bug(
        "relu in the place of relu6",
        "mobilenet_v2",
        partial(mobilenet_v2.make, act=linen.relu),
        "forward",
        fault({"act", *inside(BLOCKS, "act")}, "relu"),
    ),
    bug(
        "swish in the place of hard-swish",
        "mobilenet_v3",
        partial(mobilenet_v3.make, act=jax.nn.silu),
        "forward",
        fault({"act", *inside(BLOCKS, "act")}, "silu", "swish"),
    ),
    bug(
        "Keras's hard-sigmoid",
        "mobilenet_v3",
        partial(mobilenet_v3.make, gate=mobilenet_v3.hard_sigmoid_of_keras),
        "forward",
        fault(inside("block1.se block2.se", "gate"), "0.2", "keras", "sigmoid & slope", "hard"),
    ),
    bug(
        "one slope of PReLU for all channels",
        "super_resolution",
        partial(super_resolution.make, act=super_resolution.prelu_of_one),
        "forward",
        fault("act1 act2", "prelu", "slope", "one weight", "first channel", "per channel"),
    ),
)
