"""Convolutional nets whose JAX side is Linen."""

import flax.linen as linen
import jax.numpy as jnp
import torch
from torch import nn
from torch.nn import functional as F

import parity
from correct import common
from correct.common import BatchNorm, by_names, integers, normal, with_statistics

WIDTHS = 8, 12, 16


class VGG(nn.Module):
    def __init__(self):
        super().__init__()
        for i, (inputs, outputs) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
            setattr(self, f"conv{i}", nn.Conv2d(inputs, outputs, 3, padding=1))
            setattr(self, f"bn{i}", nn.BatchNorm2d(outputs))
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(WIDTHS[-1] * 8 * 8, 10)

    def forward(self, x):
        for i in range(3):
            conv, norm = getattr(self, f"conv{i}"), getattr(self, f"bn{i}")
            x = self.pool(norm(conv(x)).relu())
        return self.fc(x.flatten(1))


class FlaxVGG(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        for i, width in enumerate(WIDTHS):
            x = linen.Conv(width, (3, 3), name=f"conv{i}")(x)
            x = linen.relu(BatchNorm(name=f"bn{i}")(x, train))
            x = linen.max_pool(x, (2, 2), (2, 2))
        return linen.Dense(10, name="fc")(x.transpose(0, 3, 1, 2).reshape(len(x), -1))


def vgg_bn(seed: int) -> parity.Pair:
    """Three times convolution with a bias, BatchNorm, ReLU, max-pool; the twin's names."""
    return parity.Pair(
        "VGG with BatchNorm",
        VGG,
        with_statistics(FlaxVGG()),
        by_names,
        example_inputs=normal(seed, 4, 3, 64, 64),
        labels=integers(seed, 10, 4),
        channels_last=True,
        optimizer=common.sgd_momentum(),
    )


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        wide = 3 * inputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Inverted(8, 8, 1), Inverted(8, 12, 2))
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        return self.fc(self.blocks(F.relu6(self.norm(self.stem(x)))).mean((2, 3)))


class FlaxInverted(linen.Module):
    outputs: int
    stride: int

    @linen.compact
    def __call__(self, x, train):
        inputs, wide = x.shape[-1], 3 * x.shape[-1]
        y = BatchNorm()(linen.Conv(wide, (1, 1), use_bias=False)(x), train)
        y = linen.Conv(
            wide, (3, 3), self.stride, padding=1, feature_group_count=wide, use_bias=False
        )(linen.relu6(y))
        y = linen.Conv(self.outputs, (1, 1), use_bias=False)(linen.relu6(BatchNorm()(y, train)))
        y = BatchNorm()(y, train)
        return x + y if self.stride == 1 and inputs == self.outputs else y


class FlaxMobileNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(8, (3, 3), 2, padding=1, use_bias=False)(x)
        x = linen.relu6(BatchNorm()(x, train))
        x = FlaxInverted(8, 1)(x, train)
        x = FlaxInverted(12, 2)(x, train)
        return linen.Dense(10)(x.mean((1, 2)))


def mobilenet(seed: int) -> parity.Pair:
    """Inverted residual blocks with depthwise convolutions; Linen's automatic names."""
    names = {"stem": "Conv_0", "norm": "BatchNorm_0", "fc": "Dense_0"}
    for block in range(2):
        for i in range(3):
            layers, flax = f"blocks.{block}.layers", f"FlaxInverted_{block}"
            names[f"{layers}.{3 * i}"] = f"{flax}.Conv_{i}"
            names[f"{layers}.{3 * i + 1}"] = f"{flax}.BatchNorm_{i}"
    return parity.Pair(
        "MobileNetV2",
        MobileNet,
        with_statistics(FlaxMobileNet()),
        lambda state: by_names(state, names),
        example_inputs=normal(seed, 4, 3, 48, 48),
        labels=integers(seed, 10, 4),
        channels_last=True,
    )


class ConvNeXtBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pw1, self.act, self.pw2 = nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pw2(self.act(self.pw1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block0 = nn.Conv2d(3, 8, 4, 4), ConvNeXtBlock(8)
        self.down, self.block1 = nn.Conv2d(8, 12, 2, 2), ConvNeXtBlock(12)
        self.norm, self.head = nn.LayerNorm(12, eps=1e-6), nn.Linear(12, 10)

    def forward(self, x):
        x = self.block1(self.down(self.block0(self.stem(x))))
        return self.head(self.norm(x.mean((2, 3))))


class FlaxConvNeXtBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        width = x.shape[-1]
        y = linen.Conv(width, (7, 7), padding=3, feature_group_count=width, name="depthwise")(x)
        y = linen.Dense(32, name="pw1")(linen.LayerNorm(epsilon=1e-6, name="norm")(y))
        y = parity.tap(f"{self.name}.act", linen.gelu(y, approximate=False))
        gamma = self.param("gamma", linen.initializers.constant(0.1), (width,))
        return x + gamma * linen.Dense(width, name="pw2")(y)


class FlaxConvNeXt(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(8, (4, 4), (4, 4), padding="VALID", name="stem")(x)
        x = FlaxConvNeXtBlock(name="block0")(x)
        x = linen.Conv(12, (2, 2), (2, 2), padding="VALID", name="down")(x)
        x = FlaxConvNeXtBlock(name="block1")(x).mean((1, 2))
        return linen.Dense(10, name="head")(linen.LayerNorm(epsilon=1e-6, name="norm")(x))


def convnext(seed: int) -> parity.Pair:
    """Modules of the twin that give [n, h, w, c]; AdamW."""
    inner = ("norm", "pw1", "act", "pw2")
    return parity.Pair(
        "ConvNeXt",
        ConvNeXt,
        FlaxConvNeXt().apply,
        by_names,
        example_inputs=normal(seed, 4, 3, 64, 64),
        labels=integers(seed, 10, 4),
        channels_last=True,
        channels_last_in_torch=tuple(f"block{i}.{name}" for i in range(2) for name in inner),
        optimizer=common.adamw(),
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.up, self.pool = nn.ConvTranspose2d(12, 8, 2, 2), nn.MaxPool2d(2)
        self.c3, self.b3 = nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        a = self.b1(self.c1(x)).relu()
        x = self.up(self.b2(self.c2(self.pool(a))).relu())
        return self.out(self.b3(self.c3(torch.cat([a, x], 1))).relu())


class FlaxUNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        def block(i, width, x):
            x = linen.Conv(width, (3, 3), name=f"c{i}")(x)
            return linen.relu(BatchNorm(name=f"b{i}")(x, train))

        a = block(1, 8, x)
        x = block(2, 12, parity.tap("pool", linen.max_pool(a, (2, 2), (2, 2))))
        x = linen.ConvTranspose(8, (2, 2), (2, 2), "VALID", transpose_kernel=True, name="up")(x)
        return linen.Conv(4, (1, 1), name="out")(block(3, 8, jnp.concatenate([a, x], -1)))


def unet(seed: int) -> parity.Pair:
    """A transposed convolution, a skip connection, and a loss at every pixel."""
    loss = parity.Loss(F.cross_entropy, common.token_loss().jax)
    return parity.Pair(
        "U-Net",
        UNet,
        with_statistics(FlaxUNet()),
        by_names,
        example_inputs=normal(seed, 4, 3, 32, 32),
        labels=integers(seed, 4, 4, 32, 32),
        channels_last=True,
        loss=loss,
    )


class Signals(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, 8, 5, 2, 2),
            nn.BatchNorm1d(8),
            nn.ELU(),
            nn.Conv1d(8, 8, 3, padding=2, dilation=2),
            nn.ELU(),
        )
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.layers(x).mean(2))


class FlaxSignals(linen.Module):
    @linen.compact
    def __call__(self, x, use_running_average):
        x = linen.Conv(8, (5,), 2, padding=2)(x.transpose(0, 2, 1))
        x = linen.elu(BatchNorm()(x, not use_running_average))
        x = linen.elu(linen.Conv(8, (3,), padding=2, kernel_dilation=2)(x))
        return linen.Dense(3)(x.mean(1))


def conv1d(seed: int) -> parity.Pair:
    """Signals [n, c, t]; the mode is told by `use_running_average`; automatic names."""
    names = {"layers.0": "Conv_0", "layers.1": "BatchNorm_0", "layers.3": "Conv_1", "fc": "Dense_0"}

    def apply(variables, x, use_running_average):
        y, new = FlaxSignals().apply(variables, x, use_running_average, mutable=["batch_stats"])
        return y, {**variables, **new}

    return parity.Pair(
        "1-d convolutions",
        Signals,
        apply,
        lambda state: by_names(state, names),
        example_inputs=normal(seed, 6, 2, 96),
        labels=integers(seed, 3, 6),
    )
