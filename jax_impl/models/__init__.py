"""The registry: `create_model(name)` -> a model as a pair of pure functions."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.nnx as nnx
import jax

from jax_impl.errors import InputError
from jax_impl.layers import Linear
from jax_impl.models.resnet import BasicBlock, Bottleneck, ResNet
from jax_impl.models.simple_cnn import SimpleCNN
from jax_impl.torch_rng import Generator

_BUILDERS: dict[str, Callable[..., nnx.Module]] = {
    "simple_cnn": SimpleCNN,
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet101": partial(ResNet, Bottleneck, (3, 4, 23, 3)),
    "resnet152": partial(ResNet, Bottleneck, (3, 8, 36, 3)),
}
MODELS = tuple(_BUILDERS)


class Variables(NamedTuple):
    """Nested dicts of arrays whose paths are those of torchvision's modules."""

    params: dict[str, Any]
    batch_stats: dict[str, Any]


class Model(NamedTuple):
    """A model as two pure functions.

    `init(seed)` gives the weights of `torch.manual_seed(seed)` and the PyTorch twin's constructor.
    `apply(variables, images, train=False)` maps normalised float images [n, h, w, 3] to
    (logits [n, num_classes], batch_stats); with `train` the statistics are the updated ones.
    `shapes` has a `jax.ShapeDtypeStruct` for every leaf of the variables. `flattened` maps the path
    of each linear layer that reads a flattened feature map to that map's (h, w, c).
    """

    name: str
    init: Callable[[int], Variables]
    apply: Callable[..., tuple[jax.Array, dict[str, Any]]]
    shapes: Variables
    flattened: dict[tuple[str, ...], tuple[int, int, int]]


def create_model(name: str, num_classes: int = 10) -> Model:
    """The model `name`, one of `MODELS`.

    Raises:
        InputError: an unknown name, or fewer than one class.
    """
    if name not in _BUILDERS:
        raise InputError(f"no model named {name!r}: choose one of {', '.join(MODELS)}")
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}: give 1 or more")
    return from_module(name, partial(_BUILDERS[name], num_classes=num_classes))


def from_module(name: str, build: Callable[..., nnx.Module]) -> Model:
    """A Flax NNX module as a pair of pure functions.

    Args:
        build: `build(rng=generator)` makes the module with its initial weights drawn from a
            `torch_rng.Generator`; `build(rng=None)` with zeros, for its shapes alone. The module
            is called as `module(images, train)`.
    """
    skeleton = build(rng=None)
    graph, *states = nnx.split(skeleton, nnx.Param, nnx.BatchStat)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        Variables(*(nnx.to_pure_dict(state) for state in states)),
    )
    flattened = {
        tuple(str(part) for part in path): module.flattened
        for path, module in nnx.iter_modules(skeleton)
        if isinstance(module, Linear) and module.flattened is not None
    }

    def init(seed: int = 0) -> Variables:
        _, params, stats = nnx.split(build(rng=Generator(seed)), nnx.Param, nnx.BatchStat)
        pure = (nnx.to_pure_dict(params), nnx.to_pure_dict(stats))
        return Variables(*jax.tree.map(jax.numpy.asarray, pure))

    def apply(variables: Variables, images: jax.Array, train: bool = False):
        module: Any = nnx.merge(
            graph, nnx.State(variables.params), nnx.State(variables.batch_stats)
        )
        logits = module(images, train)
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return Model(name, init, apply, shapes, flattened)
