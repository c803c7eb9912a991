"""Interpolation: what porting it tends to get wrong."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from parity.diagnosis.suspects.call import Call, Suspects
from parity.diagnosis.suspects.sizes import each

MODES = {
    1: ("linear", "nearest", "nearest-exact", "area"),
    2: ("bilinear", "nearest", "nearest-exact", "bicubic", "area"),
    3: ("trilinear", "nearest", "nearest-exact", "area"),
}
LINEAR = "linear", "bilinear", "trilinear"


def interpolate_suspects(call: Call) -> Suspects:
    """Another mode, place of the pixels' centres, kernel, or smoothing where it shrinks."""
    a = call.given
    x, mode, aligned = a["input"], a["mode"], bool(a["align_corners"])
    n = x.ndim - 2
    if n not in MODES:
        return
    smooth = mode in (*LINEAR, "bicubic")
    sizes = _sizes(a, x.shape[2:])
    if smooth:
        yield (
            f"align_corners is {not aligned} and not {aligned}",
            call.with_(align_corners=not aligned),
        )
    for other in MODES[n]:
        if other != mode:
            linear = other in (*LINEAR, "bicubic")
            yield (
                f"the interpolation is {other} and not {mode}",
                call.with_(mode=other, align_corners=False if linear else None, antialias=False),
            )
    if a["scale_factor"] is not None and not a["recompute_scale_factor"]:
        yield (
            "the scale is the ratio of the sizes and not the scale factor given",
            call.with_(recompute_scale_factor=True),
        )

    def resized(place: Place, kernel: str, antialias: bool = False) -> Callable[[], torch.Tensor]:
        return lambda: resize(x, sizes, place, kernel, antialias)

    kernel = "cubic" if mode == "bicubic" else "linear"
    shrinks = any(out < size for out, size in zip(sizes, x.shape[2:], strict=True))
    if a["antialias"]:
        yield "it is not smoothed where it shrinks", call.with_(antialias=False)
    elif smooth and not aligned and shrinks:
        yield (
            "it is smoothed as jax.image.resize does where it shrinks",
            resized(half_pixel, kernel, True),
        )
    if mode == "bicubic" and not a["antialias"]:
        yield (
            "the cubic kernel is Keys's with a = -0.5, as jax.image.resize has it, and not -0.75",
            resized(half_pixel, "cubic"),
        )
    if smooth:
        yield (
            "the coordinates are scaled from the corner and not from half-pixel centres",
            resized(from_corner, kernel),
        )
    elif mode == "nearest":
        yield "the nearest pixel is that of aligned corners", resized(corners, "nearest")
    yield "the pixels are tiled and not repeated", lambda: _tiled(x, sizes)
    if "nearest" not in mode:
        yield "the interpolation is lanczos3", resized(half_pixel, "lanczos3", True)


def _sizes(a: dict[str, Any], sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes of the output."""
    n = len(sizes)
    if a["size"] is not None:
        return each(a["size"], n)
    scale = a["scale_factor"]
    scales = tuple(scale) if isinstance(scale, list | tuple) else (scale,) * n
    return tuple(int(size * float(s)) for size, s in zip(sizes, scales, strict=True))


def _tiled(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    for axis, size in enumerate(sizes, start=2):
        index = torch.arange(size, device=x.device) % x.shape[axis]
        x = x.index_select(axis, index)
    return x


Place = Callable[[torch.Tensor, int, int], torch.Tensor]
"""The place in the input, in pixels, of pixels of the output; with both sizes."""


def half_pixel(i: torch.Tensor, size: int, out: int) -> torch.Tensor:
    """Centres of pixels at halves."""
    return (i + 0.5) * (size / out) - 0.5


def from_corner(i: torch.Tensor, size: int, out: int) -> torch.Tensor:
    """Asymmetric: TensorFlow 1's resize."""
    return i * (size / out)


def corners(i: torch.Tensor, size: int, out: int) -> torch.Tensor:
    """The first and last pixels are those of the input."""
    return i * ((size - 1) / max(out - 1, 1))


def _cubic(t: torch.Tensor) -> torch.Tensor:
    """Keys's cubic kernel with a = -0.5."""
    t = t.abs()
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t >= 2, torch.zeros_like(t), torch.where(t >= 1, far, near))


def _lanczos3(t: torch.Tensor) -> torch.Tensor:
    inside = torch.sinc(t) * torch.sinc(t / 3)
    return torch.where(t.abs() < 3, inside, torch.zeros_like(t))


def _triangle(t: torch.Tensor) -> torch.Tensor:
    return (1 - t.abs()).clamp(min=0)


KERNELS = {"linear": _triangle, "cubic": _cubic, "lanczos3": _lanczos3}


def resize(
    x: torch.Tensor, sizes: tuple[int, ...], place: Place, kernel: str, antialias: bool
) -> torch.Tensor:
    """Interpolation of the axes after the second by `jax.image.scale_and_translate`'s formula.

    Weights outside the image are left out and the others brought to a sum of one.
    """
    for axis, out in enumerate(sizes, start=2):
        size = x.shape[axis]
        at = place(torch.arange(out, dtype=x.dtype, device=x.device), size, out)
        at = at.clamp(0, size - 1) if place is not half_pixel else at
        if kernel == "nearest":
            x = x.index_select(axis, (at + 0.5).floor().long().clamp(0, size - 1))
            continue
        spread = max(size / out, 1.0) if antialias else 1.0
        pixels = torch.arange(size, dtype=x.dtype, device=x.device)
        weights = KERNELS[kernel]((at[:, None] - pixels) / spread)
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total.abs() > 1e-12, total, torch.ones_like(total))
        x = (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return x


def grid_sample_suspects(call: Call) -> Suspects:
    """Another place of the corners, mode or padding; x and y exchanged."""
    a = call.given
    aligned = bool(a["align_corners"])
    yield (
        f"align_corners is {not aligned} and not {aligned}",
        call.with_(align_corners=not aligned),
    )
    if call.name == "affine_grid":
        return
    grid = a["grid"]
    yield "x and y of the grid are exchanged", call.with_(grid=lambda: grid.flip(-1))
    for key, others in (
        ("padding_mode", ("zeros", "border", "reflection")),
        ("mode", ("bilinear", "nearest", "bicubic")),
    ):
        for other in others:
            if other != a[key]:
                yield f"the {key} is {other} and not {a[key]}", call.with_(**{key: other})
    yield (
        "the grid is in pixels and not from -1 to 1",
        call.with_(grid=lambda: _in_pixels(grid, a["input"], aligned)),
    )


def _in_pixels(grid: torch.Tensor, x: torch.Tensor, aligned: bool) -> torch.Tensor:
    """The grid that gives, by PyTorch's rule, the pixels whose numbers the grid has."""
    sizes = torch.tensor(list(reversed(x.shape[2:])), dtype=grid.dtype, device=grid.device)
    return 2 * grid / (sizes - 1) - 1 if aligned else (2 * grid + 1) / sizes - 1
