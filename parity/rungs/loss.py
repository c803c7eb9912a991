"""Cross entropy of each image, and its mean over the batch, in train mode."""

import jax
import numpy as np
import torch
from torch.nn import functional as F

from jax_impl.data import normalize
from jax_impl.models import Variables
from jax_impl.train import cross_entropy, loss_and_stats
from parity.pair import Batch, Case, Side, Tensors


def ours(case: Case) -> Side:
    model = case.pair.model

    @jax.jit
    def both(variables, images, labels):
        images = normalize(images, case.dtype)
        logits, _ = model.apply(variables, images, train=True)
        mean, _ = loss_and_stats(variables.params, model, variables.batch_stats, images, labels)
        return {"loss of each image": cross_entropy(logits, labels), "mean loss": mean}

    def losses(variables: Variables, batch: Batch) -> Tensors:
        return jax.tree.map(np.asarray, both(case.jax_variables(variables), *batch))

    return losses


def theirs(case: Case) -> Side:
    def losses(variables: Variables, batch: Batch) -> Tensors:
        images, labels = case.torch_batch(batch)
        with torch.no_grad():
            logits = case.torch_model(variables)(images)
            each = F.cross_entropy(logits, labels, reduction="none")
            mean = F.cross_entropy(logits, labels)
        return {"loss of each image": each.cpu().numpy(), "mean loss": mean.cpu().numpy()}

    return losses
