"""The two implementations of one model, and what both are given when they are compared."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import tree_util
from PIL import Image
from torch import nn

import torch_ref.data
import torch_ref.models
from jax_impl import registry
from jax_impl.models import Model, Variables, from_spec
from parity.recipes import Recipe, recipe
from parity.weights import to_torch

Tensors = dict[str, np.ndarray]
"""By name, in PyTorch's names and layout."""


class Batch(NamedTuple):
    """uint8 images [n, h, w, 3] and int labels [n]."""

    images: np.ndarray
    labels: np.ndarray


Side = Callable[[Variables, Batch], Tensors]
"""What one framework computes from shared weights and a batch."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """One model in both frameworks, and the notebook's recipe for it."""

    name: str
    model: Model
    make_torch: Callable[[], nn.Module]
    recipe: Recipe


def create_pair(spec: registry.Spec | str) -> Pair:
    """The pair of the registry that a spec, or its text NAME[:OPTION=VALUE]..., describes."""
    if isinstance(spec, str):
        spec = registry.parse(spec)
    options = dataclasses.asdict(spec.options)
    return Pair(
        str(spec),
        from_spec(spec),
        lambda: torch_ref.models.create_model(spec.name, **options),
        recipe(spec.name),
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """A pair, and the precision and PyTorch's device to compute with.

    Weights are float32's in every case: float64 casts the same numbers, so that it tells what
    float32 rounds away.
    """

    pair: Pair
    dtype: str
    device: str = "cpu"

    def jax_variables(self, variables: Variables) -> Variables:
        """In the case's precision; call inside `precision(self.dtype)`."""
        dtype = jnp.dtype(self.dtype)
        return jax.tree.map(
            lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, variables
        )

    def torch_model(self, variables: Variables) -> nn.Module:
        """The twin with these weights, in train mode, in the case's precision."""
        module = self.pair.make_torch()
        module.load_state_dict(to_torch(variables, self.pair.model), strict=True)
        return module.to(self.device, getattr(torch, self.dtype)).train()

    def torch_batch(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Images through the notebook's transform, [n, 3, h, w], and labels."""
        images = [torch_ref.data.TRANSFORM(Image.fromarray(image)) for image in batch.images]
        dtype = getattr(torch, self.dtype)
        return (
            torch.stack(images).to(self.device, dtype),  # pyright: ignore[reportArgumentType]
            torch.from_numpy(batch.labels.astype(np.int64)).to(self.device),
        )


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """JAX with 64 bits where `dtype` needs them, and float32 products in full precision."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        yield


def randomised(variables: Variables, seed: int) -> Variables:
    """`variables` with random normalisation statistics, scales and biases, as float32.

    Fresh ones are all zeros and ones, which hide a missing or misplaced term.
    """
    rng = np.random.default_rng(seed)

    def draw(keys, leaf):
        kind = keys[-1].key
        if kind in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        if kind in ("bias", "mean"):
            return jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), jnp.float32)
        return leaf

    return tree_util.tree_map_with_path(draw, variables)
