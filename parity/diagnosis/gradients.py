"""Gradients that depart where the outputs agree: which call's backward pass, and why."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity.diagnosis import conditioning, forced, loss
from parity.diagnosis.common import OUTPUTS, SECONDS, Known, owner_of, said
from parity.diagnosis.forced import Forcing
from parity.diagnosis.forward import NOT_LEGAL
from parity.diagnosis.search import Budget, everywhere, list_suspects
from parity.diagnosis.sites import Change, applied
from parity.ladder.result import Diagnosis, Fault
from parity.ladder.rungs import forward, gradients
from parity.ladder.tolerance import relative_error, scales_of
from parity.pairs.case import Case, precision
from parity.pairs.leafmap import COPY
from parity.pairs.pair import Batch, Tensors
from parity.pairs.trees import filled, leaves

OUTSIDE = "the loss"


def find(known: Known) -> Diagnosis | None:
    """The gradients' diagnosis; None where they agree."""
    case, state, batch = known.case, known.state, known.batches[0]
    outside = loss.gradient_cause(case, state, batch)
    if outside is not None:
        return outside
    with precision(case.dtype):
        ours = gradients.ours(case)(state, batch)
    with applied(known.changes):
        theirs = gradients.theirs(case)(state, batch)
        ours, theirs = gradients.matched(case, ours, theirs, [])
        scales = scales_of(ours, theirs, known.same)
        errors = {n: relative_error(ours[n], theirs[n], scales[n]) for n in theirs}
        departing = conditioning.departing(known, "gradients", errors)
        if not departing:
            return None
        search = _Search(known, case, state, batch, ours, scales)
        order = search.order()

        def place(name: str) -> int:
            if name.startswith(gradients.INPUTS):
                return -1
            return order.get(owner_of(name.partition(COPY)[0]), -1)

        first = max(departing, key=place)  # the backward pass begins at the end
        name = gradients.INPUTS if first.startswith(gradients.INPUTS) else owner_of(first)
        dead = _dead(known, ours, theirs, departing, place)
        faults = _tied(known, ours, theirs, errors) or _decayed(known, ours, theirs, departing)
        faults = faults or (dead if len(departing) == 1 else []) or search.faults(departing, name)
        faults = faults or dead
    after = [name for name in errors if name not in departing and place(name) > place(first)]
    before = min(after, key=place) if after else None
    for fault in faults:
        known.add(fault, search.changes.get(fault, ()))
    return said(
        name,
        errors[first],
        before,
        errors[before] if before else None,
        faults[0].cause if faults else None,
        what=f"gradient by {first}, that",
        faults=faults,
    )


def _tied(known: Known, ours: Tensors, theirs: Tensors, errors: dict[str, float]) -> list[Fault]:
    """A weight of PyTorch's that is two of JAX's: the gradients by them add up to PyTorch's."""
    found = []
    for name in known.pair.leaf_map.copies:
        parts = [n for n in ours if n.partition(COPY)[0] == name]
        total = sum((ours[n] for n in parts), np.zeros(theirs[name].shape))
        apart = any(not errors[n] <= known.same for n in parts)
        if apart and relative_error(total, theirs[name]) <= known.same:
            other = [alias for alias, first in known.pair.aliases.items() if first == name]
            names = " and ".join([name, *other])
            cause = f"{names} are one weight in PyTorch, tied, and {len(parts)} untied ones in JAX"
            places = tuple(dict.fromkeys(owner_of(n) for n in (name, *other)))
            found.append(Fault(owner_of(name), cause, errors[parts[0]], places))
    return found


def _decayed(known: Known, ours: Tensors, theirs: Tensors, departing: Sequence[str]) -> list[Fault]:
    """The weights times a number are added to their gradients."""
    if not all(name in known.state for name in departing):
        return []
    decay = [_ratio(ours[n] - theirs[n], known.state[n].astype(np.float64)) for n in departing]
    fits = all(
        relative_error(ours[n], theirs[n] + d * known.state[n]) <= known.same
        for n, d in zip(departing, decay, strict=True)
    )
    if not (fits and decay[0] and max(decay) - min(decay) < 1e-6 * abs(decay[0])):
        return []
    cause = f"{decay[0]:.3g} times the weights is added to their gradients: a weight decay"
    return [Fault(OUTSIDE, cause, None, tuple(dict.fromkeys(map(owner_of, departing))))]


def _dead(
    known: Known, ours: Tensors, theirs: Tensors, departing: Sequence[str], place: Any
) -> list[Fault]:
    """What one side does not train at all."""
    parameters = [n for n in departing if n.partition(COPY)[0] in known.pair.parameters]
    untrained = [n for n in parameters if not np.any(ours[n])]
    alone = [n for n in parameters if not np.any(theirs[n])]
    for names, side in ((untrained, "JAX"), (alone, "PyTorch")):
        if names and set(names) == set(parameters):
            listed = ", ".join(sorted(names, key=place, reverse=True)[:4])
            more = ", ..." if len(names) > 4 else ""
            it = "it is" if len(names) == 1 else "they are"
            cause = f"no gradient reaches {listed}{more} in {side}: {it} not trained"
            places = tuple(dict.fromkeys(map(owner_of, names)))
            return [Fault(owner_of(max(names, key=place)), cause, None, places)]
    return []


def _ratio(a: np.ndarray, b: np.ndarray) -> float:
    """The factor that best makes b into a."""
    power = float((b * b).sum())
    return float((a * b).sum()) / power if power else 0.0


class _Search:
    """Backward passes with JAX's values and cotangents in the place of every named module's."""

    def __init__(
        self,
        known: Known,
        case: Case,
        state: Tensors,
        batch: Batch,
        ours: Tensors,
        scales: dict[str, float],
    ):
        self.known, self.case, self.state, self.batch = known, case, state, batch
        self.ours, self.scales = ours, scales
        self.inputs, self.labels = case.torch_batch(batch)
        self.changes: dict[Fault, tuple[Change, ...]] = {}
        mode = "train" if case.pair.trains else "eval"
        with precision(case.dtype):
            raw = forward.ours(case)(state, batch)
            back = _cotangents(case, state, batch)
        theirs = forward.theirs(case)(state, batch)
        ways = forward.layouts(case, raw, theirs)
        values = {name: way(raw[name]) for name, way in ways.items()}
        same = {n: v for n, v in values.items() if relative_error(v, theirs[n]) <= known.same}
        found = dict(forced.in_mode(same, mode))
        # A cotangent has the layout of its value.
        self.cotangents = {n: ways[f"{n} in {mode} mode"](back[n]) for n in found if n in back}
        self.targets = {name: found[name] for name in self.cotangents}

    def order(self) -> dict[str, int]:
        """The modules' places in the order of completion."""
        module = self.case.torch_model(self.state)
        with torch.no_grad():
            listed = [n for n, _ in forward.module_outputs(self.case, module, self.inputs)]
        return {name: number for number, name in enumerate(listed)}

    def errors(self, changes: tuple[Change, ...] = (), force: bool = True) -> dict[str, float]:
        """Of every gradient by a parameter, the inputs and a named module's output."""
        module = self.case.torch_model(self.state)
        inputs = self.case.torch_batch(self.batch)[0]
        targets = self.targets if force else {}
        forcing = Forcing(targets, self.cotangents)
        named: dict[str, torch.Tensor] = {
            n: p for n, p in module.named_parameters() if p.requires_grad
        }
        for path, leaf in leaves(inputs).items():
            if gradients.input_name(path) in self.ours:
                named[gradients.input_name(path)] = leaf.requires_grad_()
        with applied(changes):
            outputs = forced.run(self.case, module, inputs, forcing)
        value = self.case.torch_loss(outputs, self.labels)
        found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
        errors = {}
        for (name, value), grad in zip(named.items(), found, strict=True):
            if name in self.ours:
                made = np.zeros(tuple(value.shape)) if grad is None else grad.cpu().numpy()
                errors[name] = relative_error(self.ours[name], made, self.scales[name])
        if force:
            for name, cotangent in self.cotangents.items():
                made = forcing.arrived.get(name, np.zeros(cotangent.shape))
                errors[f"the output of {name}"] = relative_error(made, cotangent)
        return errors

    def faults(self, departing: Sequence[str], name: str) -> list[Fault]:
        """The backward suspects that together make every gradient agree, or most of them."""
        budget, same = Budget(SECONDS), self.known.same
        force = not any(COPY in name for name in departing) and bool(self.targets)
        base = {n: e for n, e in self.errors((), force).items() if not e <= same}
        if not base:
            force = False
            base = {n: e for n, e in self.errors((), force).items() if not e <= same}

        def run() -> Any:
            return self.case.torch_call(self.case.torch_model(self.state), self.inputs)

        listed = [*list_suspects(run, None, backward=True), *list_suspects(run, None)]
        order = list(dict.fromkeys(site for change in listed for site in change.sites or ()))
        nearest = {site: -number for number, site in enumerate(order)}
        listed.sort(key=lambda change: min(nearest[site] for site in change.sites or ()))
        groups = everywhere(listed)
        listed.sort(key=lambda change: "is stopped" not in change.text)
        made: tuple[Change, ...] = ()
        faults: list[Fault] = []
        left = set(base)
        while left and budget.left:
            best: tuple[int, Change, set[str]] | None = None
            for change in [*groups, *listed]:
                if not budget.left:
                    break
                try:
                    errors = self.errors((*made, change), force)
                except NOT_LEGAL:
                    continue
                still = {n for n, e in errors.items() if not e <= same}
                if still - left or len(still) >= len(left):
                    continue
                if best is None or len(still) < best[0]:
                    best = len(still), change, still
                if not still:
                    break
            if best is None or not self.keeps_outputs((*made, best[1])):
                break
            _, change, left = best
            sites = sorted(change.sites or ())
            places = tuple(dict.fromkeys(site.module or OUTPUTS for site in sites))
            places = tuple(dict.fromkeys((name, *places))) if not faults else places
            fault = Fault(places[0], change.text, max(base.values()), places)
            faults.append(fault)
            self.changes[fault] = (change,)
            made = (*made, change)
        return faults

    def keeps_outputs(self, changes: tuple[Change, ...]) -> bool:
        """Whether PyTorch's outputs stay what they are."""
        theirs = forward.theirs(self.case)(self.state, self.batch)
        with applied(changes):
            again = forward.theirs(self.case)(self.state, self.batch)
        return all(
            relative_error(again[name], theirs[name]) <= self.known.same
            for name in theirs
            if name.startswith(forward.OUTPUTS)
        )


def _cotangents(case: Case, state: Tensors, batch: Batch) -> Tensors:
    """JAX's gradient of the loss by every named module's output and by the outputs."""
    trainable, others = case.pair.leaf_map.split(case.variables(state))
    made = case.jax_inputs(batch.inputs)
    variables = case.pair.leaf_map.join(trainable, others)
    train = case.pair.trains

    def record(variables: Any) -> Any:
        return case.recorded(variables, made, train)[2]

    back = case.pair.names
    shapes = jax.eval_shape(record, variables)
    zeros = {n: jnp.zeros(s.shape, s.dtype) for n, s in shapes.items() if _is_float(s)}

    def of_the_loss(perturbations: Any) -> Any:
        named = _Renamed(perturbations, back)
        outputs, _, _ = case.recorded(variables, made, train, named)
        return case.pair.loss.jax(outputs, batch.labels)

    found = {name: np.asarray(v) for name, v in case.compiled(jax.grad(of_the_loss))(zeros).items()}
    outputs = case.call(variables, made, train)[0]
    floats = {path: leaf for path, leaf in leaves(outputs).items() if _is_float(leaf)}
    by_outputs = jax.grad(lambda values: case.pair.loss.jax(filled(outputs, values), batch.labels))
    return found | {forward.output_name(p): np.asarray(v) for p, v in by_outputs(floats).items()}


class _Renamed:
    """Perturbations under PyTorch's names, found by JAX's."""

    def __init__(self, held: dict[str, jax.Array], names: Any):
        self._held, self._names = held, names

    def __contains__(self, name: str) -> bool:
        return self._names(name) in self._held

    def __getitem__(self, name: str) -> jax.Array:
        return self._held[self._names(name)]


def _is_float(shape: Any) -> bool:
    return bool(jnp.issubdtype(shape.dtype, jnp.floating))
