"""The gradient of the train-mode loss by every parameter."""

import jax
import torch
from torch.nn import functional as F

from jax_impl.data import normalize
from jax_impl.models import Variables
from jax_impl.train import loss_and_stats
from parity.pair import Batch, Case, Side, Tensors
from parity.weights import to_arrays


def ours(case: Case) -> Side:
    model = case.pair.model

    @jax.jit
    def gradient(variables, images, labels):
        images = normalize(images, case.dtype)
        return jax.grad(loss_and_stats, has_aux=True)(
            variables.params, model, variables.batch_stats, images, labels
        )[0]

    def gradients(variables: Variables, batch: Batch) -> Tensors:
        found = gradient(case.jax_variables(variables), *batch)
        return to_arrays(Variables(found, {}), model)

    return gradients


def theirs(case: Case) -> Side:
    def gradients(variables: Variables, batch: Batch) -> Tensors:
        module, (images, labels) = case.torch_model(variables), case.torch_batch(batch)
        named = dict(module.named_parameters())
        found = torch.autograd.grad(F.cross_entropy(module(images), labels), [*named.values()])
        return {name: grad.cpu().numpy() for name, grad in zip(named, found, strict=True)}

    return gradients
