"""A loss that departs."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.common import SAME, different, said
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import loss
from parity.ladder.tolerance import relative_error
from parity.pairs.pair import Batch, Case, Tensors, precision


def find(case: Case, state: Tensors, batch: Batch) -> Diagnosis:
    """Which loss departs, and why."""
    with precision(case.dtype):
        ours = loss.ours(case)(state, batch)
    theirs = loss.theirs(case)(state, batch)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return said(None)
    first = departing[0]
    labels = case.torch_batch(batch)[1]
    scaled = {f"{s:g}": torch.from_numpy(x) for s, x in loss.scaled(case, state, batch)}
    kind, _, scale = first.partition(", outputs times ")
    agrees_unscaled = not different(
        ours[f"{kind}, outputs times 1"], theirs[f"{kind}, outputs times 1"]
    )
    cause = None
    if scale != "1" and agrees_unscaled:
        cause = "exp overflows: the largest output is not subtracted first"
    else:
        for name, function in _loss_suspects(kind):
            with contextlib.suppress(RuntimeError, ValueError):
                if not different(ours[first], function(scaled[scale], labels).numpy()):
                    cause = name
                    break
    return said("the loss", errors[first], cause=cause, what=f"{kind}")


def _loss_suspects(kind: str) -> Iterator[tuple[str, Callable[[Any, Any], torch.Tensor]]]:
    reduction = {"sum": "sum", "of each row": "none"}.get(kind, "mean")
    smoothing = 0.1 if "smoothing" in kind else 0.0

    def entropy(x: Any, y: Any, **changes: Any) -> torch.Tensor:
        options = {"reduction": reduction, "label_smoothing": smoothing, **changes}
        return F.cross_entropy(x, y, **options)

    if smoothing:
        yield "the label smoothing is ignored", lambda x, y: entropy(x, y, label_smoothing=0.0)

        def over_others(x: Any, y: Any) -> torch.Tensor:
            log, k = F.log_softmax(x, 1), x.shape[1]
            target = torch.full_like(log, smoothing / (k - 1))
            target.scatter_(1, y[:, None], 1 - smoothing)
            return -(target * log).sum(1).mean()

        yield "the label smoothing is shared by the other classes alone", over_others
        yield (
            "the label smoothing is added to a whole label",
            lambda x, y: F.cross_entropy(x, y) - smoothing * F.log_softmax(x, 1).mean(),
        )
    else:
        for value in (0.1, 0.05, 0.2):
            yield (
                f"labels are smoothed by {value:g}",
                lambda x, y, value=value: entropy(x, y, label_smoothing=value),
            )
    for other in {"sum", "mean"} - {reduction}:
        words = {"sum": "summed", "mean": "averaged", "none": "left for each row"}
        yield (
            f"the loss is {words[other]} and not {words[reduction]}",
            lambda x, y, other=other: entropy(x, y, reduction=other),
        )
    yield "the loss is averaged over the classes too", lambda x, y: entropy(x, y) / x.shape[1]
    yield "softmax is applied twice", lambda x, y: entropy(torch.softmax(x, 1), y)
    yield "softmax is missing", lambda x, y: F.nll_loss(x, y, reduction=reduction)
    yield "the logarithm is to the base 2", lambda x, y: entropy(x, y) / math.log(2)
    yield "the labels are shifted by one class", lambda x, y: entropy(x, (y + 1) % x.shape[1])
    yield "the labels are shifted by one class", lambda x, y: entropy(x, (y - 1) % x.shape[1])
    yield "the labels belong to other rows", lambda x, y: entropy(x, y.roll(1))
    yield "the labels belong to other rows", lambda x, y: entropy(x, y.roll(-1))
    yield "the sign is wrong", lambda x, y: -entropy(x, y)
    yield (
        "it is the mean square error of one-hot labels",
        lambda x, y: F.mse_loss(x, F.one_hot(y, x.shape[1]).to(x), reduction=reduction),
    )
