"""Normalisation: what porting it tends to get wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Thunk

EPSILONS = 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0


def batch_norm_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """Another eps, momentum, statistic, scale, bias or order, or no normalisation."""
    a = call.given
    x, mean, var = a["input"], a["running_mean"], a["running_var"]
    axes = tuple(i for i in range(x.ndim) if i != 1)
    for eps in EPSILONS:
        if eps != a["eps"]:
            yield f"eps is {eps:g} and not {a['eps']:g}", call.with_(eps=eps)
    if a["training"]:
        for momentum in (0.9, 0.01, 0.99, 0.001, 0.2, 0.05, 1.0):
            if momentum != a["momentum"]:
                yield (
                    f"PyTorch's momentum would be {momentum:g} and not {a['momentum']:g}",
                    call.with_(momentum=momentum),
                )

        def updated(new_mean: Any, new_var: Any) -> Any:
            out = call.with_(running_mean=mean.clone(), running_var=var.clone())()
            m = a["momentum"]
            with torch.no_grad():
                mean.copy_(new_mean(m))
                var.copy_(new_var(m))
            return out

        def blended(old: torch.Tensor, new: torch.Tensor) -> Callable[[float], torch.Tensor]:
            before = old.clone()
            return lambda m: (1 - m) * before + m * new

        batch_mean, biased = x.mean(axes).detach(), x.var(axes, unbiased=False).detach()
        unbiased = x.var(axes).detach()
        kept_mean, kept_var = blended(mean, mean.clone()), blended(var, var.clone())
        good_mean, good_var = blended(mean, batch_mean), blended(var, unbiased)
        yield (
            "the running variance is the biased one, not n / (n - 1) times it",
            lambda: updated(good_mean, blended(var, biased)),
        )
        yield (
            "the running statistics are not updated",
            lambda: updated(kept_mean, kept_var),
        )
        yield "the running mean is not updated", lambda: updated(kept_mean, good_var)
        yield "the running variance is not updated", lambda: updated(good_mean, kept_var)
        yield (
            "the running variance is of the mean square and not about the mean",
            lambda: updated(good_mean, blended(var, x.square().mean(axes).detach())),
        )
        yield (
            "the running statistics keep a sum and not an average",
            lambda: updated(lambda m: mean + m * batch_mean, lambda m: var + m * unbiased),
        )
        yield (
            "the running deviation is kept in the place of the variance",
            lambda: updated(good_mean, blended(var, unbiased.sqrt())),
        )
        yield (
            "it normalises by the running statistics in training: they are frozen",
            call.with_(training=False),
        )
        yield "the batch is normalised by the unbiased variance", lambda: normalised(a, axes, 1)
    else:
        yield (
            "it normalises by the batch's statistics in eval mode",
            lambda: F.batch_norm(x, None, None, a["weight"], a["bias"], True, 0.0, a["eps"]),
        )
    if a["weight"] is not None:
        yield "the scale is missing", call.with_(weight=None)
        yield "the scale is 1 + weight", call.with_(weight=a["weight"] + 1)
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    yield "the ReLU comes before the normalisation", call.with_(input=torch.relu(x))
    yield "the normalisation is missing", lambda: x * 1
    if x.ndim == 4:
        yield (
            "each image is normalised by itself (instance normalisation)",
            lambda: F.instance_norm(x, None, None, a["weight"], a["bias"], True, 0.0, a["eps"]),
        )
    yield "eps is added to the deviation and not to the variance", lambda: normalised(a, axes, 2)


def normalised(a: dict[str, Any], axes: tuple[int, ...], how: int) -> torch.Tensor:
    """Batch normalisation by the unbiased variance (1), or with eps outside the root (2)."""
    x, shape = a["input"], [1, -1] + [1] * (a["input"].ndim - 2)
    if a["training"]:
        mean, var = x.mean(axes), x.var(axes, unbiased=how == 1)
    else:
        mean, var = a["running_mean"], a["running_var"]
    divisor = var.sqrt() + a["eps"] if how == 2 else (var + a["eps"]).sqrt()
    out = (x - mean.view(shape)) / divisor.view(shape)
    weight, bias = a["weight"], a["bias"]
    out = out if weight is None else out * weight.view(shape)
    return out if bias is None else out + bias.view(shape)


def norm_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """Layer and group normalisation: another eps, statistic, scale or bias, or none at all."""
    a = call.given
    for eps in EPSILONS:
        if eps != a["eps"]:
            yield f"eps is {eps:g} and not {a['eps']:g}", call.with_(eps=eps)
    if a["weight"] is not None:
        yield "the scale is missing", call.with_(weight=None)
        yield "the scale is 1 + weight", call.with_(weight=a["weight"] + 1)
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    yield "the normalisation is missing", lambda: a["input"] * 1
    if call.name == "layer_norm":
        x, axes = a["input"], tuple(range(-len(a["normalized_shape"]), 0))
        weight = 1 if a["weight"] is None else a["weight"]
        bias = 0 if a["bias"] is None else a["bias"]

        def unbiased() -> torch.Tensor:
            deviation = (x.var(axes, unbiased=True, keepdim=True) + a["eps"]).sqrt()
            return (x - x.mean(axes, keepdim=True)) / deviation * weight + bias

        yield "the variance is the unbiased one", unbiased
        yield (
            "the mean is not subtracted (RMS normalisation)",
            lambda: x / (x.square().mean(axes, keepdim=True) + a["eps"]).sqrt() * weight + bias,
        )


def normalised_by_constants(a: dict[str, Any]) -> torch.Tensor:
    """Batch normalisation in training whose gradient takes the batch's statistics for constants."""
    x = a["input"]
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean, var = x.mean(axes).detach(), x.var(axes, unbiased=False).detach()
    return F.batch_norm(x, mean, var, a["weight"], a["bias"], False, 0.0, a["eps"])
