"""How tensors of the two frameworks are laid upon each other."""

import numpy as np
import pytest

from parity.ladder.alignment import aligned

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
