"""He et al.'s ResNets for 32x32 images (2015, https://arxiv.org/abs/1512.03385, section 4.2)."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp

from jax_impl.models.layers import BatchNorm2d, Conv2d, Linear, Sequential
from jax_impl.models.registry import CifarOptions, Entry
from jax_impl.models.resnet import draw_kaiming_normal
from jax_impl.torch_random.generator import Generator


class OptionABlock(nnx.Module):
    """relu(F(x) + x), F two 3x3 convolutions; without `shortcut` relu(F(x)).

    Where the shape changes the shortcut has no parameters (option A): every second pixel, and
    zeros for the new channels, half of them before the old ones and half after.
    """

    def __init__(
        self, inplanes: int, planes: int, stride: int, rng: Generator | None, shortcut: bool = True
    ):
        self.stride, self.border, self.shortcut = stride, (planes - inplanes) // 2, shortcut
        self.conv1 = Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(planes)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[n, h, w, inplanes] -> [n, ceil(h / stride), ceil(w / stride), planes]."""
        y = self.bn2(self.conv2(jax.nn.relu(self.bn1(self.conv1(x), train))), train)
        if not self.shortcut:
            return jax.nn.relu(y)
        shortcut = x[:, :: self.stride, :: self.stride]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (self.border, self.border)))
        return jax.nn.relu(y + shortcut)


class CifarResNet(nnx.Module):
    """3x3 stem, three stages of 16, 32 and 64 channels, global average, linear.

    The entry's block is "option_a", or of the plain nets, which have no shortcuts, another.
    """

    head = ("fc",)

    def __init__(self, entry: Entry, options: CifarOptions, rng: Generator | None):
        self.conv1 = Conv2d(3, 16, 3, padding=1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(16)
        inplanes = 16
        for stage, depth in enumerate(entry.depths):
            planes, modules = 16 * 2**stage, []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                shortcut = entry.block == "option_a"
                modules.append(OptionABlock(inplanes, planes, stride, rng, shortcut))
                inplanes = planes
            setattr(self, f"layer{stage + 1}", Sequential(*modules))
        self.fc = Linear(inplanes, options.num_classes, rng=rng)
        draw_kaiming_normal(self, rng)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalised images [n, h, w, 3] -> logits [n, num_classes]."""
        x = jax.nn.relu(self.bn1(self.conv1(x), train))
        for stage in ("layer1", "layer2", "layer3"):
            x = getattr(self, stage)(x, train)
        return self.fc(x.mean((1, 2)))
