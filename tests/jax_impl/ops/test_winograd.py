"""A 3x3 convolution by Winograd's algorithm is the convolution."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl.ops import convolution, im2col, platform, winograd

ARGUMENTS = (1, 1, 1, 1)


def arrays(n: int, size: tuple[int, int], c: int, o: int) -> list[np.ndarray]:
    """Images, a kernel, and the gradient of an output."""
    rng = np.random.default_rng(0)
    shapes = (n, *size, c), (3, 3, c, o), (n, *size, o)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def both_ways(conv, given: Sequence) -> list[np.ndarray]:
    """The output, and the gradients by the images and by the kernel."""
    images, kernel, gradient = given
    output, pull = jax.vjp(conv, images, kernel)
    return [np.asarray(x, np.float64) for x in (output, *pull(gradient))]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (2, 2), (1, 1), (1, 6)], ids=str)
def test_it_is_the_convolution(size):
    given = arrays(3, size, 4, 6)
    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in given]
        found = both_ways(winograd.conv3x3, wide)
        expected = both_ways(lambda x, w: convolution.conv2d_native(x, w, *ARGUMENTS), wide)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours, theirs) <= 1e-14


def test_its_roundings_are_those_of_float32():
    """Sums and differences of four make each number's about twice as large."""
    given = arrays(8, (16, 16), 32, 64)
    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in given]
        exact = both_ways(lambda x, w: convolution.conv2d_native(x, w, *ARGUMENTS), wide)
    narrow = [jnp.asarray(x) for x in given]
    found = both_ways(winograd.conv3x3, narrow)
    plain = both_ways(lambda x, w: im2col.conv2d_im2col(x, w, *ARGUMENTS), narrow)
    for ours, others, oracle in zip(found, plain, exact, strict=True):
        assert relative(ours, oracle) <= 4 * max(relative(others, oracle), 2.0**-23)


@pytest.mark.parametrize(
    "dtype, n, c, stride, chosen",
    [
        ("float32", 32, 32, 1, True),
        ("float64", 32, 32, 1, False),
        ("float32", 1, 32, 1, False),
        ("float32", 32, 3, 1, False),
        ("float32", 32, 32, 2, False),
    ],
)
def test_where_it_serves(dtype, n, c, stride, chosen, monkeypatch):
    called = []
    monkeypatch.setattr(winograd, "conv3x3", lambda x, w: called.append(x.shape) or x)
    with jax.enable_x64(dtype == "float64"):
        images, kernel = jnp.zeros((n, 16, 16, c), dtype), jnp.zeros((3, 3, c, 8), dtype)
        convolution.conv2d(images, kernel, stride, 1)
    assert bool(called) == (chosen and platform.on_cpu())
