"""`nn.MultiheadAttention` as one call: what porting it tends to get wrong."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from parity.diagnosis.suspects.attention import attend, hidden_by, other_heads
from parity.diagnosis.suspects.call import Call, Changed, Suspects


def multi_head(
    query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
    add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True,
    key_padding_mask=None, need_weights=True, attn_mask=None, use_separate_proj_weight=False,
    q_proj_weight=None, k_proj_weight=None, v_proj_weight=None, static_k=None, static_v=None,
    average_attn_weights=True, is_causal=False, **how: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """`F.multi_head_attention_forward` in its parts, with `attend` in the middle as `how` says."""
    batched = query.ndim == 3
    if not batched:
        query, key, value = (t.unsqueeze(1) for t in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
    weights: list[Any]
    if use_separate_proj_weight:
        weights = [q_proj_weight, k_proj_weight, v_proj_weight]
    else:
        weights = list(in_proj_weight.chunk(3))
    biases = [None] * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (F.linear(t, weights[i], biases[i]) for i, t in enumerate((query, key, value)))
    b, h = q.shape[1], num_heads
    if bias_k is not None:
        k = torch.cat([k, bias_k.expand(1, b, -1)])
        v = torch.cat([v, bias_v.expand(1, b, -1)])
    k, v = k if static_k is None else static_k, v if static_v is None else static_v

    def heads(t: torch.Tensor) -> torch.Tensor:
        return t.reshape(t.shape[0], b, h, -1).permute(1, 2, 0, 3)  # [b, h, n, d]

    q, k, v = heads(q), heads(k), heads(v)
    if add_zero_attn:
        k, v = (F.pad(t, (0, 0, 0, 1)) for t in (k, v))
    extra = k.shape[2] - key.shape[0]
    mask = _mask(attn_mask, key_padding_mask, b, h, extra, q.dtype)
    kept: list[torch.Tensor] = []

    def keep(scores: torch.Tensor, weights: torch.Tensor, mask: Any) -> torch.Tensor:
        after = how.get("after")
        kept.append(after(scores, weights, mask) if after else weights)
        return F.dropout(kept[0], dropout_p) if dropout_p and training else kept[0]

    options = {name: value for name, value in how.items() if name != "after"}
    if mask is not None and how.get("after") is None:
        scores_mask = torch.where(mask, -math.inf, 0.0) if mask.dtype == torch.bool else mask
        options["bias"] = scores_mask
    out = _attended(q, k, v, mask, keep, **options)
    out = out.permute(2, 0, 1, 3).reshape(query.shape[0], b, -1)
    out = F.linear(out, out_proj_weight, out_proj_bias)
    shown = kept[0].mean(1) if average_attn_weights else kept[0]
    shown = shown if batched else shown[0]
    return out if batched else out.squeeze(1), shown if need_weights else None


def _attended(q, k, v, mask, keep, bias=None, **options: Any) -> torch.Tensor:
    """`attend`, whose weights, with the mask in the scores, go through `keep`."""

    def after(scores: torch.Tensor, weights: torch.Tensor, mask: Any) -> torch.Tensor:
        if bias is not None:
            weights = (scores + bias.to(scores.dtype)).softmax(options.get("over", -1))
        return keep(scores, weights, mask)

    return attend(q, k, v, mask, after=after, **options)


def _mask(
    attn_mask: Any, padding: Any, b: int, h: int, extra: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """Both masks as one, [b or 1, h or 1, l, s] or [b, 1, 1, s]: of bools, or added to scores."""
    masks = []
    if attn_mask is not None:
        shaped = attn_mask.unflatten(0, (b, h)) if attn_mask.ndim == 3 else attn_mask[None, None]
        masks.append(shaped)
    if padding is not None:
        masks.append(padding[:, None, None])
    if not masks:
        return None
    hidden = [hidden_by(m, torch.finfo(dtype).min) for m in masks]
    masks = [m if h is None else h for m, h in zip(masks, hidden, strict=True)]
    masks = [F.pad(m, (0, extra)) for m in masks]
    if all(m.dtype == torch.bool for m in masks):
        return masks[0] if len(masks) == 1 else masks[0] | masks[1]
    floats = [_hiding(m, dtype) if m.dtype == torch.bool else m for m in masks]
    return sum(floats[1:], floats[0])


def _by(**how: Any) -> Callable[..., Any]:
    def multi_head_attention(*args: Any, **kwargs: Any) -> Any:
        return multi_head(*args, **kwargs, **how)

    return multi_head_attention


def multi_head_suspects(call: Call) -> Suspects:
    """Another scale, mask, order of heads or of q, k and v; a bias or the projection missing."""
    a = call.given
    if not call.floats or a["query"].ndim not in (2, 3):
        return
    width, h = a["query"].shape[-1], a["num_heads"]
    if a["in_proj_bias"] is not None:
        yield "the bias of q, k and v is missing", call.with_(in_proj_bias=None)
    if a["out_proj_bias"] is not None:
        yield "the bias of the output's projection is missing", call.with_(out_proj_bias=None)
    yield "the attention is not scaled", call.by(_by(scale=1.0))
    yield (
        "the attention is scaled by the number of channels, not its root",
        call.by(_by(scale=h / width)),
    )
    yield (
        "the attention is scaled by the root of the model's width and not of a head's",
        call.by(_by(scale=width**-0.5)),
    )
    for heads in other_heads(h, width // h):
        yield f"the number of heads is {heads} and not {h}", call.with_(num_heads=heads)
    yield from _mask_suspects(call)
    yield from _weight_suspects(call)
    yield "the softmax is over the queries and not over the keys", call.by(_by(over=-2))
    if a["query"].ndim == 3 and a["key_padding_mask"] is None:
        yield (
            "batch and positions are exchanged: it attends over the batch",
            lambda: _over_batch(call),
        )
    if a["attn_mask"] is None:
        yield "the attention is causal", call.by(_by(diagonal=0))
    if a["bias_k"] is not None:
        yield "the extra key and value are missing", call.with_(bias_k=None, bias_v=None)
    if a["add_zero_attn"]:
        yield "the key and value of zeros are missing", call.with_(add_zero_attn=False)
    if a["dropout_p"] and a["training"]:
        yield "the dropout of the weights is missing", call.with_(dropout_p=0.0)


def _over_batch(call: Call) -> Any:
    a = call.given
    turned = {n: a[n].transpose(0, 1) for n in ("query", "key", "value")}
    out, weights = call.with_(**turned)()
    return out.transpose(0, 1), weights


def _mask_suspects(call: Call) -> Suspects:
    a = call.given
    names = [name for name in ("key_padding_mask", "attn_mask") if a[name] is not None]
    hides = True
    for name in names:
        mask, text = a[name], "padding mask" if name == "key_padding_mask" else "mask"
        hidden = mask if mask.dtype == torch.bool else hidden_by(mask)
        hides = hides and hidden is not None
        yield f"the {text} is ignored", call.with_(**{name: None, "is_causal": False})
        if hidden is not None:
            yield (
                f"the {text} is inverted",
                call.with_(**{name: lambda m=mask, h=hidden: _hiding(~h, m.dtype)}),
            )
            if len(names) == 1 and not bool(hidden.any(-1).all()):  # it hides whole rows then
                yield (
                    f"the {text} is inverted",
                    call.with_(**{name: lambda h=hidden: _hardly_seen(~h, a["query"].dtype)}),
                )
            yield (
                f"the {text} is added to the scores as zeros and ones",
                call.with_(**{name: lambda h=hidden: h.to(a["query"].dtype)}),
            )
            yield (
                f"the {text}, inverted, is added to the scores as zeros and ones",
                call.with_(**{name: lambda h=hidden: (~h).to(a["query"].dtype)}),
            )
        else:
            yield f"the {text} is subtracted", call.with_(**{name: lambda m=mask: -m})
        if name == "attn_mask" and mask.shape[-1] == mask.shape[-2] > 1:
            turned = {name: lambda m=mask: m.transpose(-1, -2)}
            yield f"the {text} is transposed", call.with_(**turned)
    if names and hides:
        yield (
            "the mask is multiplied with the weights, after the softmax",
            call.by(_by(after=lambda _, weights, mask: weights * ~mask)),
        )
        yield (
            "the mask is multiplied with the scores, before the softmax",
            call.by(_by(after=lambda scores, _, mask: (scores * ~mask).softmax(-1))),
        )


def _hiding(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask of what is hidden: of bools, or of zeros and minus infinity."""
    return hidden if dtype == torch.bool else torch.where(hidden, -math.inf, 0.0).to(dtype)


def _hardly_seen(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask of what is hidden: of zeros and the least number that there is."""
    return torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)


def _weight_suspects(call: Call) -> Suspects:
    """The weights of q, k, v and of the output in another order."""
    a = call.given
    joint, bias, out, h = (
        a[n] for n in ("in_proj_weight", "in_proj_bias", "out_proj_weight", "num_heads")
    )

    def arranged(order: Callable[[torch.Tensor], torch.Tensor], back: bool = False) -> Changed:
        """The rows of q, k and v in the order that a function gives to their numbers."""

        def rows() -> torch.Tensor:
            return order(torch.arange(len(joint), device=joint.device))

        changes: dict[str, Any] = {"in_proj_weight": lambda: joint[rows()]}
        if bias is not None:
            changes["in_proj_bias"] = lambda: bias[rows()]
        if back:
            changes["out_proj_weight"] = lambda: out[:, rows()[: len(joint) // 3]]
        return call.with_(**changes)

    if not a["use_separate_proj_weight"] and joint is not None:
        d = len(joint) // 3 // h
        for order in itertools.permutations(range(3)):
            if order != (0, 1, 2):
                names = ", ".join("qkv"[i] for i in order)
                yield (
                    f"the projections are in the order {names}",
                    arranged(lambda rows, o=order: rows.view(3, -1)[list(o)].flatten()),
                )
        if h > 1 and d > 1:
            yield (
                "the heads are interleaved: [d, h] in the place of [h, d]",
                arranged(lambda rows: rows.view(3, d, h).transpose(1, 2).flatten(), back=True),
            )
            yield (
                "the heads are interleaved in q, k and v and not in the output",
                arranged(lambda rows: rows.view(3, d, h).transpose(1, 2).flatten()),
            )
        if h > 1:
            yield (
                "each head has its q, k and v together: [h, 3, d] in the place of [3, h, d]",
                arranged(lambda rows: rows.view(h, 3, d).transpose(0, 1).flatten()),
            )
        yield (
            "q, k and v are interleaved: [h d, 3] in the place of [3, h d]",
            arranged(lambda rows: rows.view(-1, 3).T.flatten()),
        )
        yield (
            "the weights of q, k and v are transposed",
            call.with_(in_proj_weight=lambda: torch.cat([w.T for w in joint.chunk(3)])),
        )
    yield (
        "the output's heads are merged [d, h] and not [h, d]",
        call.with_(out_proj_weight=lambda: out.unflatten(1, (-1, h)).transpose(1, 2).flatten(1)),
    )
    yield (
        "the weight of the output's projection is transposed",
        call.with_(out_proj_weight=lambda: out.T),
    )
    yield (
        "the output's projection is missing",
        call.with_(
            out_proj_weight=lambda: torch.eye(len(out), dtype=out.dtype, device=out.device),
            out_proj_bias=None,
        ),
    )
