"""The loss of fixed outputs: the model's own, and the same a hundred thousand times as large.

Cross entropy also summed, of each row, and with label smoothing. Another loss than cross entropy
need not be defined on outputs so large: it is compared on them in float64 alone, and where
PyTorch's own is finite.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from jax_impl.training.step import cross_entropy
from parity.ladder.rungs.fixed import Structure, from_jax, jax_labels, structure_of, to_jax
from parity.pairs.case import Case, Side
from parity.pairs.pair import CROSS_ENTROPY, Batch, Tensors, to_numpy
from parity.pairs.trees import filled, leaves
from parity.pairs.widening import widened

SCALES = 1.0, 1e5
"""exp overflows float32 beyond 88, float64 beyond 709."""

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
    """JAX's and PyTorch's functions of (outputs, labels) by name."""
    loss = case.pair.loss
    return {"mean": (loss.jax, widened(loss.torch)), **(VARIANTS if loss == CROSS_ENTROPY else {})}


def name_of(kind: str, scale: float) -> str:
    """What a variant's value at a scale is called."""
    return f"{kind}, outputs times {scale:g}"


def ours(case: Case) -> Side:
    """JAX's side: each of `variants` of the outputs at each of `SCALES`."""
    structure_in, compiled = structure_of(case), {}

    def losses(state: Tensors, batch: Batch) -> Tensors:
        structure, labels = structure_in(state, batch), jax_labels(case, batch)
        if not compiled:
            for name, (function, _) in variants(case).items():
                compiled[name] = case.compiled(of_values(function, structure))
        return {
            name_of(name, scale): np.asarray(function(to_jax(case, structure, outputs), labels))
            for scale, outputs in scaled(case, state, batch)
            for name, function in compiled.items()
        }

    return losses


def of_values(function: Callable, structure: Structure) -> Callable:
    """A loss of JAX's outputs as one of their values by path."""
    return lambda values, labels: function(filled(structure.skeleton, values), labels)


def theirs(case: Case) -> Side:
    """PyTorch's side: the same, under the same names."""

    def losses(state: Tensors, batch: Batch) -> Tensors:
        labels = case.torch_labels(batch.labels)
        return {
            name_of(name, scale): to_numpy(function(cloned(outputs), labels))
            for scale, outputs in scaled(case, state, batch)
            for name, (_, function) in variants(case).items()
        }

    return losses


def matched(
    case: Case, ours: Tensors, theirs: Tensors, remarks: list[str]
) -> tuple[Tensors, Tensors]:
    """The losses, which both have."""
    del case, remarks
    return ours, theirs


def scaled(case: Case, state: Tensors, batch: Batch) -> list[tuple[float, Any]]:
    """(scale, outputs) of PyTorch's float32 model in train mode, rounded to the case's dtype.

    In PyTorch's structure; only leaves of floating-point numbers are scaled.
    """
    outputs = torch_outputs(Case(case.pair, "float32", case.device), state, batch)
    made = [(scale, times(case, outputs, scale)) for scale in SCALES]
    if case.pair.loss == CROSS_ENTROPY:
        return made
    labels = case.torch_labels(batch.labels)
    wide = case.dtype == "float64"
    return made[:1] + [m for m in made[1:] if wide and _defined(case, m[1], labels)]


def torch_outputs(case: Case, state: Tensors, batch: Batch) -> Any:
    """The PyTorch model's, in train mode where the pair has one."""
    with torch.no_grad():
        return case.torch_call(case.torch_model(state), case.torch_batch(batch)[0])


def times(case: Case, outputs: Any, scale: float) -> Any:
    """Outputs with every leaf of floating-point numbers in float32 times `scale`, then cast."""
    dtype = getattr(torch, case.dtype)
    return filled(
        outputs,
        {
            path: (leaf.float() * scale).to(dtype)
            for path, leaf in leaves(outputs).items()
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        },
    )


def cloned(outputs: Any) -> Any:
    """A copy that a loss may work in place on."""
    tensors = leaves(outputs).items()
    return filled(outputs, {p: x.clone() for p, x in tensors if isinstance(x, torch.Tensor)})


def _defined(case: Case, outputs: Any, labels: Any) -> bool:
    """Whether PyTorch's loss is finite there."""
    try:
        value = case.torch_loss(cloned(outputs), labels)
    except (RuntimeError, ValueError, AssertionError):
        return False
    return bool(torch.isfinite(value).all())


def output_gradients(case: Case) -> tuple[Side, Side]:
    """JAX's and PyTorch's gradient of the mean loss by the outputs, at their own values.

    By path and in the layout of PyTorch's outputs; of leaves of floating-point numbers. Zeros for
    what the loss does not depend on.
    """
    structure_in = structure_of(case)

    def our_gradients(state: Tensors, batch: Batch) -> Tensors:
        structure, (_, outputs) = structure_in(state, batch), scaled(case, state, batch)[0]
        given, labels = to_jax(case, structure, outputs), jax_labels(case, batch)
        loss = of_values(case.pair.loss.jax, structure)
        floats = {p: x for p, x in given.items() if jnp.issubdtype(x.dtype, jnp.floating)}

        @case.compiled
        def gradient(values: Any, labels: Any) -> Any:
            return jax.grad(lambda chosen: loss({**given, **chosen}, labels))(values)

        return from_jax(case, structure, outputs, gradient(floats, labels))

    def their_gradients(state: Tensors, batch: Batch) -> Tensors:
        outputs = scaled(case, state, batch)[0][1]
        return torch_gradients(case.torch_loss, outputs, case.torch_labels(batch.labels))

    return our_gradients, their_gradients


def torch_gradients(loss: Callable, outputs: Any, labels: Any) -> Tensors:
    """PyTorch's gradient of a loss by every leaf of floating-point numbers, by path."""
    given = {
        path: leaf.detach().clone().requires_grad_()
        for path, leaf in leaves(outputs).items()
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
    }
    value = loss(filled(outputs, {path: leaf * 1 for path, leaf in given.items()}), labels)
    found = [None] * len(given)
    if value.requires_grad:
        found = torch.autograd.grad(value, [*given.values()], allow_unused=True)
    return {
        path: np.zeros(tuple(leaf.shape)) if grad is None else to_numpy(grad)
        for (path, leaf), grad in zip(given.items(), found, strict=True)
    }
