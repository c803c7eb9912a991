"""Weights that the model never reads, and training that passes them over."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mutants import pairs
from training_support import random_split

from jax_impl.data import datasets
from jax_impl.models.model import create_model
from jax_impl.training import optim, regions
from jax_impl.training.epoch import _regions, make_train_epoch
from jax_impl.training.state import create_state
from jax_impl.training.step import loss_and_stats
from parity.pairs.weights import to_arrays, to_flax


def test_the_weights_that_are_read():
    """Of resnet18 on 32x32 images a gradient is zero outside of the regions, and only there."""
    model, split = create_model("resnet18", width=8), random_split(8)
    state = create_state(model.init(0), optim.sgd(0.1))
    images = jnp.asarray(split.images)
    read = _regions(model, optim.sgd(0.1), state, images, None).params
    inputs = datasets.normalize(images, jnp.float32)
    labels = jnp.asarray(split.labels)

    @jax.jit
    def gradient(params):
        loss = jax.grad(loss_and_stats, has_aux=True)
        return loss(params, model, state.batch_stats, inputs, labels)[0]

    gradients = gradient(state.params)
    assert regions.zero_outside(gradients, read)
    parts = [r for r in jax.tree.leaves(read) if not r.whole]
    assert [r.shape[:2] for r in parts] == [(3, 3)] * 4
    assert [(r.start[:2], r.stop[:2]) for r in parts] == [((1, 1), (3, 3))] + [((1, 1), (2, 2))] * 3
    inside = regions.cut(gradients, read)
    assert all(np.count_nonzero(part) > 0.5 * part.size for part in jax.tree.leaves(inside))


@pytest.mark.parametrize(
    "function, start, stop",
    [
        (lambda w, x: (x @ w[1:3]).sum(), (1, 0), (3, 4)),
        (lambda w, x: (x @ w[:2]).sum() + (x[:, :1] @ w[3:4]).sum(), (0, 0), (4, 4)),
        (lambda w, x: (x @ w[1:3]).sum() + w.sum(), (0, 0), (5, 4)),
        (lambda w, x: (x.sum(), w), (0, 0), (5, 4)),
        (lambda w, x: x.sum(), (0, 0), (5, 4)),
        (lambda w, x: jax.jit(lambda w: x @ w[1:3])(w), (0, 0), (5, 4)),
    ],
)
def test_what_is_read_is_told_by_slices_alone(function, start, stop):
    shapes = jax.ShapeDtypeStruct((5, 4), jnp.float32), jax.ShapeDtypeStruct((3, 2), jnp.float32)
    assert regions.read_by(function, *shapes) == regions.Region((5, 4), start, stop)


@pytest.mark.parametrize(
    "optimizer",
    [optim.adam(0.01, amsgrad=True), optim.sgd(0.1, momentum=0.9, nesterov=True)],
    ids=["adam", "sgd"],
)
def test_weights_that_are_not_read_are_passed_over(optimizer):
    """Training is the same as when they are visited."""
    model, split, found = pairs.residual().model, random_split(16), []
    variables = to_arrays(model.init(0), model)
    with jax.enable_x64(True):
        wide = {k: v.astype(float) if v.dtype == np.float32 else v for k, v in variables.items()}
        for chosen in (optimizer, optax.GradientTransformation(*optimizer)):
            state = create_state(to_flax(wide, model), chosen)
            train_epoch = make_train_epoch(model, chosen, 8)
            found += train_epoch(state, split.images, split.labels, np.arange(16))
        for ours, whole in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_allclose(ours, whole, rtol=1e-8, atol=1e-10)
    name = "layer4.0.conv2.weight"
    unread = np.ones((3, 3), bool)
    unread[1, 1] = False
    after = to_arrays(found[0][0].variables, model)[name]
    assert np.array_equal(after[..., unread], variables[name][..., unread])
    assert not np.array_equal(after[..., 1, 1], variables[name][..., 1, 1])


@pytest.mark.parametrize(
    "optimizer, lazy",
    [
        (optim.adam(0.01), True),
        (optim.sgd(0.1), True),
        (optim.rmsprop(0.01, momentum=0.9, centered=True), True),
        (optim.adamw(0.01, weight_decay=0), True),
        (optim.adamw(0.01), False),
        (optim.sgd(0.1, weight_decay=1e-4), False),
        (optim.adam(0.01, eps=0), False),  # 0 / 0
        (optax.adam(0.01), False),
    ],
)
def test_which_optimizers_let_unread_weights_be(optimizer, lazy):
    assert isinstance(optimizer, optim.Lazy) is lazy
    weights = {"a": jnp.ones(3), "b": jnp.ones(2)}
    state = optimizer.init(weights)
    updates, after = optimizer.update(jax.tree.map(jnp.zeros_like, weights), state, weights)
    if lazy:
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
        region = regions.Region((3,), (1,), (1,))
        boxes = regions.of_state(optimizer, after, {"a": region, "b": region})
        assert regions.zero_outside(after, boxes)


def test_a_state_that_moves_unread_weights_moves_them_on():
    """Momentum from larger images: where those taps were read."""
    model, split, optimizer = pairs.residual().model, random_split(8), optim.adam(0.01)
    state = create_state(model.init(0), optimizer)
    moved = jax.tree.map(lambda leaf: leaf + jnp.ones_like(leaf), state.opt_state)
    state = dataclasses.replace(state, opt_state=moved)
    before = np.array(state.params["layer4"]["0"]["conv2"]["kernel"])
    train_epoch = make_train_epoch(model, optimizer, 8)
    ((state, _),) = train_epoch(state, split.images, split.labels, np.arange(8))
    after = np.array(state.params["layer4"]["0"]["conv2"]["kernel"])
    assert (before != after).all()
