"""Running statistics that depart."""

import contextlib
import copy

import torch

from parity.diagnosis.common import SAME, causes, changed, different, events, owner_of, said
from parity.diagnosis.suspects import Intercept, suspects
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import batch_stats
from parity.ladder.tolerance import relative_error
from parity.pairs.pair import Batch, Case, Tensors, precision


def find(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    """The running statistics' diagnosis; None where they agree."""
    with precision(case.dtype):
        ours = batch_stats.ours(case)(state, batch)
    theirs = batch_stats.theirs(case)(state, batch)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs if name in ours}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return None
    first = departing[0]
    buffer = first.partition(" by batches")[0]
    agreeing = [name for name in list(errors)[: list(errors).index(first)]]
    before = agreeing[-1] if agreeing else None
    cause = _statistics_cause(case, state, batch, ours, owner_of(buffer))
    before_error = errors[before] if before else None
    return said(
        owner_of(buffer), errors[first], before, before_error, cause, what=f"{buffer}, that"
    )


def _statistics_cause(
    case: Case, state: Tensors, batch: Batch, ours: Tensors, owner: str
) -> str | None:
    """The change of the layer's call that gives JAX's statistics after all batches."""
    module = case.torch_model(state)
    size, views = batch_stats.sequences(case, state, batch)[0]
    xs = [case.torch_batch(Batch(view, batch.labels))[0] for view in views]
    indices: list[int] = []
    counter = Intercept()

    def on_event(name: str, _: torch.Tensor) -> None:
        if name == owner:
            indices.append(counter.count - 1)

    with torch.no_grad(), events(copied := copy.deepcopy(module), on_event), counter:
        copied(xs[0])
    for index in indices:
        for cause in causes(module, xs[0], index, suspects):
            copied = copy.deepcopy(module)
            with contextlib.suppress(RuntimeError, ValueError, TypeError), torch.no_grad():
                for x in xs:
                    with Intercept(index, changed(suspects, cause)):
                        copied(x)
                found = dict(copied.get_submodule(owner).named_buffers())
                wanted = {
                    name: ours[key]
                    for name in found
                    if (key := f"{owner}.{name} by batches of {size}") in ours
                }
                floats = [name for name in wanted if found[name].is_floating_point()]
                if floats and all(
                    not different(wanted[name], found[name].cpu().numpy()) for name in floats
                ):
                    return cause.text
    return None
