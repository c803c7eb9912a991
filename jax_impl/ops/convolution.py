"""How a convolution reaches the hardware.

On a CPU a convolution is im2col and one matrix product: its gradients are then products too, and
keep their speed inside `lax.scan`, where those of `lax.conv` do not. Fewer products are taken for a
3x3 convolution of many pixels, by Winograd's algorithm, and of many maps of 2x2, as a dense layer.
Elsewhere the vendor's convolution serves, but for a kernel with taps that only ever meet padding:
a product leaves them out.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jax_impl.ops import dense_conv, im2col, platform, winograd

WINOGRAD_TILES, WINOGRAD_CHANNELS = 512, 16
"""Of 2x2 pixels, and of the input: with fewer the transforms cost more than they save."""

MANY_MAPS = 64
"""With fewer, writing the matrix of a dense product costs more than it saves."""


def conv2d(
    images: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> jax.Array:
    """Cross-correlation as in `torch.nn.functional.conv2d`, with symmetric zero padding.

    Args:
        images: [n, h, w, c].
        kernel: [kh, kw, c / groups, o], of the same dtype.
        stride: pixels from one place of the kernel to the next, on both axes.
        padding: pixels of zeros on each side.
        dilation: pixels from one tap to the next, on both axes.
        groups: into so many parts the channels are divided, each convolved by itself.

    Returns:
        [n, (h + 2 padding - dilation (kh - 1) - 1) // stride + 1, the same of w and kw, o]
    """
    options = stride, padding, dilation, groups
    if not platform.on_cpu():
        dead = _has_dead_taps(images, kernel, options)
        return (im2col.conv2d_im2col if dead else conv2d_native)(images, kernel, *options)
    if _by_dense_product(images, kernel, options):
        return dense_conv.conv2d(images, kernel)
    if _by_winograd(images, kernel, options):
        return winograd.conv3x3(images, kernel)
    return im2col.conv2d_im2col(images, kernel, *options)


def _has_dead_taps(images: jax.Array, kernel: jax.Array, options: tuple[int, ...]) -> bool:
    """Whether some tap of a kernel without groups only ever meets padding."""
    stride, padding, dilation, groups = options
    live = im2col.live_taps(images, kernel, stride, padding, dilation)
    return groups == 1 and tuple(len(taps) for taps, _ in live) != kernel.shape[:2]


def _by_dense_product(images: jax.Array, kernel: jax.Array, options: tuple[int, ...]) -> bool:
    """Whether a CPU is faster by it; of maps of one pixel im2col makes the same product."""
    n, h, w, _ = images.shape
    stride, padding, dilation, groups = options
    return (
        stride == dilation == groups == 1
        and dense_conv.covered(images, kernel, padding)
        and h * w > 1
        and n >= MANY_MAPS
    )


def _by_winograd(images: jax.Array, kernel: jax.Array, options: tuple[int, ...]) -> bool:
    """Whether a CPU is faster by it.

    float64 is for exactness, and Winograd's roundings are about twice as large.
    """
    n, h, w, c = images.shape
    tiles = n * -(-h // 2) * -(-w // 2)
    return (
        options == (1, 1, 1, 1)
        and kernel.shape[:2] == (3, 3)
        and images.dtype == jnp.float32
        and tiles >= WINOGRAD_TILES
        and c >= WINOGRAD_CHANNELS
    )


def conv2d_native(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int, groups: int
) -> jax.Array:
    """`conv2d` by `lax.conv_general_dilated`."""
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
