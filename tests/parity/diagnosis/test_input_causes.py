"""Inputs that depart: which of them, and what was made of it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from parity.diagnosis import inputs as diagnosis
from parity.pairs.case import Case
from parity.pairs.pair import Batch, Pair

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (4, 6, 6, 3), np.uint8)
FLOATS = RNG.normal(size=(5, 4)).astype(np.float32)
IDS = RNG.integers(3, 50, (4, 7))
IDS[:, -1] = 2
MASK = np.arange(7) < np.array([7, 3, 5, 2])[:, None]
IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CIFAR = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.2435, 0.2616])
OTHER = np.array([0.3, 0.4, 0.5]), np.array([0.2, 0.25, 0.3])


def found(raw: Any, theirs: Any, ours: Any, channels_last: bool = False) -> Any:
    pair: Any = Pair(
        "inputs",
        nn.Identity,
        lambda v, x: x,
        dict,
        channels_last=channels_last,
        jax_inputs=lambda x, dtype: ours(x),
        torch_inputs=theirs or (lambda x: x),
    )
    return diagnosis.find(Case(pair, "float64"), {}, Batch(raw, np.zeros(4)))


def unit(x):
    return x / 255.0


def normal(constants, scale=255.0):
    mean, deviation = constants
    return lambda x: (x / scale - mean) / deviation


def in_torch(function):
    return lambda x: torch.from_numpy(np.ascontiguousarray(function(x).transpose(0, 3, 1, 2)))


half = normal((0.5, 0.5))

IMAGE_CASES = {
    "imagenet": ("ImageNet's mean and deviation", half, normal(IMAGENET)),
    "cifar": ("CIFAR-10's mean and deviation", normal(IMAGENET), normal(CIFAR)),
    "half": ("normalised by 0.5 and 0.5", normal(CIFAR), half),
    "numbers": ("mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225)", half,
                normal(IMAGENET)),
    "where PyTorch's": ("does by (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)",
                        normal(IMAGENET), normal(CIFAR)),
    "constants of nobody": ("by mean (0.3, 0.4, 0.5) and deviation (0.2, 0.25, 0.3)",
                            half, normal(OTHER)),
    "not normalised": ("not normalised: from 0 to 1", normal(IMAGENET), unit),
    "pixels": ("not divided by 255", unit, lambda x: x * 1.0),
    "pixels, not normalised": ("not divided by 255, and not normalised", half, lambda x: x * 1.0),
    "pixels, normalised": ("not divided by 255 before", normal(IMAGENET), normal(IMAGENET, 1.0)),
    "256": ("divided by 256", unit, lambda x: x / 256),
    "256, normalised": ("divided by 256", normal(CIFAR), normal(CIFAR, 256.0)),
    "twice": ("normalised twice", half, lambda x: (half(x) - 0.5) / 0.5),
    "no deviation": ("nothing divided", normal(IMAGENET), lambda x: unit(x) - IMAGENET[0]),
    "no mean": ("no mean is subtracted", normal(IMAGENET), lambda x: unit(x) / IMAGENET[1]),
    "bgr": ("blue, green, red", normal(IMAGENET), lambda x: normal(IMAGENET)(x)[..., ::-1]),
    "bgr, other constants": ("blue, green, red, and the inputs are normalised by CIFAR-10's",
                             half, lambda x: normal(CIFAR)(x[..., ::-1])),
    "bgr of constants": ("deviation are in the order blue, green, red", normal(IMAGENET),
                         lambda x: (unit(x) - IMAGENET[0][::-1]) / IMAGENET[1][::-1]),
    "height and width": ("height and width", half, lambda x: half(x).transpose(0, 2, 1, 3)),
    "mirrored": ("mirrored", half, lambda x: half(x)[:, :, ::-1]),
    "upside down": ("upside down", half, lambda x: half(x)[:, ::-1]),
    "another order": ("another order", half, lambda x: half(x)[::-1]),
    "shifted": ("shifted by one", half, lambda x: np.roll(half(x), 1, 0)),
    "bfloat16": ("rounded to bfloat16", half,
                 lambda x: np.asarray(jnp.asarray(half(x)).astype(jnp.bfloat16), np.float64)),
    "cut": ("the values are cut at -0.5 and 0.5", half, lambda x: half(x).clip(-0.5, 0.5)),
    "examples": ("each example is scaled", half,
                 lambda x: (x - x.mean((1, 2, 3), keepdims=True))
                 / x.std((1, 2, 3), keepdims=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGE_CASES)
def test_of_images(name):
    text, theirs, ours = IMAGE_CASES[name]
    diagnosed = found(IMAGES, in_torch(theirs), lambda x: jnp.asarray(ours(x)), channels_last=True)
    assert text in (diagnosed.cause or ""), diagnosed.text
    assert diagnosed.module == "the inputs"


def test_a_reshape_in_the_place_of_a_transposition():
    def reshaped(x):
        return jnp.asarray(half(x).transpose(0, 3, 1, 2).reshape(x.shape))

    diagnosed = found(IMAGES, in_torch(half), reshaped, channels_last=True)
    assert "by a reshape" in (diagnosed.cause or ""), diagnosed.text


def test_constants_that_float32_rounded_are_known():
    def rounded(x):
        return jnp.asarray(normal(IMAGENET)(x).astype(np.float32).astype(np.float64))

    diagnosed = found(IMAGES, in_torch(half), rounded, channels_last=True)
    assert "ImageNet's" in (diagnosed.cause or ""), diagnosed.text


def test_normalised_images_whose_pixels_are_not_given():
    raw = ((IMAGES / 255.0 - IMAGENET[0]) / IMAGENET[1]).transpose(0, 3, 1, 2)

    def from_imagenet(x):
        pixels = np.asarray(x).transpose(0, 2, 3, 1) * IMAGENET[1] + IMAGENET[0]
        return jnp.asarray((pixels - 0.5) / 0.5)

    diagnosed = found(raw, torch.from_numpy, from_imagenet, channels_last=True)
    assert "does by (0.485, 0.456, 0.406)" in (diagnosed.cause or ""), diagnosed.text


def test_pixels_that_are_rounded_to_whole_numbers():
    raw = RNG.random((4, 3, 6, 6))

    def cut(x):
        return jnp.asarray(np.floor(x * 255) / 255).transpose(0, 2, 3, 1)

    diagnosed = found(raw, torch.from_numpy, cut, channels_last=True)
    assert "from 0 to 255, are cut to whole numbers" in (diagnosed.cause or ""), diagnosed.text


TREE_CASES = {
    "ids": ("greater by 1", "0", (IDS + 1, MASK, FLOATS)),
    "positions": ("positions are shifted by one", "0", (np.roll(IDS, 1, 1), MASK, FLOATS)),
    "a vocabulary": ("cut at 30", "0", (np.minimum(IDS, 30), MASK, FLOATS)),
    "padding": ("0 stands in the place of 2", "0", (np.where(IDS == 2, 0, IDS), MASK, FLOATS)),
    "one-hot": ("one-hot", "0", (np.eye(50)[IDS], MASK, FLOATS)),
    "inverted": ("the mask is inverted", "1", (IDS, ~MASK, FLOATS)),
    "added": ("0 and -inf, which is added and not 0 and 1", "1",
              (IDS, np.where(MASK, 0, -np.inf), FLOATS)),
    "added, inverted": ("inverted, and the mask is 0 and -1e+09", "1",
                        (IDS, np.where(MASK, -1e9, 0), FLOATS)),
    "no mask": ("leaves nothing out", "1", (IDS, np.ones_like(MASK), FLOATS)),
    "doubled": ("2 times PyTorch's", "2", (IDS, MASK, 2 * FLOATS)),
    "moved": ("0.25 is added", "2", (IDS, MASK, FLOATS + 0.25)),
    "columns": ("each column", "2", (IDS, MASK, (FLOATS - FLOATS.mean(0)) / FLOATS.std(0))),
    "rows": ("another order", "2", (IDS, MASK, FLOATS[::-1])),
    "a shape": ("the axes are in the order 1, 0", "2", (IDS, MASK, FLOATS.T)),
}  # fmt: skip


@pytest.mark.parametrize("name", TREE_CASES)
def test_of_one_input_of_several(name, monkeypatch):
    text, path, ours = TREE_CASES[name]
    theirs = (IDS, MASK, FLOATS)
    sides = tuple({f"the inputs {i}": x for i, x in enumerate(side)} for side in (ours, theirs))
    monkeypatch.setattr(diagnosis.inputs, "both", lambda case, batch: sides)
    diagnosed = found(theirs, None, None)
    assert text in (diagnosed.cause or ""), diagnosed.text
    assert diagnosed.module == f"the inputs {path}"


def test_exchanged_inputs_are_named(monkeypatch):
    a, b = FLOATS, FLOATS[::-1] * 3
    sides = {"left": b, "right": a}, {"left": a, "right": b}
    monkeypatch.setattr(diagnosis.inputs, "both", lambda case, batch: sides)
    diagnosed = found(sides[1], None, None)
    assert diagnosed.cause == "left and right are exchanged"
    assert "Also departing: right" in diagnosed.text


def test_inputs_that_agree_have_no_diagnosis(monkeypatch):
    assert found(IMAGES, in_torch(half), lambda x: jnp.asarray(half(x)), channels_last=True) is None
    mask = np.where(MASK, 0, -np.inf)
    monkeypatch.setattr(
        diagnosis.inputs, "both", lambda case, batch: ({"": mask}, {"": mask.copy()})
    )
    assert found((mask,), None, None) is None


def test_what_nobody_does_has_no_cause():
    noise = RNG.normal(size=IMAGES.shape)
    diagnosed = found(
        IMAGES, in_torch(half), lambda x: jnp.asarray(half(x) + noise), channels_last=True
    )
    assert diagnosed.cause is None
