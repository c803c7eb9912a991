"""torchvision's ResNet (He et al. 2015, https://arxiv.org/abs/1512.03385), attribute for attribute.

As in torchvision, a bottleneck's stride is on its 3x3 convolution (ResNet v1.5).
"""

import math

import flax.nnx as nnx
import jax
import numpy as np

from jax_impl import lowering
from jax_impl.layers import BatchNorm2d, Conv2d, Linear, Sequential
from jax_impl.torch_rng import Generator


class BasicBlock(nnx.Module):
    """relu(F(x) + x), F two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int, downsample, rng: Generator | None):
        self.conv1 = Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = downsample

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        return jax.nn.relu(self.bn2(self.conv2(x), train) + shortcut)


class Bottleneck(nnx.Module):
    """relu(F(x) + x), F a 1x1, a 3x3 and a 1x1 convolution."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int, downsample, rng: Generator | None):
        width = planes * self.expansion
        self.conv1 = Conv2d(inplanes, planes, 1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(planes)
        self.conv3 = Conv2d(planes, width, 1, bias=False, rng=rng)
        self.bn3 = BatchNorm2d(width)
        self.downsample = downsample

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x, train)
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        x = jax.nn.relu(self.bn2(self.conv2(x), train))
        return jax.nn.relu(self.bn3(self.conv3(x), train) + shortcut)


class ResNet(nnx.Module):
    """torchvision.models.ResNet: 7x7 stem with max-pool, four stages, global average, linear."""

    def __init__(self, block, depths: tuple[int, ...], num_classes: int, rng: Generator | None):
        self.conv1 = Conv2d(3, 64, 7, stride=2, padding=3, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(64)
        inplanes = 64
        for stage, depth in enumerate(depths):
            planes, blocks = 64 * 2**stage, []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                downsample, out = None, planes * block.expansion
                if stride != 1 or inplanes != out:
                    downsample = Sequential(
                        Conv2d(inplanes, out, 1, stride=stride, bias=False, rng=rng),
                        BatchNorm2d(out),
                    )
                blocks.append(block(inplanes, planes, stride, downsample, rng))
                inplanes = out
            setattr(self, f"layer{stage + 1}", Sequential(*blocks))
        self.fc = Linear(inplanes, num_classes, rng=rng)
        if rng is not None:
            for conv in _convolutions(self):
                conv.kernel = nnx.Param(_kaiming_normal(rng, conv.kernel[...].shape))

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        x = lowering.max_pool2d(x, 3, 2, 1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, stage)(x, train)
        return self.fc(x.mean((1, 2)))


def _convolutions(net: ResNet) -> list[Conv2d]:
    """In the order of `torch.nn.Module.modules()`, in which torchvision draws their weights."""
    convs = [net.conv1]
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for block in getattr(net, stage).children():
            names = ("conv1", "conv2", "conv3")
            convs += [getattr(block, name) for name in names if hasattr(block, name)]
            if block.downsample is not None:
                convs.append(block.downsample.children()[0])
    return convs


def _kaiming_normal(rng: Generator, shape: tuple[int, ...]) -> np.ndarray:
    """kaiming_normal_(mode="fan_out", nonlinearity="relu") for an HWIO kernel of `shape`."""
    kh, kw, c, o = shape
    return rng.normal((o, c, kh, kw), math.sqrt(2 / (o * kh * kw))).transpose(2, 3, 1, 0)
