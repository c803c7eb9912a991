"""The numeric rungs pass on a correct pair and fail, at the right rung, on a planted fault."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torchvision
from jax import lax

from jax_impl import data, layers, lowering, optim, train
from jax_impl.models import Variables, from_module
from jax_impl.models.resnet import ResNet
from jax_impl.registry import Entry, ResNetOptions
from parity import ladder
from parity.options import RUNGS
from parity.pair import Batch, Pair, create_pair, randomised
from parity.recipes import recipe
from parity.rungs import NUMERIC, gradients, optimizer


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    digits = data.load_digits().train
    return [
        Batch(digits.images[start : start + 16], digits.labels[start : start + 16])
        for start in range(0, 64, 16)
    ]


def small_resnet() -> Pair:
    """One basic block a stage: every kind of layer of ResNet-18 for half its compilation."""
    depths = (1, 1, 1, 1)
    entry = Entry("basic", depths, ResNetOptions)
    return Pair(
        "resnet10",
        from_module("resnet10", partial(ResNet, entry, ResNetOptions())),
        lambda: torchvision.models.ResNet(
            torchvision.models.resnet.BasicBlock, list(depths), num_classes=10
        ),
        recipe("resnet18"),
    )


def weights(pair: Pair) -> Variables:
    return randomised(pair.model.init(0), 0)


@pytest.mark.parametrize("rung", NUMERIC)
@pytest.mark.parametrize("name", ["simple_cnn", "resnet18"])
def test_a_correct_pair_passes(name, rung, batches):
    pair = create_pair(name)
    wide, narrow = ladder.climb(rung, pair, weights(pair), batches)
    assert (wide.model, wide.rung, wide.dtype) == (name, rung, "float64")
    assert (narrow.model, narrow.rung, narrow.dtype) == (name, rung, "float32")
    assert wide.passed, wide
    assert narrow.passed, narrow


def test_without_normalisation_there_are_no_statistics(batches):
    pair = create_pair("simple_cnn")
    for found in ladder.climb("batch_stats", pair, weights(pair), batches):
        assert found.passed and found.detail == "neither side has such a tensor"


def biased_variance(monkeypatch):
    call = layers.BatchNorm2d.__call__

    def biased(self, x, train):
        before = self.var[...]
        out = call(self, x, train)
        if train:
            batch = x.var((0, 1, 2))
            self.var[...] = (1 - self.momentum) * before + self.momentum * batch
        return out

    monkeypatch.setattr(layers.BatchNorm2d, "__call__", biased)


def other_eps(monkeypatch):
    create = layers.BatchNorm2d.__init__
    monkeypatch.setattr(
        layers.BatchNorm2d, "__init__", lambda self, channels: create(self, channels, eps=1e-3)
    )


def summed_loss(monkeypatch):
    def loss(params, model, batch_stats, images, labels):
        logits, batch_stats = model.apply(Variables(params, batch_stats), images, train=True)
        return train.cross_entropy(logits, labels).sum(), batch_stats

    for module in (train, gradients, NUMERIC["loss"]):
        monkeypatch.setattr(module, "loss_and_stats", loss)


def other_adam(monkeypatch):
    monkeypatch.setattr(
        optim, "create_optimizer", lambda name, lr: optim.adam(lr, betas=(0.9, 0.99), eps=1e-7)
    )


def coarse_products(monkeypatch):
    """TF32: float32 operands with 10 bits of mantissa; float64 stays exact."""
    product = lowering.conv2d

    def rounded(images, kernel, *rest):
        if images.dtype == jnp.float32:
            images, kernel = (lax.reduce_precision(x, 8, 10) for x in (images, kernel))
        return product(images, kernel, *rest)

    monkeypatch.setattr(lowering, "conv2d", rounded)


@pytest.mark.parametrize(
    "fault, rung, dtypes",
    [
        (biased_variance, "batch_stats", {"float64", "float32"}),
        (other_eps, "forward", {"float64", "float32"}),
        (summed_loss, "loss", {"float64", "float32"}),
        (summed_loss, "gradients", {"float64", "float32"}),
        (other_adam, "optimizer", {"float64", "float32"}),
        (coarse_products, "forward", {"float32"}),
        (coarse_products, "gradients", {"float32"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_planted_fault_fails(fault, rung, dtypes, batches, monkeypatch):
    fault(monkeypatch)
    pair = create_pair("simple_cnn") if fault in (summed_loss, other_adam) else small_resnet()
    results = ladder.climb(rung, pair, weights(pair), batches[:2])
    # Noise is measured against each side's own oracle: a wrong formula is quiet in float32.
    assert {found.dtype for found in results if not found.passed} == dtypes


def test_the_whole_step_is_compared(batches, monkeypatch):
    """A wrong learning rate in the step that trains, and nowhere else."""
    make = optimizer.make_train_step
    monkeypatch.setattr(
        optimizer, "make_train_step", lambda model, _: make(model, optim.adam(1.001e-3))
    )
    pair = create_pair("simple_cnn")
    wide, _ = ladder.climb("optimizer", pair, weights(pair), batches[:1])
    assert not wide.passed and "whole step" in wide.detail


def test_randomised_weights_hide_nothing():
    pair = create_pair("resnet18")
    variables = weights(pair)
    for keys, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        if keys[-1].key != "num_batches_tracked":
            assert leaf.dtype == jnp.float32
            assert np.unique(np.asarray(leaf)).size > 1, keys


def test_the_options_name_what_there_is():
    import jax_impl.models
    import torch_ref.models

    assert set(jax_impl.models.MODELS) == set(torch_ref.models.MODELS)
    assert RUNGS == ("data", *NUMERIC, "accuracy")
