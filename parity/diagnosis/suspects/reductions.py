"""Means, sums, maxima and variances: what porting one tends to get wrong."""

from collections.abc import Callable
from typing import Any

import torch

from parity.diagnosis.suspects.call import Call, Suspects


def _axes(dim: Any, ndim: int) -> tuple[int, ...]:
    """The axes reduced, counted from the first; all where none is named."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return tuple(d % ndim for d in dims) if ndim else ()


def mean_suspects(call: Call) -> Suspects:
    """Of a mean or sum: the maximum, the other of them, another axis, or none at all."""
    a = call.given
    x, dim, keep = a["input"], a["dim"], bool(a["keepdim"])
    if not call.floats or not _is_axis(dim):
        return
    axes = _axes(dim, x.ndim)
    number = 1
    for axis in axes:
        number *= x.shape[axis]
    name = "average" if call.name == "mean" else "sum"
    if axes and name == "average":
        yield "the maximum in the place of the average", lambda: x.amax(axes, keep)
        yield "the sum in the place of the average", call.then(lambda out: out * number)
    elif axes:
        yield "the average in the place of the sum", call.then(lambda out: out / number)
        yield "the maximum in the place of the sum", lambda: x.amax(axes, keep)
    yield f"the {name} is missing", lambda: _first(x, axes, keep)
    yield f"the {name} is missing: the last in its place", lambda: _first(x, axes, keep, last=True)
    yield from _other_axes(call, x, dim, axes, name)


def _is_axis(dim: Any) -> bool:
    return dim is None or isinstance(dim, int | list | tuple)


def _first(x: torch.Tensor, axes: tuple[int, ...], keep: bool, last: bool = False) -> torch.Tensor:
    """The first or the last element along the axes."""
    index = tuple(
        (slice(-1, None) if last else slice(0, 1)) if axis in axes else slice(None)
        for axis in range(x.ndim)
    )
    out = x[index]
    return out * 1 if keep else out.reshape([s for i, s in enumerate(x.shape) if i not in axes])


def _other_axes(
    call: Call, x: torch.Tensor, dim: Any, axes: tuple[int, ...], name: str
) -> Suspects:
    if dim is not None and len(axes) == 1:
        for axis in range(x.ndim):
            if axis not in axes:
                yield f"the {name} is over axis {axis} and not {axes[0]}", call.with_(dim=axis)
    elif dim is not None and 1 < len(axes) < x.ndim:
        left = [axis for axis in range(x.ndim) if axis not in axes]
        for other in left[1:]:
            for i, axis in enumerate(axes):
                changed = (*axes[:i], other, *axes[i + 1 :])
                yield f"the {name} is over axis {other} and not {axis}", call.with_(dim=changed)


def extreme_suspects(call: Call) -> Suspects:
    """Of a maximum or minimum along axes: the average, or another axis."""
    a = call.given
    x, dim, keep = a["input"], a["dim"], bool(a["keepdim"])
    if not call.floats or not _is_axis(dim):
        return
    axes = _axes(dim, x.ndim)
    pairs = call.name in ("max", "min") and dim is not None
    if pairs or not axes:
        yield from _other_axes(call, x, dim, axes, call.name)
        return
    yield f"the average in the place of the {call.name}", lambda: x.mean(axes, keep)
    yield f"the sum in the place of the {call.name}", lambda: x.sum(axes, keep)
    if call.name == "logsumexp":
        yield "the maximum in the place of the logsumexp", lambda: x.amax(axes, keep)
        yield "the logarithm is missing", call.then(torch.exp)
    yield from _other_axes(call, x, dim, axes, call.name)


def variance_suspects(call: Call) -> Suspects:
    """The biased or unbiased variance in the other's place; the deviation, or another axis."""
    parsed = _variance(call)
    if parsed is None:
        return
    x, dim, correction, keep = parsed
    functions: dict[str, Callable[..., Any]] = {
        "var": torch.var,
        "std": torch.std,
        "var_mean": torch.var_mean,
        "std_mean": torch.std_mean,
    }
    function = functions[call.name]

    def by(dim: Any = dim, correction: float = correction, of: Any = function) -> Any:
        # A call, so that it can be changed again.
        return call._replace(args=(x,), kwargs={}).by(
            lambda x: of(x, dim=dim, correction=correction, keepdim=keep)
        )

    other = 0 if correction else 1
    yield f"the variance is the {'un' if other else ''}biased one", by(correction=other)
    axes = _axes(dim, x.ndim)
    if call.name == "var":
        yield "the deviation in the place of the variance", by(of=torch.std)
        yield (
            "the mean square in the place of the variance",
            lambda: x.square().mean(axes, keep),
        )
    if call.name == "std":
        yield "the variance in the place of the deviation", by(of=torch.var)
        yield (
            "the root of the mean square in the place of the deviation",
            lambda: x.square().mean(axes, keep).sqrt(),
        )
    if dim is not None and len(axes) == 1:
        for axis in range(x.ndim):
            if axis not in axes:
                yield f"the {call.name} is over axis {axis} and not {axes[0]}", by(dim=axis)


def _variance(call: Call) -> tuple[torch.Tensor, Any, float, bool] | None:
    """The input, axes, correction and keepdim of a call of `var` or `std` in any of its forms."""
    if not call.floats or call.x.ndim == 0:
        return None
    args, kwargs = list(call.args[1:]), dict(call.kwargs)
    dim = None
    if args and not isinstance(args[0], bool):
        dim = args.pop(0)
    unbiased = args.pop(0) if args else kwargs.get("unbiased", True)
    keep = args.pop(0) if args else kwargs.get("keepdim", False)
    correction = kwargs.get("correction")
    correction = (1 if unbiased else 0) if correction is None else correction
    dim = kwargs.get("dim", dim)
    return (call.x, dim, correction, bool(keep)) if _is_axis(dim) else None


def norm_of_vector_suspects(call: Call) -> Suspects:
    """The norm is squared, of another degree, or of other axes."""
    if not call.floats:
        return
    x, kwargs = call.x, call.kwargs
    yield "the norm is squared: its root is missing", call.then(lambda out: out**2)
    if "dim" in kwargs and isinstance(kwargs["dim"], int) and x.ndim:
        keep = bool(kwargs.get("keepdim", False))
        axis = kwargs["dim"]
        yield "the norm is L1", lambda: x.abs().sum(axis, keep)
        yield "the norm is of the mean square", lambda: x.square().mean(axis, keep).sqrt()
        yield "the norm is the largest magnitude", lambda: x.abs().amax(axis, keep)
        for other in range(x.ndim):
            if other != axis % x.ndim:
                changed = call._replace(kwargs={**kwargs, "dim": other})
                yield f"the norm is over axis {other} and not {axis}", changed.with_input(x)
