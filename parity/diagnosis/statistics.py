"""Running statistics that depart: momentum and variance solved for, then the usual suspects."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from parity.diagnosis import conditioning
from parity.diagnosis.common import Known, owner_of, said
from parity.diagnosis.forward import NOT_LEGAL
from parity.diagnosis.search import Budget, list_suspects
from parity.diagnosis.sites import Change, Site, applied, observed
from parity.diagnosis.suspects import Call, Thunk
from parity.ladder.result import Diagnosis, Fault
from parity.ladder.rungs import batch_stats
from parity.ladder.tolerance import relative_error, scales_of
from parity.pairs.case import Case, precision
from parity.pairs.pair import Tensors

SECONDS = 60.0
BIASED = "the running variance is the biased one, not n / (n - 1) times it"


def find(known: Known) -> Diagnosis | None:
    """The running statistics' diagnosis; None where they agree."""
    case, state, batch = known.case, known.state, known.batches[0]
    with precision(case.dtype):
        ours = batch_stats.ours(case)(state, batch)
    with applied(known.changes):
        theirs = batch_stats.theirs(case)(state, batch)
    ours, theirs = batch_stats.matched(case, ours, theirs, [])
    scales = scales_of(ours, theirs)
    errors = {name: relative_error(ours[name], theirs[name], scales[name]) for name in theirs}
    departing = conditioning.departing(known, "batch_stats", errors)
    if not departing:
        return None
    first = departing[0]
    faults: list[Fault] = []
    budget, made = Budget(SECONDS), []
    after_one = _after_one(case, state, batch_stats.sequences(case, state, batch)[0][1][0])
    for owner in dict.fromkeys(owner_of(_buffer(name)) for name in departing):
        wanted = {n: v for n, v in ours.items() if owner_of(_buffer(n)) == owner}
        for change in _explained(known, owner, wanted, after_one, made, budget):
            fault = Fault(owner, change.text, errors[first], (owner,))
            faults.append(fault)
            known.add(fault, (change,))
            made.append(change)
    if not faults and all(batch_stats.AFTER_EVAL in name for name in departing):
        owners = tuple(dict.fromkeys(owner_of(_buffer(name)) for name in departing))
        faults = [Fault(owners[0], "the statistics are updated in eval mode", None, owners)]
    before = list(errors)[list(errors).index(first) - 1] if list(errors).index(first) else None
    return said(
        owner_of(_buffer(first)),
        errors[first],
        before,
        errors[before] if before else None,
        faults[0].cause if faults else None,
        what=f"{_buffer(first)}, that",
        faults=_merged(faults),
    )


def _merged(faults: list[Fault]) -> list[Fault]:
    places: dict[str | None, dict[str, None]] = {}
    for fault in faults:
        places.setdefault(fault.cause, {}).update(dict.fromkeys(fault.places))
    return [Fault(next(iter(at)), cause, None, tuple(at)) for cause, at in places.items()]


def _buffer(name: str) -> str:
    return name.partition(" by batches")[0].removesuffix(f" {batch_stats.AFTER_EVAL}")


def _explained(
    known: Known,
    owner: str,
    wanted: Tensors,
    after_one: Tensors,
    made: list[Change],
    budget: Budget,
) -> list[Change]:
    """The changes of the layer's calls that give all of its statistics; [] if none do."""
    case, state, batch = known.case, known.state, known.batches[0]
    calls: list[tuple[Site, Call]] = []
    sequence = batch_stats.sequences(case, state, batch)[0][1]
    module = case.torch_model(state)

    def listen(site: Site, call: Call) -> None:
        if site.module == owner and call.name == "batch_norm":
            calls.append((site, call._replace(args=tuple(_copied(a) for a in call.args))))

    with applied(known.changes), observed(listen):
        batch_stats.advance(case, module, sequence[0])
    tries: list[tuple[Change, ...]] = []
    for site, call in calls:
        at = frozenset({site})
        tries += [tuple(c._replace(sites=at) for c in _same_kind(made))]
        tries += [tuple(solved) for solved in _solved(state, after_one, module, call, at)]

    def run() -> None:
        batch_stats.advance(case, case.torch_model(state), sequence[0])

    with applied(known.changes):
        single = list_suspects(run, [site for site, _ in calls])
    tries += [(change,) for change in single]
    for changes in tries:
        known_name = all(known.is_accepted(change.text) for change in changes)
        if changes and (budget.left or known_name) and _fits(known, wanted, changes):
            return list(changes)
    return []


def _same_kind(made: list[Change]) -> Iterator[Change]:
    seen: dict[str, Change] = {change.text: change for change in made}
    yield from seen.values()


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _fits(known: Known, wanted: Tensors, changes: tuple[Change, ...]) -> bool:
    with contextlib.suppress(*NOT_LEGAL), applied((*known.changes, *changes)):
        theirs = batch_stats.theirs(known.case)(known.state, known.batches[0])
        floats = [name for name in wanted if "num_batches" not in name]
        return all(
            name in theirs and relative_error(wanted[name], theirs[name]) <= known.same
            for name in floats
        )
    return False


def _after_one(case: Case, state: Tensors, inputs: Any) -> Tensors:
    """JAX's statistics after one batch."""
    leaf_map = case.pair.leaf_map
    step = case.compiled(lambda variables, inputs: case.apply(variables, inputs, train=True)[1])
    with precision(case.dtype):
        updated = step(case.variables(state), inputs)
        return leaf_map.to_torch(leaf_map.split(updated)[1], False)


def _solved(
    state: Tensors, found: Tensors, net: torch.nn.Module, call: Call, at: frozenset[Site]
) -> Iterator[list[Change]]:
    """Momentum and the variance's factor that JAX's statistics after one batch, `found`, say."""
    owner = next(iter(at)).module
    new_mean, new_var = found.get(f"{owner}.running_mean"), found.get(f"{owner}.running_var")
    given = call.given
    if new_mean is None or new_var is None or given["running_mean"] is None:
        return
    x = given["input"].double()
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean, var = x.mean(axes).numpy(), x.var(axes).numpy()
    count = x.numel() // x.shape[1]
    old_mean, old_var = (state[f"{owner}.running_{s}"].astype(np.float64) for s in ("mean", "var"))
    momentum = _coefficient(new_mean - old_mean, mean - old_mean)
    if momentum is None or given["momentum"] is None:
        return
    changes: list[Change] = []
    if abs(momentum - given["momentum"]) > 1e-6:
        value = float(f"{momentum:.6g}")
        cumulative = getattr(net.get_submodule(owner), "momentum", 0.0) is None
        told = "None, a cumulative average" if cumulative else f"{given['momentum']:g}"
        text = f"PyTorch's momentum would be {value:g} and not {told}"
        changes.append(Change(text, "batch_norm", at, make=lambda c: _momentum(c, value)))
    factor = _coefficient(new_var - (1 - momentum) * old_var, momentum * var)
    if factor is not None and abs(factor - (count - 1) / count) < 1e-6 and count > 1:
        changes.append(Change(BIASED, "batch_norm", at))
    if changes:
        yield changes


def _momentum(call: Call, value: float) -> Thunk | None:
    return call.with_(momentum=value) if call.given["training"] else None


def _coefficient(left: np.ndarray, right: np.ndarray) -> float | None:
    """The number that times `right` is `left`, if there is one."""
    power = float((right * right).sum())
    if not power:
        return None
    value = float((left * right).sum()) / power
    return value if relative_error(left, value * right) < 1e-5 else None
