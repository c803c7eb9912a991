"""The correct twins that bugs are planted in: small nets with every kind of layer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

import torch_ref.models
from jax_impl.models.cifar_resnet import CifarResNet
from jax_impl.models.model import from_module
from jax_impl.models.registry import CifarOptions, Entry, ResNetOptions
from jax_impl.models.resnet import ResNet
from parity.pairs.pair import Batch, ModelPair, Pair, create_pair, model_pair
from parity.pairs.taps import tap
from parity.shell.recipes import Recipe

DEPTHS = (1, 1, 1, 1)
WIDTH = 4
SGD = Recipe(batch_size=8, optimizer="sgd", lr=0.05)
ADAM = Recipe(batch_size=8, optimizer="adam", lr=1e-3)


def cnn(size: int = 12) -> Pair:
    """Two convolutions; the first linear layer is square, 54 to 54."""
    pair = create_pair(f"simple_cnn:channels=4,6:hidden=54:image_size={size}")
    return model_pair("cnn", pair.model, pair.make_torch, ADAM)


def residual(
    block: str = "basic", groups: int = 1, dilate: bool = False, stem="imagenet"
) -> ModelPair:
    """One block a stage, four channels wide."""
    width = 128 if groups > 1 else 64
    entry = Entry(block, DEPTHS, ResNetOptions, groups, width)
    dilation = (False, dilate, dilate)
    options = ResNetOptions(width=WIDTH, replace_stride_with_dilation=dilation, stem=stem)

    def make_torch() -> nn.Module:
        cls = BasicBlock if block == "basic" else Bottleneck
        make = partial(torchvision.models.ResNet, cls, list(DEPTHS), num_classes=10)
        return torch_ref.models._torchvision(
            make,
            stem,
            WIDTH,
            groups=groups,
            width_per_group=width,
            replace_stride_with_dilation=dilation,
        )

    model = from_module(f"small {block} net", partial(ResNet, entry, options))
    return model_pair(f"small {block} net", model, make_torch, SGD)


def option_a() -> Pair:
    """He et al.'s for 32x32 images, one block a stage."""
    entry = Entry("option_a", (1, 1, 1), CifarOptions)
    model = from_module("resnet8", partial(CifarResNet, entry, CifarOptions()))
    return model_pair("resnet8", model, lambda: torch_ref.models.CifarResNet(1), SGD)


class MLP(nn.Module):
    """Linear, layer normalisation, GELU, dropout, linear."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.act = nn.GELU()
        self.drop = nn.Dropout(0.0)
        self.fc2 = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.drop(self.act(self.norm(self.fc1(x)))))


def mlp_apply(
    variables,
    x,
    train: bool = False,
    *,
    eps: float = 1e-5,
    ddof: int = 0,
    approximate: bool = False,
    rms: bool = False,
    drop: bool = False,
):
    """The MLP as a plain function, with the switches of its mutants."""
    v = variables
    x = tap("fc1", x @ v["fc1.weight"].T + v["fc1.bias"])
    centred = x if rms else x - x.mean(-1, keepdims=True)
    var = jnp.square(centred).sum(-1, keepdims=True) / (x.shape[-1] - ddof)
    x = tap("norm", centred / jnp.sqrt(var + eps) * v["norm.weight"] + v["norm.bias"])
    x = tap("act", jax.nn.gelu(x, approximate=approximate))
    if drop and not train:
        kept = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
        x = jnp.where(kept, x / 0.5, 0)
    x = tap("drop", x)
    return tap("fc2", x @ v["fc2.weight"].T + v["fc2.bias"])


def mlp(**switches) -> Pair:
    """The MLP's pair: not of this project's models, and no Flax."""
    rng = np.random.default_rng(0)
    return Pair(
        "mlp",
        MLP,
        partial(mlp_apply, **switches) if switches else mlp_apply,
        lambda state: {name: jnp.asarray(value) for name, value in state.items()},
        example_inputs=rng.normal(size=(8, 16)).astype(np.float32),
    )


def small_stem() -> Pair:
    """The basic net with a stem for small images."""
    return residual(stem="cifar")


def batches(pair: Pair, count: int = 3, size: int = 8, seed: int = 1) -> list[Batch]:
    """Random blocky images, where pooling meets ties, and random labels."""
    rng = np.random.default_rng(seed)
    if pair.name == "mlp":
        inputs = rng.normal(size=(count, size, 16)).astype(np.float32)
        return [Batch(x, rng.integers(0, 5, size)) for x in inputs]
    side = 12 if pair.name == "cnn" else 32
    made = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (size, side // 6 + 1, side // 6 + 1, 3), np.uint8)
        images = coarse.repeat(6, 1).repeat(6, 2)[:, :side, :side]
        made.append(Batch(np.ascontiguousarray(images), rng.integers(0, 10, size)))
    return made
