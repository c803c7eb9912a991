"""The loss of fixed outputs: the model's own, and the same a hundred thousand times as large.

Cross entropy also summed, of each row, and with label smoothing.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from jax_impl.training.step import cross_entropy
from parity.pairs.pair import CROSS_ENTROPY, Batch, Case, Side, Tensors, to_numpy

SCALES = 1.0, 1e5
"""exp overflows float32 beyond 88."""

VARIANTS: dict[str, tuple[Callable, Callable]] = {
    "sum": (
        lambda x, y: cross_entropy(x, y).sum(),
        lambda x, y: F.cross_entropy(x, y, reduction="sum"),
    ),
    "of each row": (cross_entropy, lambda x, y: F.cross_entropy(x, y, reduction="none")),
    "mean with label smoothing 0.1": (
        lambda x, y: cross_entropy(x, y, label_smoothing=0.1).mean(),
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
    ),
}


def variants(case: Case) -> dict[str, tuple[Callable, Callable]]:
    """JAX's and PyTorch's functions by name."""
    loss = case.pair.loss
    return {"mean": (loss.jax, loss.torch), **(VARIANTS if loss == CROSS_ENTROPY else {})}


def ours(case: Case) -> Side:
    """JAX's side: each of `variants` of the outputs at each of `SCALES`."""
    functions = {name: case.compiled(function) for name, (function, _) in variants(case).items()}

    def losses(state: Tensors, batch: Batch) -> Tensors:
        return {
            f"{name}, outputs times {scale:g}": np.asarray(
                function(jnp.asarray(outputs, case.dtype), batch.labels)
            )
            for scale, outputs in scaled(case, state, batch)
            for name, function in functions.items()
        }

    return losses


def theirs(case: Case) -> Side:
    """PyTorch's side: the same, under the same names."""

    def losses(state: Tensors, batch: Batch) -> Tensors:
        labels, dtype = case.torch_batch(batch)[1], getattr(torch, case.dtype)
        return {
            f"{name}, outputs times {scale:g}": to_numpy(
                function(torch.from_numpy(outputs).to(case.device, dtype), labels)
            )
            for scale, outputs in scaled(case, state, batch)
            for name, (_, function) in variants(case).items()
        }

    return losses


def scaled(case: Case, state: Tensors, batch: Batch) -> list[tuple[float, np.ndarray]]:
    """(scale, outputs) of PyTorch's float32 model in train mode, rounded to the case's dtype."""
    narrow = Case(case.pair, "float32", case.device)
    with torch.no_grad():
        outputs = narrow.torch_model(state)(narrow.torch_batch(batch)[0]).cpu().numpy()
    kept = np.float64 if case.dtype == "float64" else np.float32
    products = [(scale, outputs * np.float32(scale)) for scale in SCALES]
    return [(scale, value.astype(jnp.dtype(case.dtype)).astype(kept)) for scale, value in products]
