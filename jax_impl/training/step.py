"""One step of training. Images are normalised inside of it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from jax_impl.data.datasets import normalize
from jax_impl.models.model import Model, Variables
from jax_impl.ops import platform
from jax_impl.training.state import TrainState


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """`torch.nn.functional.cross_entropy(reduction="none")`: [n, classes], int [n] -> [n].

    `label_smoothing` mixes that share of a uniform distribution into the labels.
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not label_smoothing:
        return loss
    uniform = -jax.nn.log_softmax(logits).mean(-1)
    return (1 - label_smoothing) * loss + label_smoothing * uniform


def loss_and_stats(
    params: dict[str, Any],
    model: Model,
    batch_stats: dict[str, Any],
    images: jax.Array,
    labels: jax.Array,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, tuple[dict[str, Any], jax.Array]]:
    """The batch's mean loss in train mode; the updated running statistics, and the images right.

    The loss has the parameters' dtype; how many images are classified right is int32.
    """
    logits, batch_stats = model.apply(Variables(params, batch_stats), images, train=True)
    logits = logits.astype(compute_dtype(params))
    right = (logits.argmax(-1) == labels).sum(dtype=np.int32)
    return cross_entropy(logits, labels, label_smoothing).mean(), (batch_stats, right)


def compute_dtype(params: dict[str, Any]) -> Any:
    """The parameters' own."""
    return jax.tree.leaves(params)[0].dtype


def update(
    model: Model,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    dtype: Any = None,
    read: Callable[[dict[str, Any]], dict[str, Any]] = lambda params: params,
    prepared: Callable[[jax.Array, Any], jax.Array] = normalize,
    label_smoothing: float = 0.0,
) -> tuple[TrainState, jax.Array, jax.Array]:
    """One step, not jitted: what `make_train_step` and `make_train_epoch` compile.

    Args:
        model: what is trained.
        optimizer: makes updates of the gradients.
        state: before the step.
        images: uint8 [n, h, w, 3]; `prepared` here.
        labels: int [n].
        dtype: to compute in, by default the parameters'. With bfloat16 and parameters in float32
            these, their gradients, the statistics and the loss stay in float32.
        read: the parameters that the model reads, of those that the state holds: by default these.
        prepared: the net's inputs of images and a dtype.
        label_smoothing: of `cross_entropy`.

    Returns:
        the new state, and of the batch before the step the mean loss and how many images were
        classified right, int32.
    """
    dtype = dtype or compute_dtype(state.params)

    def loss(params: dict[str, Any], *arguments: Any) -> Any:
        return loss_and_stats(read(params), *arguments, label_smoothing=label_smoothing)

    gradient = jax.value_and_grad(loss, has_aux=True)
    (value, (batch_stats, right)), gradients = gradient(
        state.params, model, state.batch_stats, prepared(images, dtype), labels
    )
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, batch_stats, opt_state), value, right


def make_train_step(
    model: Model, optimizer: optax.GradientTransformation, dtype: Any = None
) -> Callable:
    """The jitted `(state, images, labels) -> (state, loss)` of `update`; it consumes `state`.

    Inside another `jax.jit` call `update` itself: this one has options for the compiler.
    """

    def step(state, images, labels):
        return update(model, optimizer, state, images, labels, dtype)[:2]

    return jax.jit(step, donate_argnums=0, compiler_options=platform.compiler_options())
