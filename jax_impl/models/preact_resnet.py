"""Pre-activation ResNets (He et al. 2016, https://arxiv.org/abs/1603.05027).

As the paper's appendix has it: the first block reads the stem's activation, a shortcut that
changes the shape is a 1x1 convolution of the activated input, and one more activation follows the
last block.
"""

import flax.nnx as nnx
import jax

from jax_impl.models.layers import BatchNorm2d, Conv2d, Linear, Sequential
from jax_impl.models.registry import Entry, StemOptions
from jax_impl.models.resnet import draw_kaiming_normal
from jax_impl.ops import pooling
from jax_impl.torch_random.generator import Generator


class PreActBlock(nnx.Module):
    """F(relu(bn(x))) + x, F two 3x3 convolutions; `first` in the net, it reads activations."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int, first: bool, rng: Generator | None):
        self.bn1 = None if first else BatchNorm2d(inplanes)
        self.conv1 = Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, padding=1, bias=False, rng=rng)
        self.downsample = _projection(inplanes, planes, stride, rng)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[n, h, w, inplanes] -> [n, ceil(h / stride), ceil(w / stride), planes]."""
        active = x if self.bn1 is None else jax.nn.relu(self.bn1(x, train))
        shortcut = x if self.downsample is None else self.downsample(active)
        x = self.conv1(active)
        return self.conv2(jax.nn.relu(self.bn2(x, train))) + shortcut


class PreActBottleneck(nnx.Module):
    """F(relu(bn(x))) + x, F a 1x1, a 3x3 and a 1x1 convolution."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int, first: bool, rng: Generator | None):
        out = planes * self.expansion
        self.bn1 = None if first else BatchNorm2d(inplanes)
        self.conv1 = Conv2d(inplanes, planes, 1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn3 = BatchNorm2d(planes)
        self.conv3 = Conv2d(planes, out, 1, bias=False, rng=rng)
        self.downsample = _projection(inplanes, out, stride, rng)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[n, h, w, inplanes] -> [n, ceil(h / stride), ceil(w / stride), 4 planes]."""
        active = x if self.bn1 is None else jax.nn.relu(self.bn1(x, train))
        shortcut = x if self.downsample is None else self.downsample(active)
        x = self.conv1(active)
        x = self.conv2(jax.nn.relu(self.bn2(x, train)))
        return self.conv3(jax.nn.relu(self.bn3(x, train))) + shortcut


def _projection(inplanes: int, out: int, stride: int, rng: Generator | None) -> Conv2d | None:
    if stride == 1 and inplanes == out:
        return None
    return Conv2d(inplanes, out, 1, stride=stride, bias=False, rng=rng)


BLOCKS = {"preact_basic": PreActBlock, "preact_bottleneck": PreActBottleneck}


class PreActResNet(nnx.Module):
    """Stem, four stages, one more activation, global average, linear."""

    head = ("fc",)

    def __init__(self, entry: Entry, options: StemOptions, rng: Generator | None):
        block = BLOCKS[entry.block]
        self.pooled = options.stem == "imagenet"
        size, stride, padding = (7, 2, 3) if self.pooled else (3, 1, 1)
        self.conv1 = Conv2d(3, 64, size, stride=stride, padding=padding, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(64)
        inplanes = 64
        for stage, depth in enumerate(entry.depths):
            planes, modules = 64 * 2**stage, []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                modules.append(block(inplanes, planes, stride, stage == index == 0, rng))
                inplanes = planes * block.expansion
            setattr(self, f"layer{stage + 1}", Sequential(*modules))
        self.bn2 = BatchNorm2d(inplanes)
        self.fc = Linear(inplanes, options.num_classes, rng=rng)
        draw_kaiming_normal(self, rng)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalised images [n, h, w, 3] -> logits [n, num_classes]."""
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        if self.pooled:
            x = pooling.max_pool2d(x, 3, 2, 1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, stage)(x, train)
        x = jax.nn.relu(self.bn2(x, train))
        return self.fc(x.mean((1, 2)))
