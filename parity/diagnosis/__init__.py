"""Where two implementations part, and why.

That is the first module that departs, and the suspect that makes them agree again.

Everything is in float64, where correct twins agree to rounding. A suspect is tried on the PyTorch
side, by changing one call as it runs (`suspects`), and compared with what JAX computed.
"""

import contextlib
from collections.abc import Sequence

from parity.diagnosis import forward, gradients, init, inputs, loss, optimizer, statistics, training
from parity.diagnosis import precision as precision_
from parity.diagnosis.common import CANNOT_RUN
from parity.ladder.result import Diagnosis, Result
from parity.ladder.tolerance import EPS
from parity.pairs.pair import Batch, Case, Pair, Tensors, precision
from parity.pairs.taps import recording


def diagnose(
    failed: Result,
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    device: str = "cpu",
    *,
    jit: bool = True,
) -> Diagnosis:
    """Why the result `failed`, from the weights and batches that it was found with."""
    case = Case(pair, "float64", device, jit)
    if failed.detail.startswith(CANNOT_RUN):
        return _stopped(case, state, batches[0], failed.detail)
    if failed.dtype in EPS and failed.rung != "init":
        return precision_.find(pair, state, batches[0], device, jit, failed.dtype)
    if failed.rung == "init":
        return init.find(pair)
    if failed.rung == "loss":
        return loss.find(case, state, batches[0])
    if failed.rung == "optimizer":
        return optimizer.find(case, state)
    # What departs earlier on the ladder is the cause of what departs later.
    for part in (inputs, forward, gradients, statistics):
        found = part.find(case, state, batches[0])
        if found is not None:
            return found
    return training.find(case, state, batches)


def _stopped(case: Case, state: Tensors, batch: Batch, detail: str) -> Diagnosis:
    """Which module of the JAX model was the last to complete."""
    with precision(case.dtype), recording() as recorder:
        # Whatever stopped the rung stops this too.
        with contextlib.suppress(Exception):
            case.apply(case.variables(state), batch.images, train=False)
    last = [case.pair.names(name) for name in recorder.outputs][-1:]
    text = f"{detail}; the last module to complete: {last[0] if last else 'none'}"
    return Diagnosis(None, None, last[0] if last else None, None, None, text)
