"""Where a GPU's convolution is a matrix product, and that it is the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl.models.model import create_model
from jax_impl.ops import convolution, im2col, platform
from jax_impl.training import optim
from jax_impl.training.epoch import _regions
from jax_impl.training.state import create_state


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    """What a GPU or TPU would be given, computed here."""
    monkeypatch.setattr(platform, "on_cpu", lambda: False)


@pytest.mark.parametrize(
    "n, side, size, options, chosen",
    [
        (1000, 1, 3, (1, 1, 1, 1), True),  # one tap of nine
        (1000, 2, 3, (2, 1, 1, 1), True),  # four
        (1000, 2, 3, (1, 1, 1, 1), False),
        (16, 4, 3, (1, 1, 1, 1), False),
        (16, 4, 1, (1, 0, 1, 1), False),
        (16, 2, 3, (1, 2, 2, 1), True),  # dilation
        (16, 4, 3, (1, 2, 2, 1), False),
        (16, 1, 3, (1, 1, 1, 4), False),  # groups
    ],
)
def test_the_choice_and_the_convolution(n, side, size, options, chosen, monkeypatch):
    called = []
    product = im2col.conv2d_im2col
    monkeypatch.setattr(im2col, "conv2d_im2col", lambda *a: called.append(a) or product(*a))
    rng = np.random.default_rng(0)
    groups, taps = options[-1], size * size * 20
    shapes = (n, side, side, 20), (size, size, 20 // groups, 8)
    with jax.enable_x64(True):
        images, kernel = (jnp.asarray(rng.standard_normal(shape)) for shape in shapes)
        found, pull = jax.vjp(lambda x, w: convolution.conv2d(x, w, *options), images, kernel)
        assert bool(called) is chosen
        native = jax.vjp(lambda x, w: convolution.conv2d_native(x, w, *options), images, kernel)
        gradient = jnp.asarray(rng.standard_normal(found.shape))
        pairs = zip((found, *pull(gradient)), (native[0], *native[1](gradient)), strict=True)
        for ours, theirs in pairs:  # every product of a sum is rounded once in float64
            assert ours.shape == theirs.shape
            error = float(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max())
            assert error <= 2**-53 * max(taps, n * found[0, ..., 0].size)


def test_a_gpu_passes_over_the_same_weights():
    """On 32x32 images most of a resnet18's last stage only ever meets padding."""
    model = create_model("resnet18", width=8)
    state = create_state(model.init(0), optim.adam())
    images = jax.ShapeDtypeStruct((1000, 32, 32, 3), jnp.uint8)
    read = jax.tree.leaves(_regions(model, optim.adam(), state, images, None).params)
    boxes = [(r.start[:2], r.stop[:2]) for r in read if not r.whole]
    assert boxes == [((1, 1), (3, 3))] + [((1, 1), (2, 2))] * 3
