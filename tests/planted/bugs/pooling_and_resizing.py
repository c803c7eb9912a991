"""Pooling at the border, interpolation, pixel shuffle, padding modes."""

from functools import partial

from planted.bug import bug, fault
from planted.nets import (
    densenet,
    segmentation,
    siamese,
    super_resolution,
)
from planted.nets.resizing import bilinear

BUGS = (
    bug(
        "corners aligned",
        "segmentation",
        partial(segmentation.make, resize=partial(bilinear, align_corners=True)),
        "forward",
        fault("resize", "align_corners", "corner"),
    ),
    bug(
        "no half pixels",
        "segmentation",
        partial(segmentation.make, resize=partial(bilinear, half_pixels=False)),
        "forward",
        fault("resize", "half", "pixel", "coordinate", "centre", "center", "asymmetric"),
    ),
    bug(
        "adaptive pooling by equal windows",
        "siamese",
        partial(siamese.make, adaptive=siamese.adaptive_of_equal_windows),
        "forward",
        fault("adaptive", "adaptive", "bins", "window", "kernel size", "stride"),
    ),
    bug(
        "ceil_mode forgotten",
        "siamese",
        partial(siamese.make, ceil_mode=False),
        "forward",
        fault("pool", "ceil", "last window", "rounded down", "floor"),
    ),
    bug(
        "padding not counted in the average",
        "densenet",
        partial(densenet.make, count_padding=False),
        "forward",
        fault("pool", "count", "include_pad"),
    ),
    bug(
        "pixel shuffle with the colour last",
        "super_resolution",
        partial(super_resolution.make, shuffle=super_resolution.shuffle_of_depth_to_space),
        "forward",
        fault("shuffle", "shuffle", "order", "channels", "depth"),
    ),
    bug(
        "symmetric in the place of a reflection",
        "super_resolution",
        partial(super_resolution.make, pad="symmetric"),
        "forward",
        fault("head", "symmetric", "reflect", "edge", "padding mode", "padding_mode"),
    ),
)
