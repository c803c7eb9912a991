"""The gradient of the train-mode loss by every parameter, and by the inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.ladder.alignment import aligned
from parity.pairs.case import Case, Side
from parity.pairs.leafmap import COPY
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.trees import leaves

INPUTS = "the inputs"


def ours(case: Case) -> Side:
    """JAX's side: the gradient by every parameter and, where `by_inputs`, by the inputs."""
    leaf_map = case.pair.leaf_map

    @case.compiled
    def gradient(variables, inputs, labels):
        trainable, others = leaf_map.split(variables)
        flat, structure = jax.tree.flatten(case.jax_inputs(inputs))
        floats = [by_inputs(case, leaf.dtype) for leaf in flat]

        def loss(trainable, chosen):
            left = iter(chosen)
            made = [next(left) if yes else x for x, yes in zip(flat, floats, strict=True)]
            return case.loss(trainable, others, structure.unflatten(made), labels)

        chosen = [leaf for leaf, yes in zip(flat, floats, strict=True) if yes]
        by_leaves, by_chosen = jax.grad(loss, (0, 1), has_aux=True)(trainable, chosen)[0]
        left = iter(by_chosen)
        pixels = structure.unflatten([next(left) if yes else None for yes in floats])
        return by_leaves, {input_name(path): leaf for path, leaf in leaves(pixels).items()}

    def gradients(state: Tensors, batch: Batch) -> Tensors:
        found, pixels = gradient(case.variables(state), *batch)
        named = {name: np.asarray(value) for name, value in pixels.items()}
        return leaf_map.gradients_to_torch(found) | named

    return gradients


def theirs(case: Case) -> Side:
    """PyTorch's side: the same; zeros for what the loss does not depend on."""

    def gradients(state: Tensors, batch: Batch) -> Tensors:
        module, (inputs, labels) = case.torch_model(state), case.torch_batch(batch)
        return gradients_of(case, module, inputs, labels)

    return gradients


def gradients_of(case: Case, module: torch.nn.Module, inputs: Any, labels: Any) -> Tensors:
    """PyTorch's gradients of the loss by the trained parameters and the inputs."""
    named: dict[str, torch.Tensor] = {
        name: value for name, value in module.named_parameters() if value.requires_grad
    }
    for path, leaf in leaves(inputs).items():
        if by_inputs(case, "float32" if leaf.is_floating_point() else "int32"):
            named[input_name(path)] = leaf.requires_grad_()
    loss = case.torch_loss(case.torch_call(module, inputs), labels)
    found: Any = [None] * len(named)
    if named and loss.requires_grad:
        found = torch.autograd.grad(loss, [*named.values()], allow_unused=True)
    return {
        name: np.zeros(tuple(value.shape)) if grad is None else to_numpy(grad)
        for (name, value), grad in zip(named.items(), found, strict=True)
    }


def input_name(path: str) -> str:
    """What the gradient by the input at `path` is called."""
    return f"{INPUTS} {path}" if path else INPUTS


def matched(
    case: Case, ours: Tensors, theirs: Tensors, remarks: list[str]
) -> tuple[Tensors, Tensors]:
    """What both have, the gradients by inputs in PyTorch's layout.

    A weight that JAX holds twice is compared in each place: PyTorch's gradient by a tied weight is
    the sum of those by its uses.
    """
    first, second = {}, {}
    for name, value in ours.items():
        reference = theirs.get(name.partition(COPY)[0])
        if reference is None:
            continue
        if name.startswith(INPUTS):
            found = aligned(value, reference, case.pair.channels_last)
            if found is None:
                remarks.append(f"the gradient by {name} is not compared: the shapes differ")
                continue
            value = found
        first[name], second[name] = value, reference
    remarks += case.pair.leaf_map.uncompared
    return first, second


def by_inputs(case: Case, dtype: Any) -> bool:
    """Whether the gradient by the inputs is taken: by floating-point ones, in float64 alone.

    In float32 a rounding may move a maximum in its pooling window, and the gradient of those pixels
    with it.
    """
    return case.dtype == "float64" and jnp.issubdtype(dtype, jnp.floating)
