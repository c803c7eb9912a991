"""Transposed convolutions: what porting one tends to get wrong."""

from collections.abc import Sequence
from typing import Any

from torch.nn import functional as F

from parity.diagnosis.suspects.call import Call, Suspects
from parity.diagnosis.suspects.convolution import kernel_suspects
from parity.diagnosis.suspects.sizes import each, interleaved, padded


def transposed_conv_suspects(call: Call) -> Suspects:
    """Another bias, kernel, cropping of the output, stride or grouping."""
    a = call.given
    x, w = a["input"], a["weight"]
    n = w.ndim - 2
    if x.ndim not in (n + 1, n + 2) or n < 1:
        return
    stride, padding, extra = (each(a[k], n) for k in ("stride", "padding", "output_padding"))
    spans = [d * (t - 1) for d, t in zip(each(a["dilation"], n), w.shape[2:], strict=True)]
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    yield from kernel_suspects(call)
    front, rear = list(padding), [p - e for p, e in zip(padding, extra, strict=True)]

    def cropped(front: Sequence[int], rear: Sequence[int]) -> Any:
        return call.by(_cropping(call.function, front, rear))

    tried = [(front, rear)]
    if max(extra):
        yield "the output_padding is missing", call.with_(output_padding=0)
        tried.append((front, front))
    for cause, other in (
        (
            _SAME if not max(extra) else f"{_SAME}, the output_padding at the start",
            _same(spans, stride),
        ),
        ("the output is not cropped: the padding is 'VALID'", _valid(spans, stride)),
        (
            "the padding is the dilated input's and not that of the convolution it transposes",
            (list(map(int.__sub__, spans, padding)), list(map(int.__sub__, spans, padding))),
        ),
        ("the output_padding is on the other side", (rear, front)),
    ):
        if other not in tried:
            tried.append(other)
            yield cause, cropped(*other)
    if max(padding):
        yield "the padding is missing", call.with_(padding=0)
    if max(stride) > 1:
        yield "the stride is ignored", call.with_(stride=1, output_padding=0)
    if max(each(a["dilation"], n)) > 1:
        yield "the dilation is ignored", call.with_(dilation=1)
    groups, axis = a["groups"], x.ndim - n - 1
    if groups > 1:
        yield (
            "the channels of the groups are interleaved",
            call.with_input(lambda: interleaved(x, axis, groups)),
        )
        yield (
            "the output channels of the groups are interleaved",
            call.then(lambda out: interleaved(out, axis, groups)),
        )
        yield (
            "the groups are in another order",
            call.with_(weight=lambda: w.unflatten(0, (groups, -1)).flip(0).flatten(0, 1)),
        )


_SAME = "the output is cropped as by 'SAME'"


def _same(spans: list[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
    """What `lax.conv_transpose` with 'SAME' cuts off before and after: in * stride are left."""
    front, rear = [], []
    for span, step in zip(spans, stride, strict=True):
        total = span + step - 1
        before = span if step > span else -(-total // 2)
        front.append(span - before)
        rear.append(span - (total - before))
    return front, rear


def _valid(spans: list[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
    """What `lax.conv_transpose` with 'VALID' cuts off: nothing, or adds where strides are long."""
    rear = [min(0, span + 1 - step) for span, step in zip(spans, stride, strict=True)]
    return [0] * len(spans), rear


def _cropping(function: Any, front: Sequence[int], rear: Sequence[int]) -> Any:
    """The transposed convolution with other cropping before and after, or zeros if negative."""

    def cropping(
        input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    ):
        out = function(input, weight, None, stride, 0, 0, groups, dilation)
        out = F.pad(out, padded([-c for c in front], [-c for c in rear]))
        return out if bias is None else out + bias.view(-1, *[1] * (weight.ndim - 2))

    return cropping
