"""Running statistics after three train-mode batches: the images, mirrored, and upside down."""

import jax
import torch

from jax_impl.data import normalize
from jax_impl.models import Variables
from parity.pair import Batch, Case, Side, Tensors
from parity.weights import to_arrays


def ours(case: Case) -> Side:
    model = case.pair.model
    step = jax.jit(lambda variables, images: model.apply(variables, images, train=True)[1])

    def statistics(variables: Variables, batch: Batch) -> Tensors:
        params, stats = case.jax_variables(variables)
        images = normalize(batch.images, case.dtype)
        for view in (images, images[:, :, ::-1], images[:, ::-1]):
            stats = step(Variables(params, stats), view)
        return to_arrays(Variables({}, stats), model)

    return statistics


def theirs(case: Case) -> Side:
    def statistics(variables: Variables, batch: Batch) -> Tensors:
        module, (images, _) = case.torch_model(variables), case.torch_batch(batch)
        with torch.no_grad():
            for view in (images, images.flip(3), images.flip(2)):
                module(view)
        return {name: buffer.cpu().numpy() for name, buffer in module.named_buffers()}

    return statistics
