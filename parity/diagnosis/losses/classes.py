"""Cross entropy and the negative log-likelihood: what porting one tends to get wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.losses.calls import LossCall, Suspect, arguments
from parity.diagnosis.losses.reductions import EPS, formula, of_elements, reduced, reductions


def class_labels(call: LossCall) -> Iterator[Suspect]:
    """Class weights, ignored labels, shifted labels: `cross_entropy` and `nll_loss`."""
    given = call.given
    x, y, ignored = given["input"], given["target"], given["ignore_index"]
    classes = x.shape[1] if x.ndim > 1 else x.shape[0]
    mean = given["reduction"] == "mean"
    if given["weight"] is not None:
        yield arguments("the class weights are ignored", weight=None)
    if y.is_floating_point():
        if given["weight"] is not None and mean:
            yield Suspect(
                "the loss is divided by the sum of the labels' class weights",
                make=lambda call: (
                    of_elements(call).sum()
                    / (call.given["target"] * call.given["weight"].to(x)).sum()
                ),
            )
        return
    if given["weight"] is not None and mean:
        yield Suspect(
            "the loss is divided by the number of labels and not by the sum of their class weights",
            make=lambda call: of_elements(call).sum() / _kept(call).sum(),
        )
    if bool((y == ignored).any()):
        if 0 <= ignored < classes:
            text = f"the labels {ignored} are counted: ignore_index is ignored"
            yield arguments(text, ignore_index=-100)
        for taken, word in ((0, "class 0"), (classes - 1, "the last class")):
            yield arguments(
                f"the labels {ignored} are not ignored but taken as {word}",
                target=lambda call, taken=taken: torch.where(
                    _kept(call), call.given["target"], taken
                ),
            )
        if mean:
            yield Suspect(
                f"the ignored labels {ignored} are counted in the divisor",
                make=lambda call: of_elements(call).sum() / call.given["target"].numel(),
            )
    if mean:
        yield Suspect("each example's labels are averaged, then the examples", make=_by_example)
    for shift in (1, -1):
        yield arguments(
            "the labels are shifted by one class",
            target=lambda call, shift=shift: torch.where(
                _kept(call), (call.given["target"] + shift) % classes, ignored
            ),
        )
    for shift in (1, -1):
        yield arguments(
            "the labels belong to other rows",
            target=lambda call, shift=shift: call.given["target"].roll(shift, 0),
        )


def _kept(call: LossCall) -> torch.Tensor:
    return call.given["target"] != call.given["ignore_index"]


def _by_example(call: LossCall) -> torch.Tensor:
    losses = of_elements(call).reshape(call.examples, -1)
    kept = _kept(call).reshape(call.examples, -1)
    return (losses.sum(1) / kept.sum(1).clamp(min=1)).mean()


def cross_entropy_suspects(call: LossCall) -> Iterator[Suspect]:
    """Smoothing, softmax, axis, and what `class_labels` has."""
    given = call.given
    x, y, smoothing = given["input"], given["target"], given["label_smoothing"]
    hard = not y.is_floating_point()
    if smoothing:
        yield arguments("the label smoothing is ignored", label_smoothing=0.0)
        if hard:
            yield Suspect(
                "the label smoothing is shared by the other classes alone", make=_over_others
            )
            if given["weight"] is None:
                yield Suspect(
                    "the label smoothing is added to a whole label",
                    make=lambda call: (
                        call.with_(label_smoothing=0.0).plain()
                        - smoothing * reduced(call, F.log_softmax(call.given["input"], 1).mean(1))
                    ),
                )
    yield from class_labels(call)
    yield from reductions(call)
    axes = x.ndim
    yield arguments(
        "softmax is applied twice", input=lambda call: torch.softmax(call.given["input"], 1)
    )
    yield Suspect("softmax is missing", make=_without_softmax)
    for axis in {0, *range(2, axes)} if axes > 1 else ():
        # Softmax over axis 1 leaves what is a logarithm of probabilities over another one.
        yield Suspect(
            f"the softmax is over axis {axis} and not 1",
            make=lambda call, axis=axis: _without_softmax(
                call.with_(input=F.log_softmax(call.given["input"], axis))
            ),
        )
    for text, function in _OF_PROBABILITIES.items():
        yield Suspect(text, make=lambda call, function=function: _of_probability(call, function))
    if hard and axes == 2:
        hot = lambda x, y: F.one_hot(y.clamp(min=0), x.shape[1]).to(x)  # noqa: E731
        yield formula(
            "it is the mean square error of one-hot labels", lambda x, y: (x - hot(x, y)) ** 2
        )
        yield formula(
            "it is the binary cross entropy of one-hot labels: sigmoid in the place of softmax",
            lambda x, y: F.binary_cross_entropy_with_logits(x, hot(x, y), reduction="none"),
        )
        yield formula(
            "it is the binary cross entropy of one-hot labels, summed over the classes",
            lambda x, y: F.binary_cross_entropy_with_logits(x, hot(x, y), reduction="none").sum(1),
        )
    if not hard:
        yield Suspect(
            "the entropy of the labels is subtracted: the Kullback-Leibler divergence",
            make=lambda call: (
                call.plain() + reduced(call, torch.special.entr(call.given["target"]).sum(1).neg())
            ),
        )
    for t in (2.0, 0.5, 0.1, 0.07, 0.05, 4.0, 5.0, 10.0, 100.0):
        yield arguments(
            f"the outputs are divided by a temperature of {t:g}",
            input=lambda call, t=t: call.given["input"] / t,
        )


def _without_softmax(call: LossCall) -> torch.Tensor:
    given = call.given
    x, y = given["input"], given["target"]
    if y.is_floating_point():
        return reduced(call, -(y * x).sum(1))
    names = ("weight", "ignore_index", "reduction")
    return F.nll_loss(x, y, **{name: given[name] for name in names})


def _over_others(call: LossCall) -> torch.Tensor:
    given = call.given
    log, smoothing = F.log_softmax(given["input"], 1), given["label_smoothing"]
    y, kept = given["target"].clamp(min=0), _kept(call)
    target = torch.full_like(log, smoothing / (log.shape[1] - 1))
    target.scatter_(1, y.unsqueeze(1), 1 - smoothing)
    weight = log.new_ones(log.shape[1]) if given["weight"] is None else given["weight"].to(log)
    by_class = weight.reshape(-1, *[1] * (log.ndim - 2))
    losses = -(target * log * by_class).sum(1) * kept
    if given["reduction"] == "none":
        return losses
    return losses.sum() / ((weight[y] * kept).sum() if given["reduction"] == "mean" else 1)


def _of_probability(call: LossCall, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The loss with another logarithm of the probabilities."""
    p = torch.softmax(call.given["input"], 1)
    return _without_softmax(call.with_(input=function(p)))


_OF_PROBABILITIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    **{f"{e:g} is added to the probabilities before the logarithm": lambda p, e=e: (p + e).log()
       for e in EPS},
    **{f"the probabilities are cut at {e:g} before the logarithm": 
       lambda p, e=e: p.clamp(e, 1).log() for e in EPS},
    **{f"the probabilities are cut at {e:g} and 1 - {e:g}": lambda p, e=e: p.clamp(e, 1 - e).log()
       for e in EPS},
    **{f"it is the focal loss with gamma {g:g}": lambda p, g=g: (1 - p) ** g * p.log()
       for g in (2.0, 1.0, 0.5, 3.0, 5.0)},
}  # fmt: skip


def nll_suspects(call: LossCall) -> Iterator[Suspect]:
    """Reduction and labels; a softmax too much."""
    yield from class_labels(call)
    yield from reductions(call)
    yield arguments(
        "the outputs are taken as logits: a log-softmax is applied",
        input=lambda call: F.log_softmax(call.given["input"], 1),
    )
    yield arguments(
        "the outputs are taken as probabilities: a logarithm is taken",
        input=lambda call: call.given["input"].log(),
    )
