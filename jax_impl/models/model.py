"""`create_model(name, **options)` -> a model as a pair of pure functions."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.nnx as nnx
import jax

from jax_impl.errors import InputError
from jax_impl.models import registry
from jax_impl.models.cifar_resnet import CifarResNet
from jax_impl.models.layers import BatchNorm2d, Conv2d, Linear
from jax_impl.models.preact_resnet import PreActResNet
from jax_impl.models.resnet import ResNet
from jax_impl.models.simple_cnn import SimpleCNN
from jax_impl.torch_random.generator import Generator

MODELS = tuple(registry.MODELS)
SCHEMES = "torch", "flax"

_NETS: dict[str, Callable[..., nnx.Module]] = {
    "basic": ResNet,
    "bottleneck": ResNet,
    "plain": ResNet,
    "option_a": CifarResNet,
    "plain_cifar": CifarResNet,
    "preact_basic": PreActResNet,
    "preact_bottleneck": PreActResNet,
}

Path = tuple[str, ...]


class Variables(NamedTuple):
    """Nested dicts of arrays whose paths are those of torchvision's modules."""

    params: dict[str, Any]
    batch_stats: dict[str, Any]


class Layer(NamedTuple):
    """What kind of module a path leads to, which decides how its weights are laid out.

    `flattened` is the (h, w, c) of the feature map that a linear layer reads flattened.
    """

    kind: Literal["conv", "linear", "norm"]
    flattened: tuple[int, int, int] | None = None


class Model(NamedTuple):
    """A model as two pure functions.

    `init(seed)` gives the weights of `torch.manual_seed(seed)` and the PyTorch twin's constructor;
    in place of a seed it takes a `Generator`, which goes on after the weights' draws.
    `init(seed, scheme="flax")` has Flax's defaults: LeCun's truncated normal kernels, zero biases.
    `apply(variables, images, train=False)` maps normalised float images [n, h, w, 3] to
    (logits [n, num_classes], batch_stats); with `train` the statistics are the updated ones.
    `shapes` has a `jax.ShapeDtypeStruct` for every leaf of the variables. `layers` maps the path of
    each module that has leaves to its kind; `head` is the path of the last linear layer, or None.
    """

    name: str
    init: Callable[..., Variables]
    apply: Callable[..., tuple[jax.Array, dict[str, Any]]]
    shapes: Variables
    layers: dict[Path, Layer]
    head: Path | None


def create_model(name: str, **options: Any) -> Model:
    """The model `name`, one of `MODELS`.

    Args:
        name: one of `MODELS`.
        **options: in place of the defaults in `jax_impl.models.registry`: `num_classes`, for most
            names also `stem`, for torchvision's `zero_init_residual` and
            `replace_stride_with_dilation`, for the small CNN `channels`, `kernel_size`,
            `pool_size`, `hidden`, `image_size`, `pool_after` and `global_average`.

    Raises:
        InputError: an unknown name or option, or a value that the option does not take.
    """
    return from_spec(registry.create_spec(name, **options))


def from_spec(spec: registry.Spec, parts: int = 1) -> Model:
    """The model that a `registry.Spec` describes; `parts` is `from_module`'s."""
    if isinstance(spec.options, registry.CNNOptions):
        return from_module(str(spec), partial(SimpleCNN, spec.options), parts)
    build = partial(_NETS[spec.entry.block], spec.entry, spec.options)
    return from_module(str(spec), build, parts)


def from_module(name: str, build: Callable[..., nnx.Module], parts: int = 1) -> Model:
    """A Flax NNX module as a pair of pure functions.

    Args:
        name: the model's `name`.
        build: `build(rng=generator)` makes the module with its initial weights drawn from a
            `Generator`; `build(rng=None)` with zeros, for its shapes alone. The module is called as
            `module(images, train)`; its attribute `head`, if any, is the path of the last linear
            layer.
        parts: of a batch in training, in each of which every `BatchNorm2d` normalises by itself:
            as many as there are devices, where each has statistics of its own.
    """
    skeleton = build(rng=None)
    for _, module in nnx.iter_modules(skeleton):
        if isinstance(module, BatchNorm2d):
            module.parts = parts
    graph, *states = nnx.split(skeleton, nnx.Param, nnx.BatchStat)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        Variables(*(nnx.to_pure_dict(state) for state in states)),
    )
    layers = {
        tuple(str(part) for part in path): layer
        for path, module in nnx.iter_modules(skeleton)
        if (layer := _layer(module)) is not None
    }

    def init(seed: int | Generator = 0, scheme: str = "torch") -> Variables:
        if scheme not in SCHEMES:
            raise InputError(f"no initialisation {scheme!r}: choose {' or '.join(SCHEMES)}")
        generator = seed if isinstance(seed, Generator) else Generator(seed)
        _, params, stats = nnx.split(build(rng=generator), nnx.Param, nnx.BatchStat)
        pure = (nnx.to_pure_dict(params), nnx.to_pure_dict(stats))
        variables = Variables(*jax.tree.map(jax.numpy.asarray, pure))
        return variables if scheme == "torch" else _flax_init(variables, generator)

    def apply(variables: Variables, images: jax.Array, train: bool = False):
        module: Any = nnx.merge(
            graph, nnx.State(variables.params), nnx.State(variables.batch_stats)
        )
        logits = module(images, train)
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return Model(name, init, apply, shapes, layers, getattr(skeleton, "head", None))


def _flax_init(variables: Variables, generator: Generator) -> Variables:
    """The same with Flax's default kernels, from a key that `generator` draws, and zero biases."""
    draw = nnx.initializers.lecun_normal()
    key = jax.random.key(int(generator.raw32(1)[0]))

    def change(keys: Any, leaf: jax.Array) -> jax.Array:
        name = keys[-1].key
        if name == "bias":
            return jax.numpy.zeros_like(leaf)
        if name != "kernel":
            return leaf
        path = "/".join(k.key for k in keys)
        return draw(jax.random.fold_in(key, zlib.crc32(path.encode())), leaf.shape, leaf.dtype)

    params = jax.tree_util.tree_map_with_path(change, variables.params)
    return variables._replace(params=params)


def _layer(module: Any) -> Layer | None:
    match module:
        case Conv2d():
            return Layer("conv")
        case Linear():
            return Layer("linear", module.flattened)
        case BatchNorm2d():
            return Layer("norm")
    return None
