"""Batch normalisation: what porting it tends to get wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects, Thunk
from parity.diagnosis.suspects.norms import EPSILONS, affine_suspects, eps_suspects
from parity.diagnosis.suspects.sizes import of_channels

MOMENTA = 0.9, 0.01, 0.99, 0.001, 0.2, 0.05, 1.0


def batch_norm_suspects(call: Call) -> Suspects:
    """Another eps, momentum, statistic, scale, bias or order, or no normalisation."""
    a = call.given
    x = a["input"]
    if x.ndim < 2:
        return
    yield from eps_suspects(call, EPSILONS)
    if a["training"]:
        yield from _in_training(call)
    else:
        yield (
            "it normalises by the batch's statistics in eval mode",
            lambda: F.batch_norm(x, None, None, a["weight"], a["bias"], True, 0.0, a["eps"]),
        )
    yield from affine_suspects(call)
    yield (
        "the ReLU comes before the normalisation",
        call.with_(input=lambda: torch.relu(x)),
    )
    yield "the normalisation is missing", lambda: x * 1
    if x.ndim > 2:
        yield (
            "each image is normalised by itself (instance normalisation)",
            lambda: F.instance_norm(x, None, None, a["weight"], a["bias"], True, 0.0, a["eps"]),
        )
    yield "eps is added to the deviation and not to the variance", call.by(normalising(outside=1))
    if not a["training"]:
        yield "the running variance is taken for the deviation", call.by(normalising(rooted=0))
        yield "the running mean is not subtracted", call.by(normalising(centred=0))
        yield (
            "the running statistics are not carried on: means 0, variances 1",
            lambda: F.batch_norm(
                x, a["running_mean"] * 0, a["running_var"] * 0 + 1,
                a["weight"], a["bias"], False, 0.0, a["eps"],
            ),
        )  # fmt: skip
    if x.ndim > 2 and x.shape[-1] == x.shape[1]:
        yield (
            "the channels are the last axis and not the second",
            lambda: call.with_(input=x.transpose(1, -1))().transpose(1, -1),
        )


def _in_training(call: Call) -> Suspects:
    a = call.given
    if a["running_mean"] is not None and a["running_var"] is not None:
        now = a["momentum"] or 0.0
        for momentum in MOMENTA:
            if momentum != now:
                yield (
                    f"PyTorch's momentum would be {momentum:g} and not {now:g}",
                    call.with_(momentum=momentum),
                )
        yield from _running(call)
    x = a["input"]
    yield "the batch is normalised by the unbiased variance", call.by(normalising(unbiased=1))
    yield (
        "the batch's mean is not subtracted",
        call.by(normalising(centred=0)),
    )
    if len(x) >= 2 and len(x) % 2 == 0:
        yield "each half of the batch is normalised by itself", call.by(_by_halves)
        yield (
            "the variance is the mean of the halves' variances",
            call.by(normalising(variance=_mean_of_halves)),
        )
    if x.ndim > 2:
        yield "each place has its own statistics, over the batch alone", lambda: _by_place(a)


def _running(call: Call) -> Suspects:
    """Other running statistics; the buffers are updated in place, as PyTorch's are."""
    a = call.given
    x, mean, var, m = a["input"], a["running_mean"], a["running_var"], a["momentum"] or 0.0
    axes = tuple(i for i in range(x.ndim) if i != 1)

    def good() -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean(axes), x.var(axes)

    def keeping(new: Callable[[], tuple[Any, Any]], by: Callable[[Any, Any], Any]) -> Thunk:
        """The call with `by(old, new)` for each statistic in the place of PyTorch's average."""

        def thunk() -> Any:
            out = call.with_(running_mean=mean.clone(), running_var=var.clone())()
            with torch.no_grad():
                for old, fresh in zip((mean, var), new(), strict=True):
                    if fresh is not None:
                        old.copy_(by(old, fresh))
            return out

        return thunk

    def average(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        return (1 - m) * old + m * new

    def halves() -> tuple[torch.Tensor, torch.Tensor]:
        parts = x.chunk(2)
        means = torch.stack([part.mean(axes) for part in parts])
        return means.mean(0), torch.stack([part.var(axes) for part in parts]).mean(0)

    for cause, new, by in (
        (
            "the running variance is the biased one, not n / (n - 1) times it",
            lambda: (x.mean(axes), x.var(axes, unbiased=False)),
            average,
        ),
        ("the running statistics are not updated", lambda: (None, None), average),
        ("the running mean is not updated", lambda: (None, good()[1]), average),
        ("the running variance is not updated", lambda: (good()[0], None), average),
        (
            "the running statistics are updated twice",
            good,
            lambda old, new: average(average(old, new), new),
        ),
        (
            "the running variance is of the mean square and not about the mean",
            lambda: (x.mean(axes), x.square().mean(axes)),
            average,
        ),
        (
            "the running statistics keep a sum and not an average",
            good,
            lambda old, new: old + m * new,
        ),
        (
            "the running deviation is kept in the place of the variance",
            lambda: (x.mean(axes), x.std(axes)),
            average,
        ),
        (
            "the running statistics are averages of those of the halves of the batch",
            halves,
            average,
        ),
    ):
        if len(x) >= 2 or "halves" not in cause:
            yield cause, keeping(new, by)
    yield (
        "it normalises by the running statistics in training: they are frozen",
        call.with_(training=False),
    )

    def after_update() -> Any:
        call.plain()
        return call.with_(training=False)()

    yield "it normalises by the running statistics after their update", after_update


def _mean_of_halves(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    return torch.stack([half.var(axes, unbiased=False) for half in x.chunk(2)]).mean(0)


def _by_halves(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    """Each half normalised by itself; the running statistics are averages of the halves'."""
    kept = []
    parts = []
    for half in input.chunk(2):
        buffers = [None if b is None else b.clone() for b in (running_mean, running_var)]
        m = momentum or 0.0
        parts.append(F.batch_norm(half, buffers[0], buffers[1], weight, bias, training, m, eps))
        kept.append(buffers)
    with torch.no_grad():
        for i, buffer in enumerate((running_mean, running_var)):
            if buffer is not None:
                buffer.copy_(torch.stack([buffers[i] for buffers in kept]).mean(0))
    return torch.cat(parts)


def _by_place(a: dict[str, Any]) -> torch.Tensor:
    x = a["input"]
    var, mean = torch.var_mean(x, 0, correction=0, keepdim=True)
    return _scaled((x - mean) / (var + a["eps"]).sqrt(), a["weight"], a["bias"])


def _scaled(x: torch.Tensor, weight: Any, bias: Any) -> torch.Tensor:
    weight, bias = of_channels(weight, x.ndim), of_channels(bias, x.ndim)
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def normalising(
    unbiased: int = 0, outside: int = 0, centred: int = 1, rooted: int = 1, variance: Any = None
) -> Callable[..., torch.Tensor]:
    """`F.batch_norm` by other statistics; its running statistics are PyTorch's."""

    def batch_norm(
        input,
        running_mean,
        running_var,
        weight=None,
        bias=None,
        training=False,
        momentum=0.1,
        eps=1e-5,
    ):
        x = input
        axes = tuple(i for i in range(x.ndim) if i != 1)
        mean, var = running_mean, running_var
        if training:
            mean, var = x.mean(axes), x.var(axes, correction=unbiased)
            var = var if variance is None else variance(x, axes)
            with torch.no_grad():
                F.batch_norm(x, running_mean, running_var, None, None, True, momentum or 0.0, eps)
        root = var.sqrt() + eps if outside else (var + eps).sqrt() if rooted else var + eps
        out = x - of_channels(mean, x.ndim) if centred else x
        return _scaled(out / of_channels(root, x.ndim), weight, bias)

    return batch_norm


def normalised_by_constants(a: dict[str, Any], mean: bool = True, var: bool = True) -> torch.Tensor:
    """Batch normalisation in training whose gradient takes the batch's statistics for constants.

    Both of them, or the one that is named.
    """
    x = a["input"]
    axes = tuple(i for i in range(x.ndim) if i != 1)
    m, v = x.mean(axes), x.var(axes, unbiased=False)
    m, v = m.detach() if mean else m, v.detach() if var else v
    out = (x - of_channels(m, x.ndim)) / of_channels((v + a["eps"]).sqrt(), x.ndim)
    return _scaled(out, a["weight"], a["bias"])
