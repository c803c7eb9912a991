"""How tensors of the two frameworks are laid upon each other."""

from types import SimpleNamespace

import numpy as np
import pytest

from parity.ladder.alignment import aligned
from parity.ladder.rungs import forward

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 4, 4), (4, 6, 4, 4, 4)])
def test_channels_are_moved_where_the_values_do_not_agree(shape):
    reference, wrong = RNG.normal(size=(2, *shape))
    found = aligned(np.moveaxis(wrong, 1, -1), reference, channels_last=False)
    np.testing.assert_array_equal(found, wrong)


def test_heads_of_their_own_axis_are_reshaped():
    reference, wrong = RNG.normal(size=(2, 2, 3, 8))
    found = aligned(wrong.reshape(2, 3, 4, 2), reference, channels_last=False)
    np.testing.assert_array_equal(found, wrong)


def test_values_tell_where_shapes_do_not():
    value = RNG.normal(size=(2, 4, 4, 4))
    for moved in (value, np.moveaxis(value, 1, -1)):
        for channels_last in (False, True):
            np.testing.assert_array_equal(aligned(moved, value, channels_last), value)


def test_outputs_are_not_reshaped():
    assert aligned(np.ones((2, 6)), np.ones((2, 3, 2)), channels_last=False, inner=False) is None


def test_where_neither_shapes_nor_values_tell_the_layout_is_that_of_what_agrees():
    pair = SimpleNamespace(channels_last=False, channels_last_in_torch=())
    reference = {name: RNG.normal(size=(4, 4, 4, 4, 4)) for name in ("conv1", "conv2", "conv3")}
    ours = {name: np.moveaxis(value, 1, -1) for name, value in reference.items()}
    wrong = ours["conv3"] = RNG.normal(size=(4, 4, 4, 4, 4))
    ways = forward.layouts(SimpleNamespace(pair=pair), ours, reference)  # pyright: ignore
    np.testing.assert_array_equal(ways["conv3"](wrong), np.moveaxis(wrong, -1, 1))
    alone = forward.layouts(SimpleNamespace(pair=pair), {"conv3": wrong}, reference)  # pyright: ignore
    np.testing.assert_array_equal(alone["conv3"](wrong), wrong)
