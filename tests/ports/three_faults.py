"""Three faults at once, in a ResNet of torchvision's kind, a ViT and a GRU net; and the tutorial's.

Each combination is the pair, and for every fault the modules that may be named for it and the words
of its cause, any of which will do.
"""

from functools import partial
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import torch
from correct.common import integers, normal
from flax import nnx
from planted.nets.flax_layers import BatchNorm, apply_linen, nnx_pair, to_linen
from planted.nets.recurrent import gru
from torch import nn

import parity

# --- A ResNet: stem, max pooling, two BasicBlocks -----------------------------------------------


class TorchBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class TorchResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(TorchBlock(8, 8, 1))
        self.layer2 = nn.Sequential(TorchBlock(8, 16, 2))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class ResNet(linen.Module):
    train: bool = False
    eps: float = 1e-5
    momentum: float = 0.9
    unbiased: bool = True
    stride_second: bool = False
    pool_padding: Any = ((1, 1), (1, 1))
    relu_in_block: bool = True
    last_relu: bool = True
    stem_padding: Any = 3
    shortcut: str = "projection"

    @linen.compact
    def __call__(self, x):
        norm = partial(BatchNorm, self.train, self.momentum, self.eps, self.unbiased)
        conv = partial(linen.Conv, use_bias=False)
        x = conv(8, (7, 7), 2, self.stem_padding, name="conv1")(x)
        x = jax.nn.relu(norm(name="bn1")(x))
        pooled = linen.max_pool(x, (3, 3), (2, 2), self.pool_padding)
        x = parity.tap("maxpool", pooled)
        for name, width, stride in (("layer1.0", 8, 1), ("layer2.0", 16, 2)):
            first, second = (1, stride) if self.stride_second else (stride, 1)
            y = conv(width, (3, 3), first, 1, name=f"{name}.conv1")(x)
            y = norm(name=f"{name}.bn1")(y)
            y = jax.nn.relu(y) if self.relu_in_block else y
            y = conv(width, (3, 3), second, 1, name=f"{name}.conv2")(y)
            y = norm(name=f"{name}.bn2")(y)
            if stride != 1:
                x = conv(width, (1, 1), stride, "VALID", name=f"{name}.downsample.0")(x)
                x = norm(name=f"{name}.downsample.1")(x)
                x = jax.nn.relu(x) if self.shortcut == "activated" else x
            elif self.shortcut == "missing":
                x = 0 * x
            x = x + y
            x = jax.nn.relu(x) if self.last_relu else x
            x = parity.tap(name, x)
        return linen.Dense(10, name="fc")(x.mean((1, 2)))


def whole_names(state, as_is=()):
    """Linen's variables whose modules are named by whole paths."""
    modules = {name.rpartition(".")[0] for name in state}
    marked = {m: m.replace(".", "/") for m in modules}
    made = to_linen(state, lambda m: marked[m], as_is)
    return {c: {k.replace("/", "."): v for k, v in inner.items()} for c, inner in made.items()}


def resnet(**switches):
    def apply(variables, x, train):
        return apply_linen(ResNet(train, **switches), variables, x, train=train)

    return parity.Pair(
        "resnet",
        TorchResNet,
        apply,
        whole_names,
        example_inputs=normal(0, 4, 3, 32, 32),
        channels_last=True,
    )


# --- A ViT ---------------------------------------------------------------------------------------

DIM, HEADS, TOKENS = 16, 4, 17


class TorchEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM)
        self.attn = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        self.norm2 = nn.LayerNorm(DIM)
        self.fc1, self.act, self.fc2 = nn.Linear(DIM, 32), nn.GELU(), nn.Linear(32, DIM)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class TorchViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, DIM, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.randn(1, TOKENS, DIM))
        self.block1, self.block2 = TorchEncoder(), TorchEncoder()
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.block2(self.block1(x)))[:, 0])


class Encoder(nnx.Module):
    def __init__(self, eps, approximate, scaled, rngs):
        norm = partial(nnx.LayerNorm, DIM, epsilon=eps, rngs=rngs, use_fast_variance=False)
        self.norm1, self.norm2 = norm(), norm()
        self.qkv = nnx.Linear(DIM, 3 * DIM, rngs=rngs)
        self.out = nnx.Linear(DIM, DIM, rngs=rngs)
        self.fc1 = nnx.Linear(DIM, 32, rngs=rngs)
        self.fc2 = nnx.Linear(32, DIM, rngs=rngs)
        self.approximate, self.scale = approximate, (DIM // HEADS) ** -0.5 if scaled else 1.0

    def __call__(self, x, name):
        n, length, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, HEADS, -1)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) * self.scale)
        y = (weights @ v).swapaxes(1, 2).reshape(x.shape)
        x = x + parity.tap(f"{name}.attn", self.out(y))
        y = nnx.gelu(self.fc1(self.norm2(x)), self.approximate)
        return x + self.fc2(parity.tap(f"{name}.act", y))


class ViT(nnx.Module):
    def __init__(self, eps=1e-5, approximate=False, scaled=True, token="first", pos="all"):
        rngs = nnx.Rngs(0)
        self.patch = nnx.Conv(3, DIM, (4, 4), 4, padding="VALID", rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros((1, 1, DIM)))
        self.pos_embed = nnx.Param(jnp.zeros((1, TOKENS, DIM)))
        self.block1, self.block2 = (Encoder(eps, approximate, scaled, rngs) for _ in "12")
        self.norm = nnx.LayerNorm(DIM, epsilon=eps, rngs=rngs, use_fast_variance=False)
        self.head = nnx.Linear(DIM, 10, rngs=rngs)
        self.token, self.pos = token, pos

    def __call__(self, x, train):
        x = self.patch(x).reshape(len(x), -1, DIM)
        token = jnp.broadcast_to(self.cls_token[...], (len(x), 1, DIM))
        pos = self.pos_embed[...]
        if self.pos == "patches":
            pos = pos.at[:, 0].set(0)
        if self.pos == "turned":
            pos = jnp.roll(pos, 1, 1)
        x = jnp.concatenate([token, x] if self.token == "first" else [x, token], 1)
        x = x if self.pos == "missing" else x + pos
        x = self.norm(self.block2(self.block1(x, "block1"), "block2"))
        x = {"first": x[:, 0], "last": x[:, -1], "mean": x.mean(1)}.get(self.token, x[:, 0])
        return self.head(x)


def vit(**switches):
    apply, to_flax = nnx_pair(partial(ViT, **switches), ("cls_token", "pos_embed"))

    def renamed(state):
        names = {"attn.in_proj_": "qkv.", "attn.out_proj.": "out."}
        made = {}
        for name, value in state.items():
            for old, new in names.items():
                name = name.replace(old, new)
            made[name] = value
        return to_flax(made)

    return parity.Pair(
        "vit",
        TorchViT,
        apply,
        renamed,
        example_inputs=normal(0, 4, 3, 16, 16),
        channels_last=True,
    )


# --- A GRU net -----------------------------------------------------------------------------------


class TorchGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 6, padding_idx=0)
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.act = nn.GELU()
        self.fc = nn.Linear(8, 3)

    def forward(self, ids):
        x = self.gru(self.words(ids))[0][:, -1]
        return self.fc(self.act(self.norm(x)))


def gru_net(order="rzn", reset="after", pool="last", padding=True, eps=1e-5, approximate=False):
    def apply(p, ids):
        words = p["words.weight"]
        if padding:  # PyTorch does not train the row of padding
            words = words.at[0].set(jax.lax.stop_gradient(words[0]))
        x = parity.tap("words", words[ids])
        start = jnp.zeros((len(ids), 8), x.dtype)
        out = gru(p, "gru", x, start, order=order, reset=reset)[0]
        out = parity.tap("gru", out)
        x = {"last": out[:, -1], "first": out[:, 0], "mean": out.mean(1)}[pool]
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / jnp.sqrt(var + eps) * p["norm.weight"] + p["norm.bias"]
        x = parity.tap("norm", x)
        x = parity.tap("act", jax.nn.gelu(x, approximate=approximate))
        return x @ p["fc.weight"].T + p["fc.bias"]

    ids = integers(0, 11, 5, 7)
    ids[0, 0] = 0  # padding at the only step that a net of the first step trains by
    return parity.Pair(
        "gru",
        TorchGRU,
        apply,
        lambda state: {k: jnp.asarray(v) for k, v in state.items()},
        example_inputs=ids,
    )


NORMS = "bn1", "layer1.0.bn1", "layer2.0.bn1"
LAYER_NORMS = "norm", "block1.norm1", "block2.norm1"
EPS = (LAYER_NORMS, ("eps is",))
TANH = (("block1.act", "block2.act"), ("gelu by tanh",))
SCALE = (("block1.attn", "block2.attn"), ("not scaled",))
NET = "the outputs", "block1", "norm", "block1.norm1", "head"
ORDER = (("gru",), ("gates are in the order",))
RESET = (("gru",), ("reset gate",))
POOL = (("the outputs", "norm", "gru"), ("average", "step", "position", "index", "number"))

COMBINATIONS = {
    "the tutorial's": (partial(vit, eps=1e-6, approximate=True), (EPS, TANH)),
    "resnet, stride, momentum, eps": (
        partial(resnet, stride_second=True, momentum=0.99, eps=1e-3),
        (
            (("layer2.0.conv1",), ("stride is 1 and not 2",)),
            (("layer2.0.conv2",), ("stride is 2 and not 1",)),
            (NORMS, ("momentum",)),
            (NORMS, ("eps is",)),
        ),
    ),
    "vit, scale, eps, gelu": (
        partial(vit, scaled=False, eps=1e-6, approximate=True),
        (SCALE, EPS, TANH),
    ),
    "gru, order, reset, mean": (
        partial(gru_net, order="zrn", reset="without the bias", pool="mean"),
        (ORDER, RESET, POOL),
    ),
    "resnet, pooling, relu, shortcut": (
        partial(
            resnet,
            pool_padding=((0, 1), (0, 1)),
            relu_in_block=False,
            shortcut="activated",
        ),
        (
            (("maxpool",), ("pad",)),
            (("layer1.0.relu", "layer1.0", "layer1.0.conv2"), ("relu", "activation")),
            (("layer2.0", "layer2.0.downsample", "layer2.0.downsample.1"), ("relu", "activat")),
        ),
    ),
    "resnet, stem, last relu, variance": (
        partial(resnet, stem_padding="SAME", last_relu=False, unbiased=False),
        (
            (("conv1",), ("pad",)),
            (("layer1.0.relu", "layer1.0"), ("relu", "activation")),
            (NORMS, ("biased",)),
        ),
    ),
    "vit, token last, positions missing, gelu": (
        partial(vit, token="last", pos="missing", approximate=True),
        ((NET, ("order", "last", "concat")), (NET, ("position", "missing", "summand")), TANH),
    ),
    "vit, positions turned, mean, eps": (
        partial(vit, pos="turned", eps=1e-6, scaled=False),
        ((NET, ("roll", "shift", "position", "displaced")), SCALE, EPS),
    ),
    "gru, reset before, eps, gelu": (
        partial(gru_net, reset="before", eps=1e-6, approximate=True),
        (RESET, (("norm",), ("eps is",)), (("act",), ("gelu by tanh",))),
    ),
    "gru, padding, order, first step": (
        partial(gru_net, padding=False, order="zrn", pool="first"),
        ((("words",), ("padding",)), ORDER, POOL),
    ),
}
"""By name: the pair, and (modules, words) of every fault."""

RIGHT = {"resnet": resnet, "vit": vit, "gru": gru_net}
