"""The losses of `torch.nn.functional`: what porting one tends to get wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.losses.calls import LossCall, Suspect, arguments
from parity.diagnosis.losses.classes import cross_entropy_suspects, nll_suspects
from parity.diagnosis.losses.elementwise import elementwise
from parity.diagnosis.losses.reductions import EPS, formula, of_elements, reduced, reductions


def bce_suspects(call: LossCall) -> Iterator[Suspect]:
    """Of probabilities: the cut of the logarithm, a sigmoid too much."""
    yield from reductions(call)
    yield from _weights(call)

    def cross(p: torch.Tensor, y: torch.Tensor, log: Callable = torch.log) -> torch.Tensor:
        return -(y * log(p) + (1 - y) * log(1 - p))

    yield arguments(
        "the outputs are taken as logits: a sigmoid is applied",
        input=lambda call: call.given["input"].sigmoid(),
    )
    yield formula("the logarithm is not cut at -100", cross)
    for e in EPS:
        yield formula(
            f"the probabilities are cut at {e:g} and 1 - {e:g}",
            lambda p, y, e=e: cross(p.clamp(e, 1 - e), y),
        )
        yield formula(
            f"{e:g} is added to the probabilities before the logarithm",
            lambda p, y, e=e: cross(p, y, lambda p: (p + e).log()),
        )
        yield formula(
            f"the probabilities are cut at {e:g} before the logarithm",
            lambda p, y, e=e: cross(p, y, lambda p: p.clamp(min=e).log()),
        )
    yield formula("the term of the negative labels is missing", lambda p, y: -y * p.log())
    yield formula("it is the mean square error", lambda p, y: (p - y) ** 2)


def bce_logits_suspects(call: LossCall) -> Iterator[Suspect]:
    """Positive weights, logits taken for probabilities."""
    yield from reductions(call)
    yield from _weights(call)
    positive = call.given["pos_weight"]
    if positive is not None:
        yield arguments("pos_weight is ignored", pos_weight=None)
        yield Suspect(
            "pos_weight weights the negative labels and not the positive ones",
            make=lambda call: reduced(
                call,
                F.binary_cross_entropy_with_logits(
                    -call.given["input"],
                    1 - call.given["target"],
                    reduction="none",
                    pos_weight=call.given["pos_weight"],
                ),
            ),
        )
        yield Suspect(
            "pos_weight weights all labels",
            make=lambda call: reduced(
                call,
                of_elements(call.with_(pos_weight=None))
                * call.given["pos_weight"].to(call.given["input"]),
            ),
        )
        yield Suspect(
            "the loss is divided by the sum of the labels' weights",
            make=lambda call: (
                of_elements(call).sum()
                / torch.where(call.given["target"] > 0, call.given["pos_weight"], 1.0).sum()
            ),
        )
    yield arguments("sigmoid is applied twice", input=lambda call: call.given["input"].sigmoid())
    yield _of_probability(
        "the outputs are taken as probabilities: the sigmoid is missing", lambda x: x, torch.log
    )
    for e in EPS:
        yield _of_probability(
            f"{e:g} is added to the probabilities before the logarithm",
            torch.sigmoid,
            lambda p, e=e: (p + e).log(),
        )
        yield _of_probability(
            f"the probabilities are cut at {e:g} and 1 - {e:g}",
            lambda x, e=e: x.sigmoid().clamp(e, 1 - e),
            torch.log,
        )
        yield _of_probability(
            f"the probabilities are cut at {e:g} before the logarithm",
            torch.sigmoid,
            lambda p, e=e: p.clamp(min=e).log(),
        )
    yield formula("the term of the negative labels is missing", lambda x, y: -y * F.logsigmoid(x))
    yield formula(
        "it is the softmax cross entropy", lambda x, y: -(y * F.log_softmax(x, -1)).sum(-1)
    )


def _of_probability(text: str, of: Callable[..., Any], log: Callable[..., Any]) -> Suspect:
    """The loss of logits by probabilities `of` them and their logarithm, with its weights."""

    def make(call: LossCall) -> Any:
        given = call.given
        p, y = of(given["input"]), given["target"]
        positive, weight = (
            1.0 if w is None else w.to(p) for w in (given["pos_weight"], given["weight"])
        )
        return reduced(call, -weight * (positive * y * log(p) + (1 - y) * log(1 - p)))

    return Suspect(text, make=make)


def _weights(call: LossCall) -> Iterator[Suspect]:
    if call.given.get("weight") is not None:
        yield arguments("the weights are ignored", weight=None)
        yield Suspect(
            "the loss is divided by the sum of the weights",
            make=lambda call: (
                of_elements(call).sum()
                / call.given["weight"].to(call.given["input"]).expand_as(call.given["input"]).sum()
            ),
        )


def regression_suspects(call: LossCall) -> Iterator[Suspect]:
    """Another distance, a factor of one half, broadcasting of [n, 1] against [n]."""
    yield from reductions(call)
    for text, function in _DISTANCES.items():
        yield formula(text, function)
    yield Suspect("the square root is taken", make=lambda call: call.plain().sqrt())
    yield Suspect(
        "outputs [n, 1] and labels [n] are broadcast to [n, n]",
        make=lambda call: call.with_(
            input=call.given["input"].reshape(-1, 1).expand(-1, call.given["target"].numel()),
            target=call.given["target"].reshape(1, -1).expand(call.given["input"].numel(), -1),
        ).plain(),
    )
    yield arguments(
        "the labels belong to other rows", target=lambda call: call.given["target"].roll(1, 0)
    )
    yield arguments(
        "the labels belong to other rows", target=lambda call: call.given["target"].roll(-1, 0)
    )


def _huber(x: torch.Tensor, y: torch.Tensor, delta: float) -> torch.Tensor:
    return F.huber_loss(x, y, reduction="none", delta=delta)


_DISTANCES: dict[str, Callable[..., torch.Tensor]] = {
    "it is the mean square error": lambda x, y: (x - y) ** 2,
    "it is half the mean square error": lambda x, y: (x - y) ** 2 / 2,
    "it is the mean absolute error": lambda x, y: (x - y).abs(),
    "it is log cosh of the error": lambda x, y: (x - y).cosh().log(),
    **{f"it is the Huber loss with delta {d:g}": lambda x, y, d=d: _huber(x, y, d)
       for d in (1.0, 0.5, 0.1, 2.0, 1 / 9, 1.345, 0.01, 10.0)},
    **{f"it is the smooth L1 loss with beta {d:g}": lambda x, y, d=d: _huber(x, y, d) / d
       for d in (0.5, 0.1, 2.0, 1 / 9, 1.345, 0.01, 10.0)},
    **{f"it is twice the Huber loss with delta {d:g}: the factor 0.5 is missing":
       lambda x, y, d=d: 2 * _huber(x, y, d) for d in (1.0, 0.5, 0.1, 2.0)},
    "the factor 0.5 of the square is missing":
        lambda x, y: torch.where((x - y).abs() < 1, (x - y) ** 2, (x - y).abs() - 0.5),
}  # fmt: skip


def kl_suspects(call: LossCall) -> Iterator[Suspect]:
    """The direction, the logarithm of the target, the entropy's part, the divisor."""
    yield from reductions(call)
    given = call.given
    logs = given["log_target"]
    if given["reduction"] == "mean":
        yield arguments("the loss is divided by the number of rows alone", reduction="batchmean")

    def exchanged(call: LossCall) -> Any:
        x, y = call.given["input"], call.given["target"]
        log = y if logs else y.log()
        return reduced(call, x.exp() * (x - log))

    yield Suspect("input and target are exchanged: the other direction", make=exchanged)
    word = "probabilities" if logs else "logarithms of probabilities"
    yield arguments(f"the target is taken as {word}", log_target=not logs)
    probability = torch.exp if logs else torch.clone
    yield formula(
        "the target's entropy is missing: it is the cross entropy", lambda x, y: -probability(y) * x
    )
    yield formula(
        "the input is taken as probabilities",
        lambda x, y: torch.special.xlogy(probability(y), probability(y)) - probability(y) * x.log(),
    )
    yield arguments(
        "a log-softmax is applied to the input",
        input=lambda call: F.log_softmax(call.given["input"], -1),
    )


def plain_suspects(call: LossCall) -> Iterator[Suspect]:
    """Of a loss whose options alone tend to go wrong (margin, full, p): the reduction.

    Numbers among the arguments are varied for every function.
    """
    yield from reductions(call)
    given = call.given
    for name in ("full", "swap", "log_input"):
        if name in given:
            value = given[name]
            yield arguments(f"{name} is {not value} and not {value}", **{name: not value})
    if given.get("weight") is not None:
        yield arguments("the weights are ignored", weight=None)
    if "p" in given and "margin" in given and "anchor" in given:
        yield Suspect("the distances are squared", make=_squared_triplet)
    if call.name == "cosine_embedding_loss":
        yield arguments("the target's sign is wrong", target=lambda c: -c.given["target"])
        yield arguments(
            "all pairs are taken as alike", target=lambda c: torch.ones_like(c.given["target"])
        )


def _squared_triplet(call: LossCall) -> torch.Tensor:
    given = call.given
    a, p, n = given["anchor"], given["positive"], given["negative"]
    distances = ((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1)
    return reduced(call, (distances + given["margin"]).clamp(min=0))


FUNCTIONS: dict[str, Callable[[LossCall], Iterator[Suspect]]] = {
    "cross_entropy": cross_entropy_suspects,
    "nll_loss": nll_suspects,
    "binary_cross_entropy": bce_suspects,
    "binary_cross_entropy_with_logits": bce_logits_suspects,
    **dict.fromkeys(("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"), regression_suspects),
    "kl_div": kl_suspects,
    **dict.fromkeys(
        ("cosine_embedding_loss", "margin_ranking_loss", "multi_margin_loss", "soft_margin_loss",
         "hinge_embedding_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
         "triplet_margin_loss", "gaussian_nll_loss", "poisson_nll_loss"), plain_suspects),
}  # fmt: skip


def suspects(call: LossCall) -> list[Suspect]:
    """Every suspect of a call of a loss."""
    found = FUNCTIONS.get(call.name)
    return list(found(call) if found is not None else elementwise(call))
