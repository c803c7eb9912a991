"""How convolution, max-pooling and normalisation reach the hardware: one function each.

On a CPU a convolution is im2col and one matrix product: its gradients are then products too, and
keep their speed inside `lax.scan`, where those of `lax.conv` do not. Fewer products are taken for a
3x3 convolution of many pixels, by Winograd's algorithm, and of many maps of 2x2, as a dense layer.
Elsewhere the vendor's convolution serves.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import lax

from jax_impl import dense_conv, winograd

IN_PLACE = "xla_cpu_copy_insertion_use_region_analysis"

WINOGRAD_TILES, WINOGRAD_CHANNELS = 512, 16
"""Of 2x2 pixels, and of the input: with fewer the transforms cost more than they save."""

MANY_MAPS = 64
"""With fewer, writing the matrix of a dense product costs more than it saves."""

FEW_CHANNELS = 8
"""Up to so many, taps are taken by whole rows: of one alone there is too little to copy."""


def on_cpu() -> bool:
    """Whether what is traced now will run on the CPU by JAX's configuration."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if device is None:
        return jax.default_backend() == "cpu"
    return getattr(device, "platform", device) == "cpu"


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

    Returns:
        [n, (h + 2 padding - dilation (kh - 1) - 1) // stride + 1, the same of w and kw, o]
    """
    options = stride, padding, dilation, groups
    if not on_cpu():
        return conv2d_native(images, kernel, *options)
    if _by_dense_product(images, kernel, options):
        return dense_conv.conv2d(images, kernel)
    if _by_winograd(images, kernel, options):
        return winograd.conv3x3(images, kernel)
    return conv2d_im2col(images, kernel, *options)


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
    """Whether a CPU is faster by it; float64 is for exactness, and Winograd's roundings are about
    twice as large."""
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


def conv2d_im2col(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int, groups: int
) -> jax.Array:
    """`conv2d` as one matrix product, batched over the groups; taps that only ever meet padding
    are left out."""
    n, h, w, c = images.shape
    kh, kw, _, o = kernel.shape
    out_h, out_w = (
        (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for size, taps in ((h, kh), (w, kw))
    )
    rows = _live(kh, h, out_h, stride, padding, dilation)
    columns = _live(kw, w, out_w, stride, padding, dilation)
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    weights = kernel[rows.start : rows.stop, columns.start : columns.stop]
    if groups == dilation == 1 and len(columns) > stride > 1 and c <= FEW_CHANNELS:
        taps = _taps_by_rows(padded, rows, columns, out_h, out_w, stride)
    else:
        taps = [
            _window(padded, i * dilation, j * dilation, out_h, out_w, stride)
            for i in rows
            for j in columns
        ]
    if groups == 1:
        patches = jnp.concatenate(taps, axis=-1) if len(taps) > 1 else taps[0]
        flat = patches.reshape(n * out_h * out_w, -1) @ weights.reshape(-1, o)
        return flat.reshape(n, out_h, out_w, o)
    patches = jnp.stack(taps, axis=-2).reshape(-1, len(taps), groups, c // groups)
    weights = weights.reshape(len(taps), c // groups, groups, o // groups)
    flat = jnp.einsum("ptgc,tcgo->pgo", patches, weights)
    return flat.reshape(n, out_h, out_w, o)


def _live(size: int, extent: int, out: int, stride: int, padding: int, dilation: int) -> range:
    """The taps along one axis of the kernel that meet a pixel at some output position."""
    live = [
        tap
        for tap in range(size)
        if any(
            0 <= tap * dilation - padding + stride * position < extent for position in range(out)
        )
    ]
    return range(live[0], live[-1] + 1)


def _window(padded: jax.Array, i: int, j: int, out_h: int, out_w: int, stride: int) -> jax.Array:
    """What a tap at offset (i, j) meets: [n, out_h, out_w, c]."""
    n, _, _, c = padded.shape
    stop = (n, i + (out_h - 1) * stride + 1, j + (out_w - 1) * stride + 1, c)
    return lax.slice(padded, (0, i, j, 0), stop, (1, stride, stride, 1))


def _taps_by_rows(
    padded: jax.Array, rows: range, columns: range, out_h: int, out_w: int, stride: int
) -> list[jax.Array]:
    """What the taps of each row of the kernel meet: [n, out_h, out_w, columns c], in `rows`.

    Pixels of one stride lie together in memory: a row's taps are copied as runs of that length, for
    all rows of pixels at once.
    """
    n, h, _, c = padded.shape
    across = out_w + (len(columns) - 1) // stride
    padded = padded[:, :, columns.start : columns.start + across * stride]
    missing = across * stride - padded.shape[2]
    runs = jnp.pad(padded, ((0, 0), (0, 0), (0, missing), (0, 0))).reshape(n, h, across, -1)
    line = [
        lax.slice(runs, (0, 0, j, 0), (n, h, j + out_w, min(stride, len(columns) - j * stride) * c))
        for j in range(-(-len(columns) // stride))
    ]
    met = jnp.concatenate(line, axis=-1)
    return [lax.slice_in_dim(met, i, i + (out_h - 1) * stride + 1, stride, axis=1) for i in rows]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool2d(images: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """`torch.nn.functional.max_pool2d` on [n, h, w, c], its gradient included.

    Of equal maxima the first in window order gets the whole gradient, as in PyTorch. No
    select-and-scatter, which costs a CPU more than the rest of a small network's step.
    """
    return _max_pool(images, window, stride, padding)[0]


def _max_pool(
    images: jax.Array, window: int, stride: int, padding: int
) -> tuple[jax.Array, jax.Array]:
    """The maxima, and the position within the window of the first of each, as int8."""
    _, h, w, _ = images.shape
    out_h, out_w = ((size + 2 * padding - window) // stride + 1 for size in (h, w))
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, border, constant_values=-jnp.inf)
    best = _window(padded, 0, 0, out_h, out_w, stride)
    first = jnp.zeros(best.shape, jnp.int8)
    for tap in range(1, window * window):
        value = _window(padded, tap // window, tap % window, out_h, out_w, stride)
        better = (value > best) | (value != value)  # a NaN wins, as in PyTorch
        best, first = jnp.where(better, value, best), jnp.where(better, jnp.int8(tap), first)
    return best, first


def _max_pool_forward(images: jax.Array, window: int, stride: int, padding: int):
    best, first = _max_pool(images, window, stride, padding)
    return best, (first, images.shape)


def _max_pool_backward(window: int, stride: int, padding: int, saved, gradient: jax.Array):
    """Pixels at the same place of their stride are met by the same taps: a sum for each place."""
    first, (n, h, w, c) = saved
    first, gradient = kept(first), kept(gradient)
    out_h, out_w = gradient.shape[1:3]
    down, across = -(-(h + 2 * padding) // stride), -(-(w + 2 * padding) // stride)
    zero = jnp.zeros((), gradient.dtype)

    def place(row: int, column: int) -> jax.Array:
        total = jnp.zeros((n, down, across, c), gradient.dtype)
        for i in range(row, window, stride):
            for j in range(column, window, stride):
                above, left = i // stride, j // stride
                border = (above, down - out_h - above, 0), (left, across - out_w - left, 0)
                met = jnp.where(first == i * window + j, gradient, zero)
                total += lax.pad(met, zero, ((0, 0, 0), *border, (0, 0, 0)))
        return total

    rows = [jnp.stack([place(i, j) for j in range(stride)], 3) for i in range(stride)]
    total = jnp.stack(rows, 2).reshape(n, stride * down, stride * across, c)
    return (total[:, padding : padding + h, padding : padding + w],)


max_pool2d.defvjp(_max_pool_forward, _max_pool_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`torch.nn.functional.batch_norm` in training, on [n, h, w, c].

    The gradient is written down (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167,
    section 3), in fewer passes over memory than autodiff makes.

    Returns:
        the normalised x, and by channel its mean and biased variance over n, h and w.
    """
    return _batch_norm_forward(x, scale, bias, eps)[0]


def _batch_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float):
    mean = x.mean((0, 1, 2))
    var = jnp.square(x - mean).mean((0, 1, 2))
    inverse = lax.rsqrt(var + eps)
    return ((x - mean) * (inverse * scale) + bias, mean, var), (x, scale, mean, inverse)


def _batch_norm_backward(eps: float, saved, gradients: tuple[jax.Array, jax.Array, jax.Array]):
    x, scale, mean, inverse = saved
    by_y, by_mean, by_var = gradients
    count = x.size // x.shape[-1]
    by_bias = by_y.sum((0, 1, 2))
    by_scale = (by_y * ((x - mean) * inverse)).sum((0, 1, 2))
    by_x = (inverse * scale) * (by_y - by_bias / count - (x - mean) * (inverse * by_scale / count))
    by_x += by_mean / count + (x - mean) * (2 / count * by_var)
    by_x = kept(by_x)  # up to 16 sums read it, in the gradient of the convolution before
    return by_x, by_scale.astype(scale.dtype), by_bias.astype(scale.dtype)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def kept(array: jax.Array) -> jax.Array:
    """The same array, in memory: else XLA on a CPU computes it again, from all that it comes from,
    for each of its readers. That a branch is never taken it does not see."""
    if not on_cpu():
        return array
    width = 8 * array.dtype.itemsize
    first = array[(0,) * array.ndim]
    ones = lax.population_count(lax.bitcast_convert_type(first, jnp.dtype(f"uint{width}")))
    return lax.cond(ones > width, lambda x: -x, lambda x: x, array)


def compiler_options() -> dict[str, bool]:
    """For `jax.jit`: on a CPU XLA then sees that a step may update its weights in place, and does
    not copy them first."""
    return {IN_PLACE: True} if on_cpu() and _takes(IN_PLACE) else {}


@cache
def _takes(option: str) -> bool:
    """Whether this XLA has the option: they come and go."""
    try:
        jax.jit(lambda: 0, compiler_options={option: True}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
