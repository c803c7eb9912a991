"""What every diagnosis uses: a module's completions, the changes of a call, and the sentence."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from parity.diagnosis.suspects import Call, Intercept, Thunk
from parity.ladder.result import Diagnosis
from parity.ladder.tolerance import relative_error
from parity.pairs.taps import numbered

SAME = 1e-9
"""Relative: below any difference of formula, above the rounding of a deep net."""

SECONDS = 120.0
"""Until no further suspect is tried."""

OUTPUTS = "the outputs"

CANNOT_RUN = "it cannot be run: "
"""How the detail of a rung begins that an error of the JAX side's stopped."""


def said(
    module: str | None,
    error: float | None = None,
    before: str | None = None,
    before_error: float | None = None,
    cause: str | None = None,
    what: str = "output",
) -> Diagnosis:
    """The diagnosis with its sentence."""
    text = f"first departs: {what} of {module}" if module else "nothing departs by itself"
    if error is not None:
        text += f", relative error {error:.1e}"
    if before:
        text += f"; {before}, just before it, {before_error:.1e}"
    text += f". Cause: {cause}." if cause else ". No usual suspect makes the two agree."
    return Diagnosis(module, error, before, before_error, cause, text)


def different(ours: Any, theirs: Any) -> bool:
    """Whether two results differ by more than rounding."""
    return not relative_error(ours, theirs) <= SAME


class Event(NamedTuple):
    """A module's completion: its numbered name, and how many calls had begun by then."""

    name: str
    value: torch.Tensor
    calls: int


class Stop(Exception):
    """What was to be computed is."""


@contextlib.contextmanager
def events(module: torch.nn.Module, on_event: Callable[[str, torch.Tensor], None]):
    """Calls `on_event(numbered name, output)` whenever a module completes."""
    seen: dict[str, None] = {}

    def keep(name: str):
        def hook(_module, _inputs, output):
            if isinstance(output, torch.Tensor):
                unique = numbered(name, seen)
                seen[unique] = None
                on_event(unique, output)

        return hook

    handles = [child.register_forward_hook(keep(name)) for name, child in module.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Cause(NamedTuple):
    """What a suspect is called, and its number among those of one name."""

    text: str
    variant: int


def causes(module: torch.nn.Module, x: torch.Tensor, index: int, of: Any) -> list[Cause]:
    """The suspects of the call `index`."""
    found: list[Cause] = []

    def listed(call: Call) -> Any:
        texts = [text for text, _ in of(call)]
        found.extend(Cause(text, texts[:i].count(text)) for i, text in enumerate(texts))
        raise Stop

    with torch.no_grad(), contextlib.suppress(Stop), Intercept(index, listed):
        copy.deepcopy(module)(x)
    return found


def changed(of: Callable[[Call], Iterator[tuple[str, Thunk]]], cause: Cause):
    """The change that a suspect makes."""

    def change(call: Call) -> Any:
        alike = [thunk for name, thunk in of(call) if name == cause.text]
        return alike[cause.variant]()

    return change


def owner_of(parameter: str) -> str:
    """The module that a parameter or a buffer belongs to."""
    return parameter.rpartition(".")[0] or OUTPUTS


class Everywhere(Intercept):
    """Changes every known call."""

    def __init__(self, change: Callable[[Call], Any]):
        super().__init__(change=change)

    def wanted(self, index: int) -> bool:
        """True of every call."""
        return True
