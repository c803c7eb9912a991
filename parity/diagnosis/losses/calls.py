"""The calls of PyTorch that a loss is made of, and the changing of some as it runs."""

import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

UNSEEN = frozenset(
    "__get__ __set__ __len__ __repr__ size dim numel item float double long int bool to type "
    "type_as clone contiguous reshape view flatten squeeze unsqueeze is_floating_point "
    "manual_seed".split()
)
"""What no loss gets wrong by itself."""


@dataclasses.dataclass(frozen=True)
class LossCall:
    """One call of a loss: its function, what it is given, and the number of examples."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    examples: int

    @property
    def given(self) -> dict[str, Any]:
        """Arguments by name, with defaults, of a loss function of PyTorch's.

        Those of the others that have no name are called "0", "1", ....
        """
        if getattr(self.function, "__module__", "") != torch.nn.functional.__name__:
            return {**{str(i): value for i, value in enumerate(self.args)}, **self.kwargs}
        parameters = inspect.signature(self.function).parameters
        passed = {**dict(zip(parameters, self.args, strict=False)), **self.kwargs}
        return {name: passed.get(name, p.default) for name, p in parameters.items()}

    def with_(self, **changes: Any) -> "LossCall":
        """The call with other arguments, by the names of `given`."""
        numbered = {int(name): value for name, value in changes.items() if name.isdigit()}
        named = {name: value for name, value in changes.items() if not name.isdigit()}
        args = tuple(numbered.get(i, value) for i, value in enumerate(self.args))
        if not numbered:
            names = list(self.given)
            args = tuple(
                named.pop(name, value) for name, value in zip(names, self.args, strict=False)
            )
        return dataclasses.replace(self, args=args, kwargs={**self.kwargs, **named})

    def plain(self) -> Any:
        """The result of the call as it is."""
        return self.function(*self.args, **self.kwargs)


class Suspect(NamedTuple):
    """A change of a call: other arguments (`edit`), or another result (`make`)."""

    text: str
    edit: Callable[[LossCall], LossCall] | None = None
    make: Callable[[LossCall], Any] | None = None


Changes = Mapping[int, Sequence[Suspect]]
"""By the number of the call."""


class Changing(TorchFunctionMode):
    """Runs a loss with some of its calls changed, and keeps what was called."""

    def __init__(self, examples: int, changes: Changes | None = None, keep: bool = False):
        super().__init__()
        self.examples, self.changes, self.keep = examples, changes or {}, keep
        self.count = 0
        self.calls: list[LossCall] = []
        self.results: list[Any] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in UNSEEN:
            return func(*args, **kwargs)
        index = self.count
        self.count += 1
        call = LossCall(name, func, tuple(args), dict(kwargs), self.examples)
        if self.keep:
            self.calls.append(call)
        result = self._result(call, self.changes.get(index, ()))
        if self.keep:
            self.results.append(result)
        return result

    def _result(self, call: LossCall, changes: Sequence[Suspect]) -> Any:
        for change in changes:
            if change.edit is not None:
                call = change.edit(call)
        makes = [change.make for change in changes if change.make is not None]
        if len(makes) > 1:
            raise ValueError("two other results of one call")
        return makes[0](call) if makes else call.plain()


def arguments(text: str, **changes: Any) -> Suspect:
    """Other arguments: values, or functions of the call."""

    def edit(call: LossCall) -> LossCall:
        made = {name: v(call) if callable(v) else v for name, v in changes.items()}
        return call.with_(**made)

    return Suspect(text, edit)


def described(calls: Sequence[LossCall], index: int) -> str:
    """The name of a call, and its place among those of its name where there are several."""
    name = calls[index].name
    if Counter(call.name for call in calls)[name] == 1:
        return name
    place = sum(call.name == name for call in calls[: index + 1])
    ordinal = {1: "1st", 2: "2nd", 3: "3rd"}.get(place, f"{place}th")
    return f"the {ordinal} {name}"


def floating(value: Any) -> bool:
    """Whether it is a tensor of floating-point numbers."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()
