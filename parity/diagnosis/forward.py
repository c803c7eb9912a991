"""The first module whose output departs, and the call whose change explains it."""

import copy
import time

import numpy as np
import torch

from parity.diagnosis.common import (
    OUTPUTS,
    SAME,
    SECONDS,
    Cause,
    Event,
    Stop,
    causes,
    changed,
    different,
    events,
    said,
)
from parity.diagnosis.suspects import Intercept, suspects
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import forward
from parity.ladder.tolerance import relative_error
from parity.pairs.pair import Batch, Case, Tensors, precision


def find(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    """In eval mode, then in train mode; None where every module agrees."""
    with precision(case.dtype):
        ours = forward.ours(case)(state, batch)
    for mode in forward.MODES:
        found = _forward_in(case, state, batch, ours, mode)
        if found is not None:
            return found
    return None


def _forward_in(
    case: Case, state: Tensors, batch: Batch, ours: Tensors, mode: str
) -> Diagnosis | None:
    """The first module whose output departs in this mode, and what explains it.

    That is the change of a call, one between the last module that agrees and this one.
    """
    module, (x, _) = case.torch_model(state).train(mode == "train"), case.torch_batch(batch)
    completed: list[Event] = []
    interceptor = Intercept()

    def on_event(name: str, output: torch.Tensor) -> None:
        completed.append(Event(name, output.detach().clone(), interceptor.count))

    with torch.no_grad(), events(copied := copy.deepcopy(module), on_event), interceptor:
        copied(x)

    def target_of(name: str) -> np.ndarray | None:
        return ours.get(f"{name or 'outputs'} in {mode} mode")

    before: tuple[str, float] | None = None
    start = 0
    for event in completed:
        target = target_of(event.name)
        if target is None:
            continue
        error = relative_error(target, event.value.cpu().numpy())
        if error <= SAME:
            before, start = (event.name, error), event.calls
            continue
        # A summand may have been made long before it is added.
        windows = range(start, event.calls), range(0, start)
        explained = (_explain(module, x, window, event.name, target) for window in windows)
        cause = next(filter(None, explained), None)
        name = event.name or OUTPUTS
        what = f"output (in {mode} mode)"
        return said(name, error, *(before or (None, None)), cause=cause, what=what)
    return None


def _explain(
    module: torch.nn.Module, x: torch.Tensor, window: range, name: str, target: np.ndarray
) -> str | None:
    """The first change of a call in `window` that makes module `name` give `target`."""
    deadline = time.monotonic() + SECONDS
    dropped = _dropout(module, x, name, target)
    if dropped:
        return dropped
    # From the departing module backwards: what is nearest to it is the likeliest.
    for index in reversed(window):
        for cause in causes(module, x, index, suspects):
            if time.monotonic() > deadline:
                return None
            found = _output(module, x, index, cause, name)
            if found is not None and not different(target, found):
                return cause.text
    return None


def _output(
    module: torch.nn.Module, x: torch.Tensor, index: int, cause: Cause, name: str
) -> np.ndarray | None:
    """The output of module `name` with one call changed; None where that cannot run."""
    found: list[np.ndarray] = []

    def on_event(unique: str, output: torch.Tensor) -> None:
        if unique == name:
            found.append(output.detach().cpu().numpy().copy())
            raise Stop

    copied = copy.deepcopy(module)
    try:
        with (
            torch.no_grad(),
            events(copied, on_event),
            Intercept(index, changed(suspects, cause)),
        ):
            copied(x)
    except Stop:
        return found[0]
    except (RuntimeError, ValueError, TypeError):
        return None  # the changed shape does not fit what follows
    return None


def _dropout(module: torch.nn.Module, x: torch.Tensor, name: str, target: np.ndarray) -> str | None:
    """Dropout is random: it shows by zeros, and the rest scaled alike."""
    owner = dict(module.named_modules()).get(name.partition("#")[0])
    if not isinstance(owner, torch.nn.Dropout) or module.training:
        return None
    kept = _output(module, x, -1, Cause("", 0), name)
    if kept is None or kept.shape != target.shape:
        return None
    alive = (target != 0) & (kept != 0)
    ratios = target[alive] / kept[alive]
    if (target == 0).any() and np.ptp(ratios) < 1e-6 * abs(ratios.mean()):
        return "the dropout is left on in eval mode"
    return None
