"""The gradient of the train-mode loss by every parameter, and by the inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.pairs.pair import Batch, Case, Side, Tensors, to_numpy

INPUTS = "the inputs"


def ours(case: Case) -> Side:
    """JAX's side: the gradient by every parameter and, where `by_inputs`, by the inputs."""
    leaf_map = case.pair.leaf_map

    @case.compiled
    def gradient(variables, inputs, labels):
        trainable, others = leaf_map.split(variables)
        x = case.jax_inputs(inputs)
        if not by_inputs(case, x.dtype):
            return jax.grad(case.loss, has_aux=True)(trainable, others, x, labels)[0], None
        return jax.grad(case.loss, (0, 2), has_aux=True)(trainable, others, x, labels)[0]

    def gradients(state: Tensors, batch: Batch) -> Tensors:
        found, pixels = gradient(case.variables(state), *batch)
        tensors = leaf_map.to_torch(found, True)
        if pixels is not None:
            tensors[INPUTS] = case.to_torch_layout(pixels)
        return tensors

    return gradients


def theirs(case: Case) -> Side:
    """PyTorch's side: the same; zeros for what the loss does not depend on."""

    def gradients(state: Tensors, batch: Batch) -> Tensors:
        module, (inputs, labels) = case.torch_model(state), case.torch_batch(batch)
        named: dict[str, torch.Tensor] = dict(module.named_parameters())
        if by_inputs(case, "float32" if inputs.is_floating_point() else "int32"):
            named[INPUTS] = inputs.requires_grad_()
        loss = case.pair.loss.torch(module(inputs), labels)
        found = torch.autograd.grad(loss, [*named.values()], allow_unused=True)
        return {
            name: np.zeros(value.shape) if grad is None else to_numpy(grad)
            for (name, value), grad in zip(named.items(), found, strict=True)
        }

    return gradients


def by_inputs(case: Case, dtype: Any) -> bool:
    """Whether the gradient by the inputs is taken: by floating-point ones, in float64 alone.

    In float32 a rounding may move a maximum in its pooling window, and the gradient of those pixels
    with it.
    """
    return case.dtype == "float64" and jnp.issubdtype(dtype, jnp.floating)
