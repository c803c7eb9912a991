"""The first gradient that departs on the way back, and why."""

import contextlib
import copy
import time
from functools import partial
from typing import Any

import numpy as np
import torch

from parity.diagnosis.common import (
    SAME,
    SECONDS,
    Cause,
    Everywhere,
    causes,
    changed,
    different,
    events,
    owner_of,
    said,
)
from parity.diagnosis.suspects import Call, Intercept, backward_suspects
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import gradients
from parity.ladder.tolerance import relative_error
from parity.pairs.pair import Batch, Case, Tensors, precision


def find(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    """The gradients' diagnosis; None where they agree."""
    with precision(case.dtype):
        ours = gradients.ours(case)(state, batch)
    theirs = gradients.theirs(case)(state, batch)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs if name in ours}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return None
    module, (x, _) = case.torch_model(state), case.torch_batch(batch)
    order: list[str] = []
    with torch.no_grad(), events(copied := copy.deepcopy(module), lambda n, _: order.append(n)):
        copied(x)
    position = {name: index for index, name in enumerate(order)}

    def place(name: str) -> int:
        return -1 if name == gradients.INPUTS else position.get(owner_of(name), -1)

    first = max(departing, key=place)  # the backward pass begins at the end
    after = [name for name in errors if name not in departing and place(name) > place(first)]
    before = min(after, key=place) if after else None
    cause = _gradient_cause(case, state, batch, ours, theirs, departing)
    name = gradients.INPUTS if first == gradients.INPUTS else owner_of(first)
    before_error = errors[before] if before else None
    return said(name, errors[first], before, before_error, cause, what=f"gradient by {first}, that")


def _gradient_cause(
    case: Case,
    state: Tensors,
    batch: Batch,
    ours: Tensors,
    theirs: Tensors,
    departing: list[str],
) -> str | None:
    parameters = [name for name in theirs if name in ours and name != gradients.INPUTS]
    n = len(batch.labels)
    ratios = {name: _ratio(ours[name], theirs[name]) for name in parameters}
    if len(set(departing) & set(parameters)) == len(parameters):
        ratio = ratios[parameters[0]]
        same = all(abs(r / ratio - 1) < 1e-6 for r in ratios.values()) if ratio else False
        if same and abs(ratio / n - 1) < 1e-6:
            return "the loss is summed over the batch and not averaged"
        if same:
            return f"every gradient is {ratio:.6g} times PyTorch's: the loss is scaled"
    if all(not np.any(ours[name]) for name in departing if name in parameters) and any(
        name in parameters for name in departing
    ):
        frozen = [name for name in departing if name in parameters]
        if len(frozen) <= 2:
            return f"no gradient reaches {', '.join(frozen)}: it is not trained"
    with contextlib.suppress(KeyError):
        decay = [
            _ratio(ours[name] - theirs[name], state[name].astype(np.float64)) for name in departing
        ]
        fits = all(
            not different(ours[name], theirs[name] + d * state[name])
            for name, d in zip(departing, decay, strict=True)
        )
        if fits and decay[0] and max(decay) - min(decay) < 1e-6 * abs(decay[0]):
            return f"{decay[0]:.3g} times the weights is added to their gradients: a weight decay"
    return _backward_cause(case, state, batch, ours, departing)


def _ratio(a: np.ndarray, b: np.ndarray) -> float:
    """The factor that best makes b into a."""
    power = float((b * b).sum())
    return float((a * b).sum()) / power if power else 0.0


def _backward_cause(
    case: Case, state: Tensors, batch: Batch, ours: Tensors, departing: list[str]
) -> str | None:
    module, (x, labels) = case.torch_model(state), case.torch_batch(batch)
    counter = Intercept()
    with torch.no_grad(), counter:
        copy.deepcopy(module)(x)
    deadline = time.monotonic() + SECONDS
    sites = [
        (index, cause)
        for index in reversed(range(counter.count))
        for cause in causes(module, x, index, backward_suspects)
    ]
    # A fault of a layer's code is in all layers of its kind; then in one place alone.
    everywhere = list(dict.fromkeys(cause for _, cause in sites))
    tried: list[tuple[Intercept, Cause]] = [
        (Everywhere(partial(_changed_if_fits, cause)), cause)
        for cause in everywhere
        if not cause.text.startswith("the gradient is stopped")
    ]
    tried += [(Intercept(i, changed(backward_suspects, cause)), cause) for i, cause in sites]
    for interceptor, cause in tried:
        if time.monotonic() > deadline:
            return None
        copied = copy.deepcopy(module)
        named: dict[str, torch.Tensor] = dict(copied.named_parameters())
        leaf = x.clone()
        if gradients.INPUTS in departing:
            named[gradients.INPUTS] = leaf.requires_grad_()
        try:
            with interceptor:
                value = case.pair.loss.torch(copied(leaf), labels)
            found = torch.autograd.grad(value, [*named.values()], allow_unused=True)
        except (RuntimeError, ValueError, TypeError):
            continue
        grads = {
            name: np.zeros(tuple(named[name].shape)) if g is None else g.cpu().numpy()
            for name, g in zip(named, found, strict=True)
        }
        if all(not different(ours[name], grads[name]) for name in departing):
            return cause.text
    return None


def _changed_if_fits(cause: Cause, call: Call) -> Any:
    """The call as the suspect changes it, or as it is where the suspect does not fit."""
    alike = [thunk for name, thunk in backward_suspects(call) if name == cause.text]
    return alike[cause.variant]() if len(alike) > cause.variant else call.plain()
