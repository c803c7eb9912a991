"""A loss that departs, by its value or by its gradient."""

from typing import Any

import numpy as np
import torch

from parity.diagnosis.common import SAME, said
from parity.diagnosis.losses.backward import stopped
from parity.diagnosis.losses.narrow import TOLERANCE, computed_in, partly
from parity.diagnosis.losses.search import explain
from parity.diagnosis.losses.trials import Question, probes
from parity.ladder.result import Diagnosis
from parity.ladder.rungs import loss
from parity.ladder.rungs.fixed import Structure, jax_labels, structure_of, to_jax, torch_paths
from parity.ladder.tolerance import relative_error
from parity.pairs.case import Case, precision
from parity.pairs.pair import Batch, Tensors, to_numpy
from parity.pairs.trees import filled, leaves

OVERFLOWS = (
    "exp overflows: the largest output is not subtracted first, or a logarithm of what rounds to "
    "zero is taken"
)


def find(case: Case, state: Tensors, batch: Batch) -> Diagnosis:
    """Which loss departs, and why."""
    with precision(case.dtype):
        ours = loss.ours(case)(state, batch)
    theirs = loss.theirs(case)(state, batch)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    departing = [name for name, error in errors.items() if not error <= SAME]
    if not departing:
        return said(None)
    first = departing[0]
    kind, _, scale = first.partition(", outputs times ")
    if scale != "1" and not np.isfinite(ours[first]).all():
        cause = OVERFLOWS
    else:
        with precision(case.dtype):
            cause = _Sides(case, state, batch, kind, float(scale)).cause()
    return said("the loss", errors[first], cause=cause, what=kind)


def gradient_cause(case: Case, state: Tensors, batch: Batch) -> Diagnosis | None:
    """Why the gradient of the loss by the outputs departs; None where it does not.

    Where the loss itself departs, that is the cause.
    """
    our_side, their_side = loss.output_gradients(case)
    with precision(case.dtype):
        ours = our_side(state, batch)
    theirs = their_side(state, batch)
    errors = [relative_error(ours[path], theirs[path]) for path in theirs if path in ours]
    if all(error <= SAME for error in errors):
        return None
    with precision(case.dtype):
        sides = _Sides(case, state, batch, "mean", 1.0)
        value, reference = sides.ours(sides.outputs), sides.theirs(sides.outputs)
        cause = sides.cause() if relative_error(value, reference) > SAME else None
    if cause is None:
        cause = stopped(
            case.pair.loss.torch, sides.outputs, sides.torch_labels, sides.examples, ours
        )
    text = f"the gradient of the loss by the outputs departs, relative error {max(errors):.1e}. "
    text += f"Cause: {cause}." if cause else "No usual suspect makes the two agree."
    return Diagnosis("the loss", max(errors), None, None, cause, text)


class _Sides:
    """Both frameworks' loss of one kind as functions of outputs in PyTorch's structure."""

    def __init__(self, case: Case, state: Tensors, batch: Batch, kind: str, scale: float):
        self.case = case
        self.our_loss, self.their_loss = loss.variants(case)[kind]
        self.unwidened = case.pair.loss.torch if kind == "mean" else self.their_loss
        self.structure: Structure = structure_of(case)(state, batch)
        self.compiled = case.compiled(loss.of_values(self.our_loss, self.structure))
        self.jax_labels, self.torch_labels = (
            jax_labels(case, batch),
            case.torch_labels(batch.labels),
        )
        self.outputs = dict(loss.scaled(case, state, batch))[scale]
        self.examples = _examples(self.outputs)

    def ours(self, outputs: Any, labels: Any = None) -> np.ndarray:
        """JAX's loss."""
        given = to_jax(self.case, self.structure, outputs)
        return np.asarray(self.compiled(given, self.jax_labels if labels is None else labels))

    def theirs(self, outputs: Any) -> np.ndarray:
        """PyTorch's loss."""
        with torch.no_grad():
            return to_numpy(self.their_loss(loss.cloned(outputs), self.torch_labels))

    def cause(self) -> str | None:
        """Why the two differ."""
        value, reference = self.ours(self.outputs), self.theirs(self.outputs)
        if value.shape != reference.shape:
            return f"JAX's loss has the shape {value.shape}, PyTorch's {reference.shape}" + (
                ": it is left for each example" if value.shape[:1] == (self.examples,) else ""
            )
        if not np.isfinite(value).all():
            return self._not_finite()
        fixed = probes(self.outputs, self.examples)
        values = [self.ours(outputs) for outputs in fixed]
        if len({value.tobytes() for value in values}) == 1:
            return "JAX's loss does not depend on the outputs"
        narrow, tolerance = None, SAME
        if self.case.dtype == "float64":
            narrow = computed_in(self.ours, self.theirs, self.outputs)
        if narrow is not None:
            tolerance = TOLERANCE[narrow]
            text = f"the loss is computed in {narrow}"
            pairs = zip(values, fixed, strict=True)
            if all(relative_error(v, self.theirs(outputs)) <= tolerance for v, outputs in pairs):
                return text
            if narrow != "float32":
                return f"{text}, and departs by more than that"
        values = [value.astype(np.float64) for value in values]
        question = Question(
            self.unwidened,
            fixed,
            values,
            self.torch_labels,
            self.examples,
            tolerance,
        )
        cause = explain(question)
        if cause is None and narrow is None and partly(self.ours, self.theirs, self.outputs):
            return "some of the loss is computed in float32"
        return f"{cause}; and it is computed in {narrow}" if cause and narrow else cause

    def _not_finite(self) -> str | None:
        """Outputs that PyTorch's model does not have, or ignored labels taken as classes."""
        paths = torch_paths(self.structure, self.outputs)
        missing = [path for path in self.structure.shapes if path not in paths]
        if missing:
            return f"JAX's loss takes {', '.join(missing)}, which PyTorch's outputs do not have"
        tensors = [x for x in leaves(self.outputs).values() if torch.is_tensor(x) and x.ndim > 1]
        classes = min((x.shape[1] for x in tensors), default=0)
        for path, labels in leaves(self.jax_labels).items():
            values = np.asarray(labels)
            outside = (values < 0) | (values >= classes)
            if values.dtype.kind == "i" and outside.any():
                inside = filled(self.jax_labels, {path: labels * ~outside})
                if np.isfinite(self.ours(self.outputs, inside)).all():
                    which = ", ".join(str(v) for v in np.unique(values[outside])[:3])
                    return f"the labels {which}, which PyTorch ignores, are taken as classes"
        return None


def _examples(outputs: Any) -> int:
    """The length of the first axis of the outputs."""
    tensors = [x for x in leaves(outputs).values() if torch.is_tensor(x) and x.ndim]
    return len(tensors[0]) if tensors else 1
