"""Inputs that depart: what preprocessing tends to get wrong."""

from collections.abc import Iterator

import numpy as np

from parity.diagnosis.common import SAME, said
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import inputs
from parity.ladder.tolerance import relative_error
from parity.pairs.pair import Batch, Case, Tensors


def find(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    """The inputs' diagnosis; None where they agree."""
    del state
    ours, theirs = inputs.both(case, batch)
    error = relative_error(ours, theirs)
    if error <= SAME:
        return None
    # Constants may have been rounded to float32.
    fits = (c for c, x in _input_suspects(theirs) if relative_error(ours, x) <= 1e-6)
    cause = next(fits, None)
    return said("the inputs", error, cause=cause, what="values")


def _input_suspects(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What the inputs, normalised by 0.5 and 0.5 or not at all, may have been turned into."""
    unit = (x + 1) / 2
    imagenet = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    cifar = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.2435, 0.2616])
    if x.ndim == 4 and x.shape[1] == 3:
        yield "the channels are in the order blue, green, red", x[:, ::-1]
        for name, (mean, std) in (("ImageNet", imagenet), ("CIFAR-10", cifar)):
            shape = (1, 3, 1, 1)
            normalised = (unit - mean.reshape(shape)) / std.reshape(shape)
            yield f"the inputs are normalised by {name}'s mean and deviation", normalised
    yield "the inputs are not normalised: from 0 to 1", unit
    yield "the inputs are not divided by 255", unit * 255
    yield "the inputs are normalised twice", (x - 0.5) / 0.5
    yield "the inputs are divided by 256 and not by 255", (unit * 255 / 256 - 0.5) / 0.5
    yield "the mean is subtracted and nothing divided", unit - 0.5
    if x.ndim == 4:
        yield "height and width are swapped", x.transpose(0, 1, 3, 2)
        yield "the images are mirrored", x[..., ::-1]
        yield "the images are upside down", x[:, :, ::-1]
        n, c, h, w = x.shape
        reshaped = x.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        yield "the layout is changed by a reshape and not by a transposition", reshaped
        raw = x.transpose(0, 2, 3, 1).reshape(n, c, h, w)
        yield "the layout is changed by a reshape and not by a transposition", raw
    yield "the images are in another order", x[::-1]
    yield "the images are shifted by one", np.roll(x, 1, 0)
    yield "the images are shifted by one", np.roll(x, -1, 0)
