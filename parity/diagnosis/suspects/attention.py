"""Attention: what porting it tends to get wrong."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects


def attend(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
    enable_gqa=False, *, over=-1, after=None, diagonal=None, upper=False, softmax=True, tiled=False,
) -> torch.Tensor:  # fmt: skip
    """`F.scaled_dot_product_attention` in its parts, each of which can be another.

    The softmax is over the axis `over`; `after` (scores, weights, mask) changes the weights;
    the causal mask keeps up to `diagonal`, or if `upper` from there; heads of keys are `tiled`.
    """
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        repeat = [1] * (key.ndim - 3) + [groups, 1, 1]
        key, value = (
            t.repeat(repeat) if tiled else t.repeat_interleave(groups, -3) for t in (key, value)
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-1, -2) * scale
    if is_causal or diagonal is not None:
        ones = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        seen = ones.triu(diagonal or 0) if upper else ones.tril(diagonal or 0)
        scores = scores.masked_fill(~seen, -math.inf)
    if attn_mask is not None and after is None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        else:
            scores = scores + attn_mask
    weights = scores.softmax(over) if softmax else scores
    if softmax:  # a row of minus infinity gives zeros, as in PyTorch
        weights = weights.masked_fill((scores == -math.inf).all(over, keepdim=True), 0.0)
    if after is not None:
        weights = after(scores, weights, attn_mask)
    return F.dropout(weights, dropout_p) @ value if dropout_p else weights @ value


def _attending(**how: Any) -> Callable[..., torch.Tensor]:
    def attention(*args: Any, **kwargs: Any) -> torch.Tensor:
        return attend(*args, **{**kwargs, **how})

    return attention


def attention_suspects(call: Call) -> Suspects:
    """Another scale, mask, causality, order of operands or axis of the softmax."""
    a = call.given
    q, k, v, mask, causal = (a[n] for n in ("query", "key", "value", "attn_mask", "is_causal"))
    if not call.floats or q.ndim < 2:
        return
    width, length, source = q.shape[-1], q.shape[-2], k.shape[-2]
    scale = width**-0.5 if a["scale"] is None else a["scale"]
    if scale != 1.0:
        yield "the attention is not scaled", call.with_(scale=1.0)
    if not causal:
        changed = call.with_(is_causal=True)
        yield (
            "the attention is causal",
            changed if mask is None else call.by(_attending(is_causal=True)),
        )
    else:
        yield "the attention is not causal", call.with_(is_causal=False)
    yield (
        "the attention is scaled by the number of channels, not its root",
        call.with_(scale=1 / width),
    )
    if q.ndim > 3:
        whole = (width * q.shape[-3]) ** -0.5
        yield (
            "the attention is scaled by the root of the model's width and not of a head's",
            call.with_(scale=whole),
        )
    yield "the scale is multiplied and not divided by", call.with_(scale=1 / scale)
    yield from _mask_suspects(call, mask)
    yield from _causal_suspects(call, causal, length, source)
    for cause, names in (
        ("query and key are exchanged", ("key", "query", "value")),
        ("key and value are exchanged", ("query", "value", "key")),
        ("query and value are exchanged", ("value", "key", "query")),
        ("query, key and value are in the order key, value, query", ("key", "value", "query")),
        ("query, key and value are in the order value, query, key", ("value", "query", "key")),
    ):
        yield cause, call.with_(**{n: a[m] for n, m in zip(("query", "key", "value"), names,
                                                          strict=True)})  # fmt: skip
    if q.ndim > 3:
        yield (
            "it attends over the heads and not over the positions",
            lambda: _over_heads(call),
        )
        for heads in other_heads(q.shape[-3], width):
            if k.shape[-3] == q.shape[-3] and v.shape[-1] == width:
                yield (
                    f"the number of heads is {heads} and not {q.shape[-3]}",
                    lambda heads=heads: _of_heads(call, heads),
                )
    yield "the softmax is over the queries and not over the keys", call.by(_attending(over=-2))
    yield "the softmax is missing", call.by(_attending(softmax=False))
    if a["enable_gqa"]:
        yield "the keys' heads are tiled and not repeated", call.by(_attending(tiled=True))
    if a["dropout_p"]:
        yield "the dropout of the weights is missing", call.with_(dropout_p=0.0)


def other_heads(heads: int, width: int) -> list[int]:
    """Other numbers of heads that a model of `heads` times `width` channels can have."""
    return [h for h in range(1, heads * width) if heads * width % h == 0 and h != heads]


def _of_heads(call: Call, heads: int) -> torch.Tensor:
    """The channels of all heads [.., h, l, d] split into another number of heads."""
    a = call.given

    def split(x: torch.Tensor, number: int) -> torch.Tensor:
        joined = x.transpose(-2, -3).flatten(-2)  # [.., l, h d]
        return joined.unflatten(-1, (number, -1)).transpose(-2, -3)

    changed = {n: split(a[n], heads) for n in ("query", "key", "value")}
    return split(call.with_(**changed)(), a["query"].shape[-3])


def _over_heads(call: Call) -> torch.Tensor:
    a = call.given
    turned = {n: a[n].transpose(-2, -3) for n in ("query", "key", "value")}
    return call.with_(**turned)().transpose(-2, -3)


def _causal_suspects(call: Call, causal: bool, length: int, source: int) -> Suspects:
    if length != source:
        yield (
            "the causal mask ends at the last key, and does not begin at the first",
            call.by(_attending(is_causal=False, diagonal=source - length)),
        )
    if causal:
        yield "the causal mask is shifted by one", call.by(_attending(is_causal=False, diagonal=1))
        yield (
            "the causal mask hides the position itself",
            call.by(_attending(is_causal=False, diagonal=-1)),
        )
        yield (
            "the causal mask is transposed: it shows what comes after",
            call.by(_attending(is_causal=False, diagonal=0, upper=True)),
        )


def hidden_by(mask: torch.Tensor, least: float = -1e4) -> torch.Tensor | None:
    """What a mask of floats hides, if it is zeros and large negative numbers (below `least`)."""
    if mask.dtype == torch.bool:
        return None
    hidden = mask < least
    return hidden if bool(((mask == 0) | hidden).all()) and bool(hidden.any()) else None


def _finite(seen: torch.Tensor, q: torch.Tensor, least: float | None) -> torch.Tensor:
    """A mask of zeros and of a finite number, the least that there is by default."""
    least = torch.finfo(q.dtype).min if least is None else least
    return torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, least)


def _mask_suspects(call: Call, mask: torch.Tensor | None) -> Suspects:
    """The mask is inverted, ignored, or applied at another place."""
    if mask is None:
        return
    q = call.given["query"]
    hidden = hidden_by(mask)
    seen = mask if mask.dtype == torch.bool else None if hidden is None else ~hidden
    if seen is not None:
        yield "the mask is inverted", call.with_(attn_mask=lambda: ~seen)
        if bool(seen.all(-1).any()):  # inverted, it hides whole rows: JAX's may be finite there
            yield "the mask is inverted", call.with_(attn_mask=lambda: _finite(~seen, q, None))
    yield "the mask is ignored", call.with_(attn_mask=None)
    if seen is not None:
        yield (
            "the mask is added to the scores as zeros and ones",
            call.with_(attn_mask=lambda: seen.to(q.dtype)),
        )
        yield (
            "the mask is multiplied with the weights, after the softmax",
            call.by(_attending(after=lambda _, weights, mask: weights * seen)),
        )
        yield (
            "the mask is multiplied with the scores, before the softmax",
            call.by(_attending(after=lambda scores, _, mask: (scores * seen).softmax(-1))),
        )
        if bool((~seen).all(-1).any()):
            for cause, least in (
                ("what is masked is a large negative number and not minus infinity", None),
                ("-1e9 is added to what is masked, and not minus infinity", -1e9),
            ):
                yield cause, call.with_(attn_mask=lambda least=least: _finite(seen, q, least))
    else:
        yield "the mask is subtracted", call.with_(attn_mask=lambda: -mask)
        yield (
            "the mask is added after the softmax",
            call.by(_attending(after=lambda _, weights, mask: weights + mask)),
        )
        yield (
            "the mask is added before the scores are scaled",
            call.with_(attn_mask=lambda: mask * q.shape[-1] ** -0.5),
        )
    if mask.ndim >= 2 and mask.shape[-1] == mask.shape[-2] > 1:
        yield "the mask is transposed", call.with_(attn_mask=lambda: mask.transpose(-1, -2))


def choice_suspects(call: Call) -> Suspects:
    """`where` and `masked_fill`: the mask is inverted, the choice missing, another value."""
    parts = [*call.args, *call.kwargs.values()]
    if len(parts) != 3:
        return
    if call.name == "where":
        mask, a, b = parts
        floats = [t for t in (a, b) if isinstance(t, torch.Tensor) and t.is_floating_point()]
        if not floats or not isinstance(mask, torch.Tensor):
            return
        yield "the condition is inverted", lambda: torch.where(mask, b, a)
        if isinstance(b, int | float) and math.isinf(b) and bool(mask.all(-1).any()):
            finite = math.copysign(torch.finfo(floats[0].dtype).max, b)
            yield "the condition is inverted", lambda: torch.where(mask, finite, a)
        whole = torch.ones_like(mask)
        yield "the choice is missing: always the first", lambda: torch.where(whole, a, b)
        yield "the choice is missing: always the second", lambda: torch.where(~whole, a, b)
        yield from _mask_transposed(mask, lambda m: torch.where(m, a, b))
        return
    x, mask, value = parts
    if not call.floats or not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        return
    yield "the mask is inverted", lambda: x.masked_fill(~mask, value)
    if not isinstance(value, torch.Tensor) and math.isinf(value) and not bool(mask.any(-1).all()):
        finite = math.copysign(torch.finfo(x.dtype).max, value)
        yield "the mask is inverted", lambda: x.masked_fill(~mask, finite)
    yield "the masking is missing", lambda: x * 1
    if not isinstance(value, torch.Tensor) and value != 0:
        yield "what is masked is zero", lambda: x.masked_fill(mask, 0.0)
        if math.isinf(value):
            yield "the mask is added as zeros and ones", lambda: x + mask
            yield (
                "the inverted mask is added as zeros and ones",
                lambda: x + (~mask).to(x.dtype),
            )
        finite = torch.finfo(x.dtype).min
        if math.isinf(value) and bool(mask.all(-1).any()):
            yield (
                "what is masked is a large negative number and not minus infinity",
                lambda: x.masked_fill(mask, finite),
            )
    yield from _mask_transposed(mask, lambda m: x.masked_fill(m, value))


def _mask_transposed(mask: torch.Tensor, by: Callable[[torch.Tensor], Any]) -> Suspects:
    if mask.ndim >= 2 and mask.shape[-1] == mask.shape[-2] > 1:
        yield "the mask is transposed", lambda: by(mask.transpose(-1, -2))


def triangle_suspects(call: Call) -> Suspects:
    """The diagonal is another, the triangle the other one, or nothing is cut."""
    x, k = call.given["input"], call.given["diagonal"]
    if not isinstance(x, torch.Tensor) or x.ndim < 2 or not isinstance(k, int):
        return
    for other in dict.fromkeys((0, 1, -1, x.shape[-1] - x.shape[-2])):
        if other != k:
            yield f"the diagonal is {other} and not {k}", call.with_(diagonal=other)
    other = {"tril": torch.triu, "triu": torch.tril}[call.name]
    yield "the triangle is the other one", lambda: other(x, k)
    yield "nothing is cut to a triangle", lambda: x.clone()


def inversion_suspects(call: Call) -> Suspects:
    """The mask is not inverted."""
    if isinstance(call.x, torch.Tensor) and call.x.dtype == torch.bool:
        yield "the mask is not inverted", lambda: call.x.clone()
