"""torchvision's ResNet family, attribute for attribute, and the same nets without shortcuts.

The family is He et al.'s (2015, https://arxiv.org/abs/1512.03385). ResNeXt (Xie et al. 2017,
https://arxiv.org/abs/1611.05431) groups the 3x3 convolutions, the wide nets (Zagoruyko and
Komodakis 2016, https://arxiv.org/abs/1605.07146) have more channels in them. As in torchvision, a
bottleneck's stride is on its 3x3 convolution (ResNet v1.5).
"""

import math
from collections.abc import Iterator

import flax.nnx as nnx
import jax
import numpy as np

from jax_impl.models.layers import BatchNorm2d, Conv2d, Linear, Sequential
from jax_impl.models.registry import Entry, ResNetOptions, StemOptions
from jax_impl.ops import pooling
from jax_impl.torch_random.generator import Generator


class BasicBlock(nnx.Module):
    """relu(F(x) + x), F two 3x3 convolutions."""

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, width: int, stride: int, dilation: int, groups: int,
        downsample: Sequential | None, rng: Generator | None,
    ):  # fmt: skip
        self.conv1 = Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = downsample

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[n, h, w, inplanes] -> [n, ceil(h / stride), ceil(w / stride), planes]."""
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train) + shortcut)

    @property
    def last_norm(self) -> BatchNorm2d:
        """The block's last normalisation, whose scale `zero_init_residual` makes zero."""
        return self.bn2


class PlainBlock(BasicBlock):
    """relu(F(x)): the basic block without its shortcut."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.downsample = None

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """As the basic block's, without the shortcut."""
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train))


class Bottleneck(nnx.Module):
    """relu(F(x) + x), F a 1x1, a 3x3 (perhaps grouped or dilated) and a 1x1 convolution."""

    expansion = 4

    def __init__(
        self, inplanes: int, planes: int, width: int, stride: int, dilation: int, groups: int,
        downsample: Sequential | None, rng: Generator | None,
    ):  # fmt: skip
        out = planes * self.expansion
        self.conv1 = Conv2d(inplanes, width, 1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = Conv2d(
            width, width, 3, stride=stride, padding=dilation, dilation=dilation, groups=groups,
            bias=False, rng=rng,
        )  # fmt: skip
        self.bn2 = BatchNorm2d(width)
        self.conv3 = Conv2d(width, out, 1, bias=False, rng=rng)
        self.bn3 = BatchNorm2d(out)
        self.downsample = downsample

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[n, h, w, inplanes] -> [n, ceil(h / stride), ceil(w / stride), 4 planes]."""
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        x = jax.nn.relu(self.bn2(self.conv2(x), train))
        return jax.nn.relu(self.bn3(self.conv3(x), train) + shortcut)

    @property
    def last_norm(self) -> BatchNorm2d:
        """The block's last normalisation, whose scale `zero_init_residual` makes zero."""
        return self.bn3


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck, "plain": PlainBlock}


class ResNet(nnx.Module):
    """torchvision.models.ResNet: stem, four stages, global average, linear."""

    head = ("fc",)

    def __init__(self, entry: Entry, options: ResNetOptions | StemOptions, rng: Generator | None):
        block = BLOCKS[entry.block]
        dilate = getattr(options, "replace_stride_with_dilation", (False,) * 3)
        first = getattr(options, "width", 64)
        self.conv1 = Conv2d(3, first, 7, stride=2, padding=3, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(first)
        inplanes, dilation, blocks = first, 1, []
        for stage, depth in enumerate(entry.depths):
            planes, modules = first * 2**stage, []
            width = int(planes * entry.width_per_group / 64) * entry.groups
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                block_dilation = dilation
                if stride == 2 and dilate[stage - 1]:  # the stage's other blocks are dilated
                    dilation, stride = dilation * 2, 1
                downsample, out = None, planes * block.expansion
                if stride != 1 or inplanes != out:
                    downsample = Sequential(
                        Conv2d(inplanes, out, 1, stride=stride, bias=False, rng=rng),
                        BatchNorm2d(out),
                    )
                modules.append(
                    block(
                        inplanes, planes, width, stride, block_dilation, entry.groups,
                        downsample, rng,
                    )
                )  # fmt: skip
                inplanes = out
            setattr(self, f"layer{stage + 1}", Sequential(*modules))
            blocks += modules
        self.fc = Linear(inplanes, options.num_classes, rng=rng)
        draw_kaiming_normal(self, rng)
        if getattr(options, "zero_init_residual", False):
            for module in blocks:
                norm = module.last_norm
                norm.scale = nnx.Param(np.zeros(norm.scale[...].shape, np.float32))
        self.pooled = options.stem == "imagenet"
        if not self.pooled:  # put in the place of torchvision's, and so drawn last
            self.conv1 = Conv2d(3, first, 3, padding=1, bias=False, rng=rng)
            redraw(self.conv1, rng)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalised images [n, h, w, 3] -> logits [n, num_classes]."""
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        if self.pooled:
            x = pooling.max_pool2d(x, 3, 2, 1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, stage)(x, train)
        return self.fc(x.mean((1, 2)))


def draw_kaiming_normal(net: nnx.Module, rng: Generator | None) -> None:
    """Gives every convolution of `net` torchvision's initial weights, in PyTorch's order."""
    for conv in _convolutions(net):
        redraw(conv, rng)


def redraw(conv: Conv2d, rng: Generator | None) -> None:
    """kaiming_normal_(mode="fan_out", nonlinearity="relu"); zeros stay without an `rng`."""
    if rng is not None:
        kh, kw, c, o = conv.kernel[...].shape
        drawn = rng.normal((o, c, kh, kw), math.sqrt(2 / (o * kh * kw)))
        conv.kernel = nnx.Param(drawn.transpose(2, 3, 1, 0))


def _convolutions(module: nnx.Module) -> Iterator[Conv2d]:
    """In the order in which they were made attributes, that of `torch.nn.Module.modules()`."""
    for child in vars(module).values():
        if isinstance(child, Conv2d):
            yield child
        elif isinstance(child, nnx.Module):
            yield from _convolutions(child)
