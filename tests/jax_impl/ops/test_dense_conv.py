"""A convolution of small maps as a dense layer is the convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl.ops import convolution, dense_conv, platform
from jax_impl.training import regions

# Sums of at most 54 products, each rounded in float64: 54 x 2^-53 is 6e-15.
TOLERANCE = 1e-14
SIZES = [(2, 2, 3), (1, 2, 3), (2, 1, 3), (1, 1, 3), (3, 3, 5), (2, 3, 5), (4, 1, 7), (1, 1, 1)]


@pytest.mark.parametrize("h, w, size", SIZES)
def test_it_is_the_convolution(h, w, size):
    rng = np.random.default_rng(0)
    shapes = (5, h, w, 4), (size, size, 4, 6), (5, h, w, 6)
    with jax.enable_x64(True):
        images, kernel, gradient = (jnp.asarray(rng.standard_normal(shape)) for shape in shapes)
        assert dense_conv.covered(images, kernel, size // 2)
        found, pull = jax.vjp(dense_conv.conv2d, images, kernel)
        expected, pull_expected = jax.vjp(
            lambda x, k: convolution.conv2d_native(x, k, 1, size // 2, 1, 1), images, kernel
        )
        pairs = zip((found, *pull(gradient)), (expected, *pull_expected(gradient)), strict=True)
        for ours, theirs in pairs:
            assert ours.shape == theirs.shape
            assert float(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max()) <= TOLERANCE


@pytest.mark.parametrize(
    "h, w, size, padding", [(3, 2, 3, 1), (2, 3, 3, 1), (2, 2, 3, 0), (2, 2, 4, 2), (2, 2, 5, 1)]
)
def test_other_maps_are_not_covered(h, w, size, padding):
    assert not dense_conv.covered(jnp.zeros((1, h, w, 4)), jnp.zeros((size, size, 4, 6)), padding)


@pytest.mark.parametrize(
    "n, side, options, chosen",
    [
        (convolution.MANY_MAPS, 2, (1, 1, 1, 1), True),
        (convolution.WINOGRAD_TILES, 2, (1, 1, 1, 1), True),
        (convolution.MANY_MAPS - 1, 2, (1, 1, 1, 1), False),
        (convolution.MANY_MAPS, 1, (1, 1, 1, 1), False),
        (convolution.MANY_MAPS, 4, (1, 1, 1, 1), False),
        (convolution.MANY_MAPS, 2, (2, 1, 1, 1), False),
        (convolution.MANY_MAPS, 2, (1, 1, 1, 2), False),
    ],
)
def test_where_it_serves(n, side, options, chosen, monkeypatch):
    called = []
    monkeypatch.setattr(dense_conv, "conv2d", lambda x, k: called.append(x.shape) or x)
    groups = options[-1]
    kernel = jnp.zeros((3, 3, 16 // groups, 16))
    convolution.conv2d(jnp.zeros((n, side, side, 16)), kernel, *options)
    assert bool(called) == (chosen and platform.on_cpu())


def test_training_sees_which_taps_it_reads():
    images, kernel = jnp.zeros((4, 2, 2, 3)), jnp.zeros((7, 7, 3, 5))
    read = regions.read_by(lambda k, x: dense_conv.conv2d(x, k), kernel, images)
    assert read == regions.Region((7, 7, 3, 5), (2, 2, 0, 0), (5, 5, 3, 5))
