"""Paddings, strides, dilations, kernels turned round or put in askew."""

from functools import partial

from planted.bug import bug, fault, inside
from planted.nets import conv3d, convnext, mobilenet_v2, resnet, senet, tcn, unet

BLOCKS = "block1 block2 block3"


def height_and_width_exchanged(state):
    """Depthwise kernels as [w, h, 1, c]."""
    return convnext.to_flax({k: v.swapaxes(-1, -2) if v.ndim == 4 else v for k, v in state.items()})


BUGS = (
    bug(
        "transposed convolution without its kernel turned round",
        "unet",
        partial(unet.make, up=partial(unet.transposed, flip=False)),
        "forward",
        fault("up", "flip", "mirror", "turned", "rotat", "180", "revers"),
    ),
    bug(
        "output padding at the start",
        "unet",
        partial(unet.make, up=partial(unet.transposed, extra_first=True)),
        "forward",
        fault("up", "output padding", "output_padding", "pad", "shift", "pixel"),
    ),
    bug(
        "padding after the sequence",
        "tcn",
        partial(tcn.make, pad="right"),
        "forward",
        fault(inside(BLOCKS, "conv"), "pad", "causal", "shift", "after"),
    ),
    bug(
        "dilations that do not double",
        "tcn",
        partial(tcn.make, dilations=(1, 2, 2)),
        "forward",
        fault(inside("block3", "conv"), "dilat"),
    ),
    bug(
        "same padding of a strided 3d convolution",
        "conv3d",
        partial(conv3d.make, padding="SAME"),
        "forward",
        fault("conv1", "same", "pad"),
    ),
    bug(
        "3d kernels with time and width exchanged",
        "conv3d",
        partial(conv3d.make, convert=conv3d.to_flax_width_first),
        "forward",
        fault("conv1 conv2", "transpos", "axes", "exchang", "swap", "kernel & order"),
    ),
    bug(
        "same padding of a strided depthwise convolution",
        "mobilenet_v2",
        partial(mobilenet_v2.make, padding="SAME"),
        "forward",
        fault(inside("block1", "depthwise"), "same", "pad"),
    ),
    bug(
        "stride in the second convolution of the block",
        "resnet",
        partial(resnet.make, stride_second=True),
        "forward",
        fault(inside("block2", "conv1", "conv2"), "stride"),
    ),
    bug(
        "groups of every second channel",
        "senet",
        partial(senet.make, grouped=senet.grouped_strided),
        "forward",
        fault("grouped", "group", "channels & order", "interleav", "strided"),
    ),
)
