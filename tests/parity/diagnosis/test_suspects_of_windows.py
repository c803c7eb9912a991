"""Convolution, pooling, resampling and padding: one suspect gives what a faulty port gives."""

from collections.abc import Iterator
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from faults import Fault, array, one_suspect
from jax import lax
from legal_calls import draw
from torch.nn import functional as F

L, X, V = draw(2, 4, 9), draw(2, 4, 8, 6), draw(2, 4, 5, 6, 4)
WEIGHTS = {1: draw(4, 4, 3), 2: draw(4, 4, 3, 3), 3: draw(4, 4, 3, 3, 3)}
B = draw(4, seed=3)
LETTERS = "DHW"


def conv(x, w, padding: Any = "VALID", stride=1, dilation=1, groups=1, bias: Any = B):
    n = w.ndim - 2
    letters = LETTERS[-n:]
    numbers = "NC" + letters, "OI" + letters, "NC" + letters
    out = lax.conv_general_dilated(
        jnp.asarray(array(x)), jnp.asarray(array(w)), (stride,) * n, padding,
        rhs_dilation=(dilation,) * n, dimension_numbers=numbers, feature_group_count=groups,
    )  # fmt: skip
    return out if bias is None else out + jnp.asarray(array(bias)).reshape(-1, *[1] * n)


def padded(x, mode):
    border = [(0, 0), (0, 0), *[(1, 1)] * (x.ndim - 2)]
    return np.pad(array(x), border, mode=mode)  # pyright: ignore


def conv_faults() -> Iterator[tuple[Any, ...]]:
    for n, x, torchs in ((1, L, F.conv1d), (2, X, F.conv2d), (3, V, F.conv3d)):
        w, axes = WEIGHTS[n], tuple(range(2, n + 2))

        def call(x=x, w=w, torchs=torchs, **options):
            return lambda: torchs(x, w, B, **{"padding": 1, **options})

        ones = [(1, 1)] * n
        yield call(), lambda x=x, w=w: conv(x, w), "the padding is missing"
        yield call(), lambda x=x, w=w, o=ones: conv(x, w, o, bias=None), "the bias is missing"
        yield (
            call(),
            lambda x=x, w=w, o=ones, axes=axes: conv(x, np.flip(array(w), axes), o),
            "the kernel is flipped",
        )
        yield (
            call(),
            lambda x=x, w=w, o=ones: conv(x, array(w).swapaxes(0, 1), o),
            "input and output channels are swapped",
        )
        yield (
            call(),
            lambda x=x, w=w, n=n, o=ones: conv(
                x, array(w).reshape(*[3] * n, 4, 4).transpose(n + 1, n, *range(n)), o
            ),
            "by a reshape and not by a transposition",
        )
        for mode, name in (("reflect", "reflect"), ("edge", "replicate"), ("wrap", "circular")):
            port = lambda x=x, w=w, mode=mode: conv(padded(x, mode), w)  # noqa: E731
            yield call(), port, f"the padding is {name} and not zeros"
        yield (
            call(dilation=2, padding=2),
            lambda x=x, w=w, o=ones: conv(x, w, o),
            "the dilation is ignored",
        )
        yield (
            call(dilation=2, padding=1),  # after an earlier call has padded both sides
            lambda x=x, w=w: conv(x, w),
            "the dilation is ignored",
        )
        yield (
            call(),
            lambda x=x, w=w, n=n: conv(x, w, [(3, 1)] * n, dilation=2),
            "the dilation is 2 and not 1",
        )
        yield (
            call(stride=1, padding=0),
            lambda x=x, w=w: conv(x, w, stride=2),
            "the stride is 2 and not 1",
        )
    even = X[..., :6, :6]
    yield (
        lambda: F.conv2d(even, WEIGHTS[2], B, 2, 1),
        lambda: conv(even, WEIGHTS[2], "SAME", 2),
        "'SAME', with the odd pixel after",
    )
    yield (
        lambda: F.conv2d(even, WEIGHTS[2], B, 2, 0),
        lambda: conv(even, WEIGHTS[2], "SAME_LOWER", 2),
        "'SAME', with the odd pixel before",
    )
    yield (
        lambda: F.conv2d(X, WEIGHTS[2], B),
        lambda: conv(X, array(WEIGHTS[2]).swapaxes(2, 3)),
        "height and width are swapped",
    )
    yield (
        lambda: F.conv3d(V, WEIGHTS[3], B),
        lambda: conv(V, array(WEIGHTS[3]).swapaxes(2, 4)),
        "depth and width are swapped",
    )
    six, grouped = draw(2, 6, 5, 5), draw(9, 2, 3, 3)

    def by_group(parts):
        w = array(grouped)
        return np.stack(
            [array(conv(part, w[3 * i : 3 * i + 3], bias=None)) for i, part in enumerate(parts)]
        )

    yield (
        lambda: F.conv2d(six, grouped, groups=3),
        lambda: np.concatenate(by_group(array(six)[:, i::3] for i in range(3)), 1),
        "each group takes every n-th channel",
    )
    yield (
        lambda: F.conv2d(six, grouped, groups=3),
        lambda: (
            by_group(array(six)[:, 2 * i : 2 * i + 2] for i in range(3))
            .transpose(1, 2, 0, 3, 4)
            .reshape(2, 9, 3, 3)
        ),
        "the output channels of the groups are interleaved",
    )


def up(x, w, padding, stride=2, turned=True):
    """`lax.conv_transpose` of PyTorch's weight [in, out, ...]; it turns and flips if it must."""
    n = w.ndim - 2
    letters = LETTERS[-n:]
    kernel = ("OI" if turned else "IO") + letters
    numbers = "NC" + letters, kernel, "NC" + letters
    out = lax.conv_transpose(
        jnp.asarray(array(x)), jnp.asarray(array(w)), (stride,) * n, padding,
        dimension_numbers=numbers, transpose_kernel=turned,
    )  # fmt: skip
    return out + jnp.asarray(array(B)).reshape(-1, *[1] * n)


def transposed_faults() -> Iterator[tuple[Any, ...]]:
    torchs = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
    for n, x in ((1, L), (2, X), (3, V)):
        w, function = WEIGHTS[n], torchs[n]

        def call(x=x, w=w, function=function, **options):
            return lambda: function(x, w, B, **{"stride": 2, **options})

        yield (
            call(padding=1, output_padding=1),
            lambda x=x, w=w: up(x, w, "SAME"),
            "cropped as by 'SAME'",
        )
        yield (
            call(padding=1),
            lambda x=x, w=w, n=n: up(x, w, [(1, 1)] * n, turned=False),
            "the kernel is flipped",
        )
        yield (
            call(),
            lambda x=x, w=w: up(x, array(w).swapaxes(0, 1), "VALID"),
            "channels are swapped",
        )
        yield (
            call(padding=1, output_padding=1),
            lambda x=x, w=w, n=n: up(x, w, [(1, 1)] * n),
            "the output_padding is missing",
        )
    four = draw(4, 4, 4, 4)
    yield (
        lambda: F.conv_transpose2d(X, four, B, 2, 1),
        lambda: up(X, four, [(1, 1)] * 2),
        "the padding is the dilated input's",
    )
    yield (
        lambda: F.conv_transpose2d(X, WEIGHTS[2], B, 3, 0, 1),
        lambda: up(X, WEIGHTS[2], [(3, 2)] * 2, stride=3),
        "the output_padding is on the other side",
    )


def pooled(x, function, bins):
    """[n, c, l] by bins."""
    return np.stack([function(array(x)[..., i:j], axis=-1) for i, j in bins], -1)


def flax_pool(x, pool, window, stride, padding, **options):
    """Flax's pooling of [n, c, h, w]."""
    moved = jnp.moveaxis(jnp.asarray(array(x)), 1, -1)
    out = pool(moved, (window,) * 2, strides=(stride,) * 2, padding=padding, **options)
    return jnp.moveaxis(out, -1, 1)


def pooling_faults() -> Iterator[tuple[Any, ...]]:
    eleven = draw(2, 3, 11)
    for bins, part in (
        ([(0, 5), (3, 8), (6, 11)], "all windows have one size"),
        ([(0, 3), (3, 6), (6, 9)], "left over by the sizes' ratio are cut off"),
        ([(0, 3), (3, 7), (7, 11)], "the bins do not overlap"),
    ):
        for call, function in ((F.adaptive_avg_pool1d, np.mean), (F.adaptive_max_pool1d, np.max)):
            yield (
                lambda call=call: call(eleven, 3),
                lambda function=function, bins=bins: pooled(eleven, function, bins),
                part,
            )
    yield (
        lambda: F.adaptive_avg_pool2d(X, 1),
        lambda: array(X).max((2, 3), keepdims=True),
        "the maximum in the place of the average",
    )
    yield (
        lambda: F.avg_pool2d(X, 3, 2, 1, count_include_pad=False),
        lambda: flax_pool(X, flax.linen.avg_pool, 3, 2, [(1, 1)] * 2),
        "the padding is counted in the average",
    )
    yield (
        lambda: F.avg_pool2d(X, 3, 2, 1),
        lambda: flax_pool(X, flax.linen.avg_pool, 3, 2, "SAME", count_include_pad=False),
        "'SAME', not counted in the average",
    )
    yield (
        lambda: F.avg_pool2d(X, 3, 2, 1),
        lambda: flax_pool(X, flax.linen.avg_pool, 3, 2, "SAME"),
        "the padding is 'SAME' and not symmetric",
    )
    wide = np.pad(L[..., :8], [(0, 0), (0, 0), (1, 2)])
    yield (
        lambda: F.avg_pool1d(L[..., :8], 3, 2, 1, ceil_mode=True),
        lambda: pooled(wide, np.sum, [(i, i + 3) for i in range(0, 10, 2)]) / 3,
        "the divisor is the whole window",
    )
    yield (
        lambda: F.max_pool2d(X, 3, 2, 1),
        lambda: flax_pool(X, flax.linen.max_pool, 3, 2, "SAME"),
        "the padding is 'SAME' and not symmetric",
    )
    yield (
        lambda: F.max_pool2d(X - 3, 3, 2, 1),
        lambda: flax_pool(np.pad(X - 3, [(0, 0), (0, 0), (1, 1), (1, 1)]), flax.linen.max_pool,
                          3, 2, "VALID"),
        "zeros and not minus infinity",
    )  # fmt: skip
    yield (
        lambda: F.max_pool1d(L, 3, 3),
        lambda: pooled(L, np.mean, [(0, 3), (3, 6), (6, 9)]),
        "average pooling",
    )
    yield (
        lambda: F.lp_pool1d(L, 2, 3),
        lambda: np.sqrt(pooled(L**2, np.mean, [(0, 3), (3, 6), (6, 9)])),
        "the average and not the sum is under the root",
    )


def resized(x, sizes, method, antialias=True):
    return jax.image.resize(jnp.asarray(array(x)), (*x.shape[:2], *sizes), method, antialias)


def naive_bilinear(x, sizes, place):
    """Bilinear from four pixels, at `place(i, size, out)` of each axis."""
    x = array(x)
    for axis, out in zip((2, 3), sizes, strict=True):
        size = x.shape[axis]
        at = np.clip([place(i, size, out) for i in range(out)], 0, size - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def resampling_faults() -> Iterator[tuple[Any, ...]]:
    larger, smaller = (13, 11), (5, 3)

    def bilinear(sizes, **options):
        return lambda: F.interpolate(X, sizes, mode="bilinear", **options)

    yield (
        bilinear(larger, align_corners=True),
        lambda: resized(X, larger, "linear"),
        "align_corners is False and not True",
    )
    yield bilinear(smaller), lambda: resized(X, smaller, "linear"), "smoothed as jax.image.resize"
    yield (
        bilinear(larger),
        lambda: naive_bilinear(X, larger, lambda i, size, out: i * size / out),
        "scaled from the corner",
    )
    yield (
        bilinear(larger),
        lambda: naive_bilinear(X, larger, lambda i, size, out: i * (size - 1) / (out - 1)),
        "align_corners is True and not False",
    )
    bicubic = lambda: F.interpolate(X, larger, mode="bicubic")  # noqa: E731
    yield bicubic, lambda: resized(X, larger, "linear"), "bilinear and not bicubic"
    yield (
        lambda: F.interpolate(X, smaller, mode="bicubic"),
        lambda: resized(X, smaller, "cubic", antialias=False),
        "Keys's with a = -0.5",
    )
    yield (
        lambda: F.interpolate(X, smaller, mode="bicubic"),
        lambda: resized(X, smaller, "cubic"),
        "smoothed as jax.image.resize",
    )
    yield bilinear(larger), lambda: resized(X, larger, "lanczos3"), "lanczos3"
    yield (
        lambda: F.interpolate(X, larger),
        lambda: resized(X, larger, "nearest"),
        "nearest-exact and not nearest",
    )
    yield (
        lambda: F.interpolate(X, scale_factor=2),
        lambda: np.tile(array(X), (1, 1, 2, 2)),
        "tiled and not repeated",
    )
    yield (
        lambda: F.interpolate(L, scale_factor=1.3, mode="linear"),
        lambda: resized(L, (11,), "linear"),
        "the ratio of the sizes",
    )


def padding_faults() -> Iterator[tuple[Any, ...]]:
    border = [(0, 0), (0, 0), (1, 1), (2, 2)]
    call = lambda: F.pad(X, (2, 2, 1, 1), mode="reflect")  # noqa: E731
    for mode, name in (("constant", "zeros"), ("edge", "replicate"), ("wrap", "circular"),
                       ("symmetric", "symmetric")):  # fmt: skip
        port = lambda mode=mode: np.pad(array(X), border, mode=mode)  # pyright: ignore  # noqa: E731
        yield call, port, f"the padding is {name} and not reflect"
    zeros = lambda: F.pad(X, (2, 0, 1, 1))  # noqa: E731
    for sides, part in (
        ([(1, 1), (0, 2)], "on the other side"),
        ([(2, 0), (1, 1)], "axes are in the other order"),
    ):
        yield zeros, lambda sides=sides: np.pad(array(X), [(0, 0), (0, 0), *sides]), part
    yield (
        lambda: F.pad(X, (3, 0)),
        lambda: np.pad(array(X), [(0, 0), (0, 0), (0, 0), (1, 2)]),
        "the same on both sides",
    )
    yield (
        lambda: F.pad(X, (1, 1, 1, 1)),
        lambda: np.pad(array(X), [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1),
        "the padding is 1 and not 0",
    )


FAULTS = [
    Fault(*fault)
    for group in (
        conv_faults, transposed_faults, pooling_faults, resampling_faults, padding_faults,
    )
    for fault in group()
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.part)
def test_one_suspect_gives_what_a_faulty_port_gives(fault):
    torch.manual_seed(0)
    one_suspect(fault)
