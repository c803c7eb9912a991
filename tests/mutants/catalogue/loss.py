"""Planted bugs of loss."""

# pyright: reportArgumentType=false, reportIndexIssue=false

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_impl.training.step import cross_entropy
from mutants import pairs
from mutants.catalogue.common import mutant
from parity.ladder.rungs import loss
from parity.pairs.pair import CROSS_ENTROPY, Loss, Pair


def with_loss(make: Callable[[], Pair], function: Callable) -> Pair:
    pair = make()
    return dataclasses.replace(pair, loss=Loss(CROSS_ENTROPY.torch, function))


def entropy(x, y):
    return cross_entropy(x, y)


@mutant("loss", pairs.cnn, "loss", "the loss", "summed")
def summed_loss(patch, make):
    return with_loss(make, lambda x, y: entropy(x, y).sum())


@mutant("loss", pairs.cnn, "loss", "the loss", "overflows")
def unstable_softmax(patch, make):
    def loss(x, y):
        p = jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)
        return -jnp.log(jnp.take_along_axis(p, y[:, None], 1)).mean()

    return with_loss(make, loss)


@mutant("loss", pairs.cnn, "loss", "the loss", "softmax is applied twice")
def softmax_twice(patch, make):
    return with_loss(make, lambda x, y: entropy(jax.nn.softmax(x), y).mean())


@mutant("loss", pairs.cnn, "loss", "the loss", "averaged over the classes")
def averaged_over_classes(patch, make):
    return with_loss(make, lambda x, y: entropy(x, y).mean() / x.shape[1])


@mutant("loss", pairs.cnn, "loss", "the loss", "smoothed by 0.1")
def smoothed_by_default(patch, make):
    return with_loss(make, lambda x, y: cross_entropy(x, y, label_smoothing=0.1).mean())


@mutant("loss", pairs.cnn, "loss", "the loss", "other classes alone")
def smoothing_over_the_other_classes(patch, make):
    def smoothed(logits, labels, label_smoothing=0.0):
        k = logits.shape[1]
        hot = jax.nn.one_hot(labels, k, dtype=logits.dtype)
        target = hot * (1 - label_smoothing) + (1 - hot) * label_smoothing / (k - 1)
        return -(target * jax.nn.log_softmax(logits)).sum(-1)

    variants = dict(loss.VARIANTS)
    name = "mean with label smoothing 0.1"
    variants[name] = (lambda x, y: smoothed(x, y, 0.1).mean(), variants[name][1])
    patch.setattr(loss, "VARIANTS", variants)
    return make()
