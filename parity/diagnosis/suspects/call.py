"""One intercepted call of PyTorch, and the call changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from parity.diagnosis.suspects.signatures import ALIASES, ARGUMENTS, REQUIRED

Thunk = Callable[[], Any]
Suspects = Iterator[tuple[str, Thunk]]
"""(cause, the changed call) of each."""

NOT_LEGAL = RuntimeError, ValueError, TypeError, IndexError
"""What a changed call raises that cannot be made."""


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
        defaults = {name: value for name, value in names.items() if value is not REQUIRED}
        return {**defaults, **dict(zip(names, self.args, strict=False)), **self.kwargs}

    @property
    def x(self) -> Any:
        """The first argument, however it was passed."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)

    @property
    def floats(self) -> bool:
        """Whether the first argument is a tensor of floating-point numbers."""
        return isinstance(self.x, torch.Tensor) and self.x.is_floating_point()

    def with_(self, **changes: Any) -> "Changed":
        """The call with other arguments; one that is a function is called when it is needed."""

        def make() -> Call:
            values = {n: v() if callable(v) else v for n, v in changes.items()}
            args = list(self.args)
            for i, name in enumerate(list(ARGUMENTS[self.name])[: len(args)]):
                args[i] = values.pop(name, args[i])
            return self._replace(args=tuple(args), kwargs={**self.kwargs, **values})

        return Changed(make)

    def with_arg(self, index: int, value: Any) -> "Changed":
        """The call with another positional argument."""

        def make() -> Call:
            new = value() if callable(value) else value
            if index < len(self.args):
                args = (*self.args[:index], new, *self.args[index + 1 :])
                return self._replace(args=args)
            return self._replace(
                kwargs={**self.kwargs, list(self.kwargs)[index - len(self.args)]: new}
            )

        return Changed(make)

    def with_input(self, value: Any) -> "Changed":
        """The call with another first argument."""
        return self.with_arg(0, value)

    def by(self, function: Callable[..., Any]) -> "Changed":
        """The call of another function of the same arguments."""
        return Changed(lambda: self._replace(function=function))

    def then(self, after: Callable[[Any], Any]) -> "Changed":
        """The call whose result goes through `after`."""
        return self.by(lambda *args, **kwargs: after(self.function(*args, **kwargs)))

    def plain(self) -> Any:
        """The result of the call as it is."""
        return self.function(*self.args, **self.kwargs)

    def result(self) -> Any:
        """The result, where that is only a view; None of a changed call that cannot be made."""
        try:
            return self.plain()
        except NOT_LEGAL:
            return None

    def canonical(self) -> "Call":
        """The call with NumPy's names of arguments (axis, keepdims) as PyTorch's own."""
        if not any(name in ALIASES for name in self.kwargs):
            return self
        return self._replace(kwargs={ALIASES.get(n, n): v for n, v in self.kwargs.items()})


@dataclass(frozen=True)
class Changed:
    """A changed call: calling it gives the result; `call` may be changed further."""

    make: Callable[[], Call]

    @property
    def call(self) -> Call:
        """The changed call."""
        return self.make()

    def __call__(self) -> Any:
        """The changed call's result."""
        return self.call.plain()


def call_of(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Changed:
    """A call of another function altogether, such as gelu in the place of relu."""
    return Changed(lambda: Call(name, function, args, kwargs))
