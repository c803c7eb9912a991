"""Where two implementations part, and why: every fault that shows, and what follows from it.

Everything is in float64, where correct twins agree to rounding. A suspect is tried on the PyTorch
side, by changing calls as they run (`suspects`), and compared with what JAX computed.
"""

import contextlib
import dataclasses

from parity.diagnosis import (
    conditioning,
    forward,
    gradients,
    init,
    inputs,
    loss,
    optimizer,
    statistics,
    training,
)
from parity.diagnosis import precision as precision_
from parity.diagnosis.common import CANNOT_RUN, Known, said
from parity.diagnosis.sites import applied
from parity.ladder.result import Diagnosis, Fault, Result
from parity.ladder.rungs import NUMERIC
from parity.ladder.tolerance import EPS, relative_error, scales_of
from parity.pairs.case import precision
from parity.pairs.taps import recording

__all__ = ["CANNOT_RUN", "Known", "diagnose"]

TRAINING = "trajectory", "eval_after_training"


def diagnose(failed: Result, known: Known) -> Diagnosis:
    """Why the result `failed`; an error of the diagnosis itself is told and harms nothing."""
    try:
        why = _diagnosed(failed, known)
    except (Exception, SystemExit) as error:
        why = said(None)
        text = f"{failed.detail}. The diagnosis stopped: {type(error).__name__}: {error}"
        return dataclasses.replace(why, text=text)
    if why.module is not None and not why.faults:
        fault = Fault(why.module, why.cause, why.error, (why.module,))
        why = dataclasses.replace(why, faults=(fault,))
    if why.text.startswith("nothing departs"):
        text = f"no module departs by itself; {failed.detail}"
        why = dataclasses.replace(why, text=text)
    return why


def _diagnosed(failed: Result, known: Known) -> Diagnosis:
    if failed.detail.startswith(CANNOT_RUN):
        return _stopped(known, failed.detail)
    if failed.rung == "init":
        return init.find(known.pair)
    follows = _follows(failed, known)
    if follows is not None:
        return follows
    if failed.dtype not in EPS or not known.in_float64:
        return _in_float64(failed, known)
    if "float64" not in known.dtypes:  # what fails there too has not been told
        why = _in_float64(failed, known)
        if not why.text.startswith("nothing departs"):
            return why
    return precision_.find(known, failed)


def _in_float64(failed: Result, known: Known) -> Diagnosis:
    """What departs where both compute in float64, or in float32 where JAX's model does not."""
    if failed.rung == "optimizer":
        why = optimizer.find(known.case, known.state)
        if why.module is not None:
            known.optimizer = why.cause or "no usual fault makes the two agree"
        return why
    if failed.rung == "loss":
        return loss.find(known.case, known.state, known.batches[0])
    found = inputs.find(known.case, known.state, known.batches[0])
    if found is not None:
        return found
    if failed.rung in TRAINING:
        found = training.follows(known, failed.rung)
        if found is not None:
            return found
    # What departs earlier on the ladder is the cause of what departs later.
    behind: Diagnosis | None = None
    for part in (forward, gradients, statistics):
        if part is not statistics and known.unexplained is not None:
            behind = behind or known.unexplained
        else:
            found = part.find(known)
            # Statistics may depart by themselves behind what no suspect explains.
            if found is not None and (part is statistics or known.unexplained is None):
                return found
            behind = behind or found
        if behind is not None and failed.rung != "batch_stats":
            return behind
    if behind is None and known.strict and known.inside is not None and failed.rung in NUMERIC:
        return said(known.inside.module, cause=f"it {known.inside.what}", what="a tensor")
    return behind or training.find(known, failed.rung)


def _follows(failed: Result, known: Known) -> Diagnosis | None:
    """Whether the failure is one that was found before, in float64 or on an earlier rung.

    That is where PyTorch departs in float64 and agrees once it makes the changes found before; and
    a narrower precision fails as float64 does.
    """
    again = failed.dtype in EPS and known.in_float64
    if failed.rung not in NUMERIC or (not known.changes and not again):
        return None
    rung, case = NUMERIC[failed.rung], known.case
    with precision(case.dtype):
        ours = rung.ours(case)(known.state, known.batches[0])

    def agrees() -> bool:
        theirs = rung.theirs(case)(known.state, known.batches[0])
        first, second = rung.matched(case, ours, theirs, [])
        scales = scales_of(first, second, known.same)
        errors = {n: relative_error(first[n], second[n], scales[n]) for n in second}
        return not conditioning.departing(known, failed.rung, errors)

    if agrees():
        return None
    with applied(known.changes):
        if known.changes and agrees():
            return known.follows()
    if not again or "float64" not in known.dtypes:
        return None
    text, told = "it fails as in float64", known.optimizer
    if failed.rung != "optimizer" or told is None or precision_.is_noisy(known, failed):
        return Diagnosis(None, None, None, None, None, text, follows=True)
    faults = (Fault("the optimizer", told, failed.measured, ("the optimizer",)),)
    return Diagnosis("the optimizer", failed.measured, None, None, told, text, faults, True)


def _stopped(known: Known, detail: str) -> Diagnosis:
    """Which module of the JAX model was the last to complete."""
    case = known.case
    names = case.pair.names_by_weights
    with precision(case.dtype), recording(names=names) as recorder:
        # Whatever stopped the rung stops this too.
        with contextlib.suppress(Exception):
            case.apply(case.variables(known.state), known.batches[0].inputs, train=False)
    last = [case.pair.names(name) for name in recorder.outputs][-1:]
    text = f"{detail}; the last module to complete: {last[0] if last else 'none'}"
    return Diagnosis(None, None, last[0] if last else None, None, None, text)
