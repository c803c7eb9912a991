"""Normalisation but that of batches: what porting it tends to get wrong."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects
from parity.diagnosis.suspects.sizes import interleaved, of_channels

EPSILONS = 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0
OUTSIDE = "eps is added to the deviation and not to the variance"
RMS = "the mean is not subtracted (RMS normalisation)"
UNBIASED = "the variance is the unbiased one"


def eps_suspects(call: Call, epsilons: Sequence[float] = EPSILONS) -> Suspects:
    """Another eps."""
    a = call.given
    now = torch.finfo(a["input"].dtype).eps if a["eps"] is None else a["eps"]
    for eps in epsilons:
        if eps != now:
            yield f"eps is {eps:g} and not {now:g}", call.with_(eps=eps)


def affine_suspects(call: Call) -> Suspects:
    """The scale or the bias is missing, or the scale is kept as a difference from one."""
    a = call.given
    weight, bias = a["weight"], a.get("bias")
    if weight is not None:
        yield "the scale is missing", call.with_(weight=None)
        yield "the scale is 1 + weight", call.with_(weight=lambda: weight + 1)
    if bias is not None:
        yield "the bias is missing", call.with_(bias=None)


def norm_suspects(call: Call) -> Suspects:
    """Layer, group, instance and RMS normalisation: another eps, statistic, axis, scale or bias."""
    a = call.given
    if not call.floats or a["input"].ndim == 0:
        return
    yield from eps_suspects(call)
    yield from affine_suspects(call)
    yield "the normalisation is missing", lambda: a["input"] * 1
    kind = {
        "layer_norm": _layer_norm_suspects,
        "rms_norm": _rms_norm_suspects,
        "group_norm": _group_norm_suspects,
        "instance_norm": _instance_norm_suspects,
    }
    yield from kind[call.name](call)


def normalised(
    x: torch.Tensor,
    axes: Sequence[int],
    eps: float,
    correction: int = 0,
    centred: bool = True,
    outside: bool = False,
    rooted: bool = True,
) -> torch.Tensor:
    """X less its mean, by its deviation, over the axes; without scale and bias."""
    axes = tuple(axes)
    mean = x.mean(axes, keepdim=True)
    if centred:
        var = x.var(axes, correction=correction, keepdim=True)
    else:
        var = x.square().mean(axes, keepdim=True)
    if not rooted:
        divisor = var + eps
    else:
        divisor = var.sqrt() + eps if outside else (var + eps).sqrt()
    return (x - mean if centred else x) / divisor


def layer_norm(**how: Any) -> Callable[..., torch.Tensor]:
    """`F.layer_norm` by other statistics; `axes` names others than the last."""
    axes = how.pop("axes", None)

    def by(input, normalized_shape, weight=None, bias=None, eps=1e-5):
        over = axes or range(-len(normalized_shape), 0)
        eps = torch.finfo(input.dtype).eps if eps is None else eps
        out = normalised(input, over, eps, **how)
        out = out if weight is None else out * weight
        return out if bias is None else out + bias

    return by


def rms_norm(**how: Any) -> Callable[..., torch.Tensor]:
    """`F.rms_norm` by other statistics."""
    by_layer = layer_norm(**{"centred": False, **how})

    def by(input, normalized_shape, weight=None, eps=None):
        return by_layer(input, normalized_shape, weight, None, eps)

    return by


def _other_axes(call: Call, by: Callable[..., Any]) -> Suspects:
    """The statistics over other axes than the last."""
    a = call.given
    x, number = a["input"], len(a["normalized_shape"])
    for axis in range(1, x.ndim - number):
        yield f"the statistics are over axis {axis}", call.by(by(axes=(axis,)))
    if 2 <= x.ndim - number:
        yield (
            "the statistics are over all axes but the batch's",
            call.by(by(axes=tuple(range(1, x.ndim)))),
        )
    if number > 1:
        yield "the statistics are over the last axis alone", call.by(by(axes=(-1,)))
        yield "the statistics are over the first of the axes alone", call.by(by(axes=(-number,)))
    yield "the statistics are over the batch's axis", call.by(by(axes=(0,)))


def _layer_norm_suspects(call: Call) -> Suspects:
    yield UNBIASED, call.by(layer_norm(correction=1))
    yield RMS, call.by(layer_norm(centred=False))
    yield OUTSIDE, call.by(layer_norm(outside=True))
    yield from _other_axes(call, layer_norm)
    yield "it is divided by the variance and not by its root", call.by(layer_norm(rooted=False))


def _rms_norm_suspects(call: Call) -> Suspects:
    yield "eps is added to the root and not under it", call.by(rms_norm(outside=True))
    yield "the mean is subtracted (layer normalisation)", call.by(rms_norm(centred=True))
    yield from _other_axes(call, rms_norm)
    yield (
        "it is the vector's length and not the root of its mean square",
        lambda: _by_length(call),
    )


def _by_length(call: Call) -> torch.Tensor:
    a = call.given
    number = math.prod(a["normalized_shape"])
    eps = torch.finfo(a["input"].dtype).eps if a["eps"] is None else a["eps"]
    changed = call.with_(eps=eps / number)
    return changed() / number**0.5


def group_norm(
    arrange: Callable[[torch.Tensor, int], torch.Tensor] | None = None, **how: Any
) -> Callable[..., torch.Tensor]:
    """`F.group_norm` by other statistics; `places` keeps the spatial axes apart.

    `arrange(x, groups)` gives an order of the channels, of which a group takes the neighbours.
    """
    places = how.pop("places", False)

    def by(input, num_groups, weight=None, bias=None, eps=1e-5):
        x, c = input, input.shape[1]
        order = torch.arange(c, device=x.device)[None]
        order = order if arrange is None else arrange(order, num_groups)
        grouped = x[:, order[0]].unflatten(1, (num_groups, -1))
        axes = (2,) if places else tuple(range(2, grouped.ndim))
        out = normalised(grouped, axes, eps, **how).flatten(1, 2)[:, order[0].argsort()]
        weight, bias = of_channels(weight, x.ndim), of_channels(bias, x.ndim)
        out = out if weight is None else out * weight
        return out if bias is None else out + bias

    return by


def _group_norm_suspects(call: Call) -> Suspects:
    a = call.given
    x, groups = a["input"], a["num_groups"]
    if x.ndim < 2 or x.shape[1] % groups:
        return
    c = x.shape[1]
    for other in dict.fromkeys((32, c // groups, 1, c, groups * 2, groups // 2, 8, 16)):
        if other and other != groups and c % other == 0:
            yield (
                f"the number of groups is {other} and not {groups}",
                call.with_(num_groups=other),
            )
    yield OUTSIDE, call.by(group_norm(outside=True))
    yield UNBIASED, call.by(group_norm(correction=1))
    if 1 < groups < c:
        yield (
            "the channels of a group are strided: every n-th of them",
            call.by(group_norm(lambda order, g: interleaved(order, 1, order.shape[1] // g))),
        )
    if x.ndim > 2 and groups < c:
        yield "each place has its own statistics", call.by(group_norm(places=True))
    yield RMS, call.by(group_norm(centred=False))
    yield (
        "the batch is normalised (batch normalisation)",
        lambda: F.batch_norm(x, None, None, a["weight"], a["bias"], True, 0.0, a["eps"]),
    )


def _instance_norm_suspects(call: Call) -> Suspects:
    a = call.given
    x, axes = a["input"], tuple(range(2, a["input"].ndim))
    if x.ndim < 3:
        return

    def by(over: tuple[int, ...] = axes, **how: Any) -> Callable[..., torch.Tensor]:
        def instance_norm(
            input,
            running_mean=None,
            running_var=None,
            weight=None,
            bias=None,
            use_input_stats=True,
            momentum=0.1,
            eps=1e-5,
        ):
            out = normalised(input, over, eps, **how)
            weight, bias = of_channels(weight, input.ndim), of_channels(bias, input.ndim)
            out = out if weight is None else out * weight
            return out if bias is None else out + bias

        return instance_norm

    if a["use_input_stats"]:
        yield OUTSIDE, call.by(by(outside=True))
        yield UNBIASED, call.by(by(correction=1))
        yield RMS, call.by(by(centred=False))
        if a["running_mean"] is not None:
            yield "it normalises by the running statistics", call.with_(use_input_stats=False)
            for momentum in (0.9, 0.01, 0.99):
                if momentum != a["momentum"]:
                    yield (
                        f"PyTorch's momentum would be {momentum:g} and not {a['momentum']:g}",
                        call.with_(momentum=momentum),
                    )
    else:
        yield "it normalises by each image's own statistics", call.by(by())
    yield "all channels of an image have one mean and variance", call.by(by((1, *axes)))
    yield "the batch is normalised (batch normalisation)", call.by(by((0, *axes)))
    yield "each place has its own statistics, over the channels", call.by(by((1,)))


def local_response_norm_suspects(call: Call) -> Suspects:
    """Another alpha, beta or k; alpha not divided by the size; the size taken for a radius."""
    a = call.given
    size, alpha = a["size"], a["alpha"]
    yield "alpha is not divided by the size", call.with_(alpha=alpha * size)
    if alpha:
        wide = 2 * size + 1
        yield "the size is taken for a radius", call.with_(size=wide)
        yield (
            "the size is taken for a radius, and alpha is not divided by it",
            call.with_(size=wide, alpha=alpha * wide),
        )
    for key, others in (
        ("k", (1.0, 2.0)),
        ("beta", (0.75, 0.5, 1.0)),
        ("alpha", (1e-4, 1e-3, 2e-5, 1.0)),
    ):
        for other in others:
            if other != a[key]:
                yield f"{key} is {other:g} and not {a[key]:g}", call.with_(**{key: other})
    yield "the normalisation is missing", lambda: a["input"] * 1


def normalize_suspects(call: Call) -> Suspects:
    """F.normalize: another axis, norm or eps; eps added; the norm squared or missing."""
    a = call.given
    x, p, dim, eps = a["input"], a["p"], a["dim"], a["eps"]
    if not call.floats or x.ndim == 0 or a["out"] is not None:
        return
    axes = (dim,) if isinstance(dim, int) else tuple(dim)
    if len(axes) == 1:
        for axis in range(x.ndim):
            if axis != axes[0] % x.ndim:
                yield f"the norm is over axis {axis} and not {axes[0]}", call.with_(dim=axis)
    if x.ndim > 1:
        yield "the norm is over all axes but the batch's", call.with_(dim=tuple(range(1, x.ndim)))

    def norm() -> torch.Tensor:
        return torch.linalg.vector_norm(x, p, axes, keepdim=True)

    for other in (1.0, 2.0, math.inf):
        if other != p:
            yield f"the norm is L{other:g} and not L{p:g}", call.with_(p=other)
    yield "the normalisation is missing", lambda: x * 1
    yield "it is divided by the square of the norm", lambda: x / norm().square().clamp(min=eps)
    for other in dict.fromkeys((eps, *(e for e in EPSILONS if e))):
        yield f"eps of {other:g} is added to the norm", lambda e=other: x / (norm() + e)
        yield (
            f"eps of {other:g} is added to the square under the root",
            lambda e=other: x / (norm().square() + e).sqrt(),
        )
        if other != eps:
            yield f"eps is {other:g} and not {eps:g}", call.with_(eps=other)
    width = math.prod(x.shape[axis] for axis in axes)
    yield "it is times the root of the length", call.then(lambda out: out * width**0.5)
