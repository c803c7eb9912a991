"""One intercepted call of PyTorch, and the changing of one as a model runs."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

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
        """The result of the call as it is."""
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
