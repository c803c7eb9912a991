"""The usual suspects: what porting a PyTorch call tends to get wrong.

Each is a change of one call, which is made on the PyTorch side by intercepting it. A change that
turns PyTorch's result into JAX's is the cause of their difference.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Thunk = Callable[[], Any]


class Call(NamedTuple):
    """One intercepted call; `given` has its arguments by name where the function is known."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def given(self) -> dict[str, Any]:
        """Arguments by name, with defaults."""
        names = ARGUMENTS[self.name]
        defaults = {n: p.default for n, p in inspect.signature(names).parameters.items()}
        return {**defaults, **dict(zip(defaults, self.args, strict=False)), **self.kwargs}

    def with_(self, **changes: Any) -> Thunk:
        """The call with other arguments."""
        given = {**self.given, **changes}
        wanted = inspect.signature(ARGUMENTS[self.name]).parameters
        kwargs = {name: given[name] for name in list(wanted)}
        return lambda: self.function(**kwargs)

    def plain(self) -> Any:
        return self.function(*self.args, **self.kwargs)


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1): ...
def _linear(input, weight, bias=None): ...
def _batch_norm(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
): ...
def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5): ...
def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5): ...
def _max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
): ...
def _avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
): ...


ARGUMENTS: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
}
"""Signatures of the functions whose arguments are varied."""

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "leaky ReLU": F.leaky_relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "elu": F.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
}
EPSILONS = 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0


def suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """(cause, the changed call) of every suspect that fits the call."""
    handler = _HANDLERS.get(call.name)
    if handler is not None:
        yield from handler(call)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _same_padding(x: torch.Tensor, kernel: Any, stride: Any, dilation: Any) -> list[int]:
    """'SAME' of XLA and TensorFlow, as F.pad takes it: the odd pixel after."""
    border = []
    sides = zip(x.shape[-2:], _pair(kernel), _pair(stride), _pair(dilation), strict=True)
    for size, taps, step, spread in sides:
        total = max((math.ceil(size / step) - 1) * step + spread * (taps - 1) + 1 - size, 0)
        border.append((total // 2, total - total // 2))
    return [*border[1], *border[0]]


def _conv_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    a = call.given
    x, w, stride, padding = a["input"], a["weight"], _pair(a["stride"]), a["padding"]
    if isinstance(padding, str):
        return
    padding, taps = _pair(padding), tuple(w.shape[2:])
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    same = _same_padding(x, taps, stride, a["dilation"])
    if same != [padding[1], padding[1], padding[0], padding[0]]:
        yield (
            "the padding is 'SAME', with the odd pixel after, and not symmetric",
            call.with_(input=F.pad(x, same), padding=0),
        )
    if max(padding):
        yield "the padding is missing", call.with_(padding=0)
        border = [padding[1], padding[1], padding[0], padding[0]]
        if max(padding) < min(x.shape[-2:]):
            for mode in ("reflect", "replicate", "circular"):
                yield (
                    f"the padding is {mode} and not zeros",
                    lambda mode=mode: call.with_(input=F.pad(x, border, mode=mode), padding=0)(),
                )
    if max(taps) > 1:
        yield (
            "the kernel is flipped: a convolution and not PyTorch's cross-correlation",
            call.with_(weight=w.flip(2, 3)),
        )
        if taps[0] == taps[1]:
            yield "the kernel's height and width are swapped", call.with_(weight=w.transpose(2, 3))
    if w.shape[0] == w.shape[1]:
        yield (
            "the kernel's input and output channels are swapped",
            call.with_(weight=w.transpose(0, 1)),
        )
    for other in ((1, 1), (2, 2)):
        if other != stride:
            yield (
                f"the stride is {other[0]} and not {stride[0]}: it may be on the wrong convolution",
                call.with_(stride=other),
            )
    if max(_pair(a["dilation"])) > 1:
        yield "the dilation is ignored", call.with_(dilation=1, padding=[t // 2 for t in taps])
        yield "the dilation is ignored", call.with_(dilation=1)
    groups = a["groups"]
    if groups > 1:
        mixed = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
        yield "the channels of the groups are interleaved", call.with_(input=mixed)
        order = torch.arange(groups).flip(0)
        swapped = w.unflatten(0, (groups, -1))[order].flatten(0, 1)
        yield "the groups are in another order", call.with_(weight=swapped)


def _linear_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    a = call.given
    if a["bias"] is not None:
        yield "the bias is missing", call.with_(bias=None)
    if a["weight"].shape[0] == a["weight"].shape[1]:
        yield "the weight is transposed", call.with_(weight=a["weight"].T)


def _batch_norm_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
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
        yield "the batch is normalised by the unbiased variance", lambda: _normalised(a, axes, 1)
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
    yield "eps is added to the deviation and not to the variance", lambda: _normalised(a, axes, 2)


def _normalised(a: dict[str, Any], axes: tuple[int, ...], how: int) -> torch.Tensor:
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


def _norm_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
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


def _activation_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    x = call.args[0]
    yield f"the {call.name} is missing", lambda: x * 1
    for name, function in ACTIVATIONS.items():
        if name != call.name:
            yield f"{name} in the place of {call.name}", lambda function=function: function(x)
    if call.name == "relu":
        yield (
            "the gradient of the ReLU at zero is one and not zero",
            lambda: torch.where(x >= 0, x, torch.zeros_like(x)),
        )


def _max_pool_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    a = call.given
    x, window = a["input"], _pair(a["kernel_size"])
    stride, padding = _pair(a["stride"] or window), _pair(a["padding"])
    border = [padding[1], padding[1], padding[0], padding[0]]
    yield (
        "average pooling in the place of maximum pooling",
        lambda: F.avg_pool2d(x, window, stride, padding),
    )
    yield (
        "average pooling, without the padding counted, in the place of maximum pooling",
        lambda: F.avg_pool2d(x, window, stride, padding, count_include_pad=False),
    )
    yield (
        f"ceil mode is {'off' if a['ceil_mode'] else 'on'}",
        call.with_(ceil_mode=not a["ceil_mode"]),
    )
    if max(padding):
        yield "the padding is missing", call.with_(padding=0)
        zeros = F.pad(x, border)
        yield "the padding is zeros and not minus infinity", call.with_(input=zeros, padding=0)
    same = _same_padding(x, window, stride, 1)
    if same != border:
        padded = F.pad(x, same, value=-math.inf)
        yield "the padding is 'SAME' and not symmetric", call.with_(input=padded, padding=0)
    for other in {1, 2, window[0]} - {stride[0]}:
        yield f"the stride is {other} and not {stride[0]}", call.with_(stride=other)
    for other in {2, 3} - {window[0]}:
        for border in {0, min(padding[0], other // 2)}:
            changed = call.with_(kernel_size=other, padding=border)
            yield f"the window is {other} and not {window[0]}", changed
    yield "the pooling is missing", lambda: x * 1
    if not a["ceil_mode"] and not max(padding) and window == stride:
        yield "equal maxima share the gradient", lambda: _tied_pool(x, window, "share")
        yield "each of equal maxima gets the whole gradient", lambda: _tied_pool(x, window, "all")
        yield "the last of equal maxima gets the gradient", lambda: _tied_pool(x, window, "last")


def _tied_pool(x: torch.Tensor, window: tuple[int, int], ties: str) -> torch.Tensor:
    """Maximum pooling by windows that do not overlap, with another rule for ties."""
    h, w = (side // taps * taps for side, taps in zip(x.shape[2:], window, strict=True))
    patches = x[:, :, :h, :w].unfold(2, window[0], window[0]).unfold(3, window[1], window[1])
    patches = patches.flatten(4)
    if ties == "share":
        return patches.amax(-1)
    if ties == "last":
        return patches.flip(-1).max(-1).values
    best = patches.detach().amax(-1, keepdim=True)
    hits = (patches == best) * (patches - patches.detach())
    return best.squeeze(-1) + hits.sum(-1)


def _mean_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    x = call.args[0]
    if not isinstance(x, torch.Tensor) or x.ndim < 3:
        return
    out = call.plain()
    axes = tuple(range(2, x.ndim))
    if call.name == "mean":
        axes = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
        if axes is None:
            return
    size = x.numel() // max(out.numel(), 1)
    shape = out.shape
    yield "the maximum in the place of the average", lambda: x.amax(axes).reshape(shape)
    yield "the sum in the place of the average", lambda: out * size
    yield "the average is missing", lambda: x.flatten(2)[..., 0].reshape(shape)


def _flatten_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    x, out = call.args[0], call.plain()
    if not isinstance(x, torch.Tensor) or x.ndim != 4 or out.ndim != 2:
        return
    yield (
        "the feature map is flattened h, w, c and not c, h, w",
        lambda: x.permute(0, 2, 3, 1).reshape(out.shape),
    )
    yield (
        "the feature map is flattened c, w, h and not c, h, w",
        lambda: x.transpose(2, 3).reshape(out.shape),
    )


def _add_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    if len(call.args) < 2:
        return
    a, b = call.args[:2]
    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        return
    if a.shape != b.shape or not a.is_floating_point():
        return
    a, b = a.clone(), b.clone()  # the call may be in place
    yield "the shortcut is missing: the first summand alone", lambda: a
    yield "the second summand alone", lambda: b
    yield "the second summand is subtracted", lambda: a - b
    yield "the ReLU comes before the addition", lambda: torch.relu(a) + b
    yield "the shortcut is activated before the addition", lambda: a + torch.relu(b)
    yield "the sum is averaged", lambda: (a + b) / 2
    yield "the second summand is added twice", lambda: a + 2 * b
    if a.ndim == 4:
        c = b.shape[1]
        yield "the channels of the shortcut are reversed", lambda: a + b.flip(1)
        for shift in (c // 4, -(c // 4)):
            yield "the shortcut's channels are shifted", lambda shift=shift: a + b.roll(shift, 1)


def _mul_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    a = call.args[0]
    if isinstance(a, torch.Tensor) and a.is_floating_point():
        yield "the multiplication is missing", lambda: a * 1.0
        if len(call.args) > 1 and isinstance(call.args[1], torch.Tensor):
            yield "the multiplication is missing", lambda: call.args[1] * 1.0


def _dropout_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    x = call.args[0]
    training = call.kwargs.get("training", call.args[2] if len(call.args) > 2 else True)
    if training:
        yield "the dropout is missing in training", lambda: x * 1


def _softmax_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    x = call.args[0]
    for axis in range(x.ndim):
        yield f"the softmax is over axis {axis}", lambda axis=axis: torch.softmax(x, axis)
    yield "the softmax is missing", lambda: x * 1


def _attention_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    q, k, v = call.args[:3]
    attend = F.scaled_dot_product_attention
    yield "the attention is not scaled", lambda: attend(q, k, v, scale=1.0)
    yield "the attention is causal", lambda: attend(q, k, v, is_causal=True)
    yield (
        "the attention is scaled by the number of channels, not its root",
        lambda: attend(q, k, v, scale=1 / q.shape[-1]),
    )


def _pad_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    x, border = call.args[:2]
    flipped = [border[i ^ 1] for i in range(len(border))]
    if flipped != list(border):
        yield "the padding is on the other side", lambda: F.pad(x, flipped)
    sums = [border[i] + border[i + 1] for i in range(0, len(border), 2)]
    after = [value for total in sums for value in (0, total)]
    before = [value for total in sums for value in (total, 0)]
    yield "all of the padding comes after", lambda: F.pad(x, after)
    yield "all of the padding comes before", lambda: F.pad(x, before)


def _cat_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    tensors, axis = call.args[0], call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
    yield "the parts are joined in the other order", lambda: torch.cat(list(tensors)[::-1], axis)


_HANDLERS: dict[str, Callable[[Call], Iterator[tuple[str, Thunk]]]] = {
    "conv2d": _conv_suspects,
    "linear": _linear_suspects,
    "batch_norm": _batch_norm_suspects,
    "layer_norm": _norm_suspects,
    "group_norm": _norm_suspects,
    **dict.fromkeys(("relu", "relu_", "gelu", "silu", "elu", "tanh", "sigmoid", "leaky_relu"),
                    _activation_suspects),
    "max_pool2d": _max_pool_suspects,
    **dict.fromkeys(("mean", "adaptive_avg_pool2d", "avg_pool2d"), _mean_suspects),
    **dict.fromkeys(("flatten", "reshape", "view"), _flatten_suspects),
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__"), _add_suspects),
    **dict.fromkeys(("mul", "mul_", "__mul__"), _mul_suspects),
    "dropout": _dropout_suspects,
    "softmax": _softmax_suspects,
    "scaled_dot_product_attention": _attention_suspects,
    "pad": _pad_suspects,
    **dict.fromkeys(("cat", "concat"), _cat_suspects),
}  # fmt: skip


def backward_suspects(call: Call) -> Iterator[tuple[str, Thunk]]:
    """Changes of a call that leave its value and change its gradient."""
    out = call.plain
    yield f"the gradient is stopped at this {call.name}", lambda: out().detach()
    if call.name == "batch_norm":
        if call.given["training"]:
            yield (
                "the gradient does not pass through the batch's statistics",
                lambda: _normalised_by_constants(call.given),
            )
    if call.name == "max_pool2d":
        for cause, thunk in _max_pool_suspects(call):
            if "gradient" in cause:
                yield cause, thunk
    if call.name in ("relu", "relu_"):
        x = call.args[0]
        yield (
            "the gradient passes through the ReLU unchanged",
            lambda: x + (torch.relu(x) - x).detach(),
        )
        yield (
            "the gradient of the ReLU at zero is one and not zero",
            lambda: torch.where(x >= 0, x, torch.zeros_like(x)),
        )
    if call.name in ("add", "add_", "__add__", "__iadd__") and len(call.args) > 1:
        a, b = call.args[:2]
        if isinstance(b, torch.Tensor) and isinstance(a, torch.Tensor) and a.shape == b.shape:
            a, b = a.clone(), b.clone()
            yield "the gradient does not pass through the shortcut", lambda: a + b.detach()
            yield "the gradient passes through the shortcut alone", lambda: a.detach() + b


def _normalised_by_constants(a: dict[str, Any]) -> torch.Tensor:
    x = a["input"]
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean, var = x.mean(axes).detach(), x.var(axes, unbiased=False).detach()
    return F.batch_norm(x, mean, var, a["weight"], a["bias"], False, 0.0, a["eps"])


class Intercept(TorchFunctionMode):
    """Numbers the calls of known functions, and puts `change(call)` in the place of one."""

    def __init__(self, index: int = -1, change: Callable[[Call], Any] | None = None):
        super().__init__()
        self.index, self.change, self.count = index, change, 0
        self.on_call: Callable[[int, Call], None] = lambda index, call: None

    def wanted(self, index: int) -> bool:
        """Whether the call of this number is to be changed."""
        return index == self.index

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if name not in _HANDLERS or not _floats(args):
            return func(*args, **kwargs)
        call, index = Call(name, func, tuple(args), kwargs), self.count
        self.count += 1
        self.on_call(index, call)
        if self.change is not None and self.wanted(index):
            return self.change(call)
        return func(*args, **kwargs)


def _floats(args: Any) -> bool:
    """Whether a call is of tensors of numbers: BatchNorm counts its batches by `add_`."""
    first = args[0] if args else None
    if isinstance(first, list | tuple):
        first = first[0] if first else None
    return isinstance(first, torch.Tensor) and first.is_floating_point()
