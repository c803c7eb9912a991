"""Logits in eval and in train mode."""

import jax
import numpy as np
import torch

from jax_impl.data import normalize
from jax_impl.models import Variables
from parity.pair import Batch, Case, Side, Tensors


def ours(case: Case) -> Side:
    model = case.pair.model

    @jax.jit
    def forward(variables, images):
        images = normalize(images, case.dtype)
        return {
            "logits in eval mode": model.apply(variables, images, train=False)[0],
            "logits in train mode": model.apply(variables, images, train=True)[0],
        }

    def logits(variables: Variables, batch: Batch) -> Tensors:
        return jax.tree.map(np.asarray, forward(case.jax_variables(variables), batch.images))

    return logits


def theirs(case: Case) -> Side:
    def logits(variables: Variables, batch: Batch) -> Tensors:
        module, (images, _) = case.torch_model(variables), case.torch_batch(batch)
        with torch.no_grad():
            evaluated, trained = module.eval()(images), module.train()(images)
        return {
            "logits in eval mode": evaluated.cpu().numpy(),
            "logits in train mode": trained.cpu().numpy(),
        }

    return logits
