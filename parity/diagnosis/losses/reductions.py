"""How a loss of `torch.nn.functional` is reduced, and other losses reduced as it is."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from parity.diagnosis.losses.calls import LossCall, Suspect, arguments

EPS = (1e-7, 1e-6, 1e-8, 1e-5, 1e-12, 1e-10, 1e-9, 1e-4, 1e-3, 1e-15, 1e-16, 1e-20)
"""What is added to a probability, or what it is cut at, before its logarithm."""


def formula(text: str, function: Callable[..., Any]) -> Suspect:
    """Another loss of each element, (input, target) -> tensor, reduced as the call's."""

    def make(call: LossCall) -> Any:
        given = call.given
        return reduced(call, function(given["input"], given["target"]))

    return Suspect(text, make=make)


def reduced(call: LossCall, value: torch.Tensor) -> torch.Tensor:
    """Losses of elements or rows reduced as the call says."""
    given = call.given
    reduction = given["reduction"]
    if reduction == "batchmean":
        return value.sum() / len(given["input"])
    return {"none": lambda: value, "mean": value.mean, "sum": value.sum}[reduction]()


def of_elements(call: LossCall) -> torch.Tensor:
    """The losses before they are reduced."""
    return call.with_(reduction="none").plain()


def reductions(call: LossCall) -> Iterator[Suspect]:
    """Summed, averaged, or summed over each example and averaged over the examples."""
    words = {"sum": "summed", "mean": "averaged", "batchmean": "divided by the number of rows"}
    now = call.given.get("reduction")
    if now not in words:
        return
    for other in ("sum", "mean"):
        if other != now:
            yield arguments(f"the loss is {words[other]} and not {words[now]}", reduction=other)
    yield Suspect(
        "the loss is summed and divided by the number of examples",
        make=lambda call: of_elements(call).sum() / call.examples,
    )
