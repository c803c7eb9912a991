"""Planted bugs of normalisation."""

# pyright: reportArgumentType=false, reportIndexIssue=false

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_impl.models import layers
from mutants import pairs
from mutants.catalogue.common import MUTANTS, mutant, small_stem
from mutants.runner import Mutant


def norm(patch: Any, **changes: Any) -> None:
    """Batch normalisation written out, with one thing changed."""
    patch.setattr(layers.BatchNorm2d, "__call__", partial_norm(**changes))


def partial_norm(
    *,
    eps: float | None = None,
    momentum: float | None = None,
    frozen: bool = False,
    in_eval: bool = False,
    scale: bool = True,
    bias: bool = True,
    outside: bool = False,
    ddof: int = 0,
    biased: bool = False,
    keep_mean: bool = False,
    keep_var: bool = False,
    stop: bool = False,
    relu_first: bool = False,
) -> Callable:
    def call(self, x, train):
        x = jax.nn.relu(x) if relu_first else x
        mean, var = self.mean[...], self.var[...]
        if train or in_eval:
            count = x.size // x.shape[-1]
            batch_mean = x.mean((0, 1, 2))
            batch_var = jnp.square(x - batch_mean).mean((0, 1, 2))
            if train:
                m = self.momentum if momentum is None else momentum
                kept = batch_var if biased else batch_var * (count / (count - 1))
                if not keep_mean:
                    self.mean[...] = (1 - m) * mean + m * batch_mean
                if not keep_var:
                    self.var[...] = (1 - m) * var + m * kept
                self.num_batches_tracked[...] = self.num_batches_tracked[...] + 1
            if not frozen:
                mean, var = batch_mean, batch_var * (count / (count - ddof))
            if stop:
                mean, var = lax.stop_gradient((mean, var))
        e = self.eps if eps is None else eps
        root = jnp.sqrt(var) + e if outside else jnp.sqrt(var + e)
        out = (x - mean) / root
        out = out * self.scale[...] if scale else out
        return out + self.bias[...] if bias else out

    return call


NORMS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("eps 1e-3", {"eps": 1e-3}, "forward", "bn1", "eps is 0.001"),
    ("frozen statistics", {"frozen": True}, "forward", "bn1", "running statistics in training"),
    ("batch statistics in eval mode", {"in_eval": True}, "forward", "bn1", "in eval mode"),
    ("no scale", {"scale": False}, "forward", "bn1", "the scale is missing"),
    ("no bias", {"bias": False}, "forward", "bn1", "the bias is missing"),
    ("eps outside the root", {"outside": True}, "forward", "bn1", "eps is added to the deviation"),
    ("unbiased variance of the batch", {"ddof": 1}, "forward", "bn1", "unbiased variance"),
    ("relu before the norm", {"relu_first": True}, "forward", "bn1", "ReLU comes before"),
    ("biased running variance", {"biased": True}, "batch_stats", "bn1", "biased one"),
    ("momentum of Flax", {"momentum": 0.01}, "batch_stats", "bn1", "momentum would be 0.01"),
    ("momentum the other way", {"momentum": 0.9}, "batch_stats", "bn1", "momentum would be 0.9"),
    ("running mean not kept", {"keep_mean": True}, "batch_stats", "bn1", "running mean is not"),
    ("running variance not kept", {"keep_var": True}, "batch_stats", "bn1", "variance is not"),
    (
        "statistics without gradient",
        {"stop": True},
        "gradients",
        "layer4.0.downsample.0",
        "batch's",
    ),
]

for _name, _changes, _rung, _module, _cause in NORMS:

    def _patch(patch, make, changes=_changes):
        norm(patch, **changes)
        return make()

    _group = "batch normalisation"
    MUTANTS.append(Mutant(_name, _group, small_stem, _rung, _module, _cause, _patch))


@mutant("layer normalisation", pairs.mlp, "forward", "norm", "eps is 1e-06")
def layer_norm_eps(patch, make):
    return pairs.mlp(eps=1e-6)


@mutant("layer normalisation", pairs.mlp, "forward", "norm", "unbiased")
def layer_norm_unbiased(patch, make):
    return pairs.mlp(ddof=1)


@mutant("layer normalisation", pairs.mlp, "forward", "norm", "mean is not subtracted")
def rms_norm(patch, make):
    return pairs.mlp(rms=True)
