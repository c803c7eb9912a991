"""What a pair is compared on: weights, and batches of examples."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import tree_util
from torch import nn

from jax_impl.errors import InputError
from jax_impl.models.model import Variables
from parity.pairs.blame import of_the_user
from parity.pairs.case import Case
from parity.pairs.masks import uniform
from parity.pairs.pair import CROSS_ENTROPY, Batch, Loss, ModelPair, Pair, Tensors, arrays_of
from parity.pairs.trees import leaves, map_arrays, rows
from parity.pairs.weights import to_arrays


def prepared(pair: Pair) -> tuple[Pair, Batch]:
    """The pair with a loss that its outputs have, and its examples with labels.

    Raises:
        InputError: it has no examples, or its outputs and its loss do not fit.
    """
    if pair.example_inputs is None:
        raise InputError(f"{pair.name}: the pair has no example_inputs")
    inputs = _arrays(pair.example_inputs)
    if not leaves(inputs) or not all(np.ndim(leaf) for leaf in leaves(inputs).values()):
        raise InputError(f"{pair.name}: example_inputs have no axis of examples")
    if pair.labels is not None:
        return pair, Batch(inputs, _arrays(pair.labels))
    case = Case(pair, "float32")
    with of_the_user(pair.name, "the PyTorch model"), torch.no_grad():
        outputs = case.torch_call(pair.make_torch().eval(), case.torch_batch(Batch(inputs, ()))[0])
    found = leaves(outputs)
    if pair.loss != CROSS_ENTROPY:  # it may do without labels, or take them from the outputs
        return pair, Batch(inputs, np.arange(rows(inputs)))
    if _are_logits(found.get("")):
        return pair, Batch(inputs, np.arange(len(found[""])) % found[""].shape[1])
    return dataclasses.replace(pair, loss=OF_THE_OUTPUTS), Batch(inputs, np.arange(rows(inputs)))


def _are_logits(outputs: torch.Tensor | None) -> bool:
    """Whether they are [n, classes], of more classes than one."""
    if outputs is None or not outputs.is_floating_point():
        return False
    return outputs.ndim == 2 and outputs.shape[1] > 1


def _arrays(given: Any) -> Any:
    """Every array as NumPy's; a plain list of numbers as one."""
    return map_arrays(np.asarray, given) if leaves(given) else np.asarray(given)


def _of_the_outputs(outputs: Any, labels: Any) -> Any:
    """The mean of w y + y^2 / 2 of every output y, with weights w in [-1, 1) that layouts share."""
    del labels
    total: Any = 0.0
    for leaf in leaves(outputs).values():
        if isinstance(leaf, torch.Tensor):
            if leaf.is_floating_point():
                weights = torch.as_tensor(2 * uniform(tuple(leaf.shape)) - 1).to(leaf)
                total = total + (leaf * (weights + leaf / 2)).mean()
        elif jnp.issubdtype(leaf.dtype, jnp.floating):
            weights = jnp.asarray(2 * uniform(leaf.shape) - 1, leaf.dtype)
            total = total + (leaf * (weights + leaf / 2)).mean()
    return total


OF_THE_OUTPUTS = Loss(_of_the_outputs, _of_the_outputs)
"""For a pair without labels whose outputs are no logits."""


def more_like(batch: Batch, seed: int) -> Batch:
    """Another batch like this one: every number of a float array from another of its examples.

    Arrays of integers and booleans, and floats with infinities, are taken as they are.
    """
    rng = np.random.default_rng(seed)
    count = rows(batch.inputs)

    def shuffled(leaf: Any) -> Any:
        array = np.asarray(leaf)
        mixed = array.dtype.kind == "f" or array.dtype == np.uint8
        if not array.ndim or len(array) != count or not mixed or not np.isfinite(array).all():
            return array
        return rng.permuted(array, axis=0)

    return Batch(map_arrays(shuffled, batch.inputs), batch.labels)


def randomised_state(pair: Pair, seed: int) -> Tensors:
    """A new module's weights from `seed`, with random normalisation statistics, scales and biases.

    Fresh ones are all zeros and ones, which hide a missing or misplaced term.
    """
    torch.manual_seed(seed)
    module, rng = pair.make_torch(), np.random.default_rng(seed)
    state = arrays_of(module)
    parameters = {name for name, _ in module.named_parameters()}
    for name, value in state.items():
        if value.dtype.kind != "f":
            continue
        owner = module.get_submodule(name.rpartition(".")[0])
        kind = name.rpartition(".")[2]
        learned = name in parameters
        if kind == "running_var" or (learned and kind == "weight" and value.ndim == 1):
            state[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif kind == "running_mean" or (learned and kind == "bias"):
            state[name] = rng.uniform(-0.5, 0.5, value.shape).astype(np.float32)
        elif learned and not np.ptp(value) and not isinstance(owner, nn.Linear | nn.Conv2d):
            state[name] = (value + rng.uniform(-0.5, 0.5, value.shape)).astype(np.float32)
    return state | {name: state[first] for name, first in pair.aliases.items()}


def randomised(variables: Variables, seed: int) -> Variables:
    """The same for variables of a `jax_impl` model, as float32."""
    rng = np.random.default_rng(seed)

    def draw(keys, leaf):
        kind = keys[-1].key
        if kind in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        if kind in ("bias", "mean"):
            return jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), jnp.float32)
        return leaf

    return tree_util.tree_map_with_path(draw, variables)


def shared_weights(pair: Pair, seed: int) -> Tensors:
    """Random weights for both sides; a `jax_impl` model's come from `init(seed)`, as trained."""
    if not isinstance(pair, ModelPair):
        return randomised_state(pair, seed)
    return to_arrays(randomised(pair.model.init(seed), seed), pair.model)
