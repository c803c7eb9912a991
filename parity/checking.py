"""The ladder on one pair: every rung in order, and a diagnosis of the first that fails."""

import dataclasses
from collections.abc import Iterator, Sequence

from jax_impl.errors import InputError, one_line
from parity.diagnosis import CANNOT_RUN, diagnose
from parity.ladder.numeric import climb
from parity.ladder.result import Comparison, Result, result
from parity.ladder.rungs import NUMERIC, init, inputs, trajectory
from parity.pairs.pair import Batch, Pair, Tensors, example_batch, shared_weights

RUNGS = ("data", "init", *NUMERIC, "trajectory")
"""Those of one pair. `trajectory` also gives `eval_after_training`."""


class NotTheSame(AssertionError):
    """The two implementations differ; the message says where and why, `results` has all."""

    def __init__(self, results: Sequence[Result]):
        self.results = results
        failed = [r for r in results if not r.passed]
        lines = [f"{failed[0].model}: {len(failed)} of {len(results)} parity checks failed"]
        for r in failed:
            lines.append(
                f"  {r.rung} {r.dtype}: {r.measured:.3g}, at most {r.tolerance:.3g} {r.unit} "
                f"({r.detail})"
            )
        lines += [f"  {r.diagnosis.text}" for r in failed if r.diagnosis is not None]
        super().__init__("\n".join(lines))


def check(
    pair: Pair,
    rungs: Sequence[str] = RUNGS,
    *,
    seed: int = 0,
    batches: Sequence[Batch] | None = None,
    steps: int = trajectory.STEPS,
    jit: bool = True,
    bfloat16: bool = False,
) -> list[Result]:
    """Climbs the ladder, or those of its rungs that are named, and returns what each found.

    Args:
        pair: the two implementations.
        rungs: names of `RUNGS`.
        seed: of the shared weights.
        batches: in place of one of the pair's `example_inputs`; trained on in turn.
        steps: of training, in the trajectory.
        jit: compile the JAX side; else it runs operation by operation.
        bfloat16: also with weights and inputs of both frameworks cast to bfloat16.

    Raises:
        NotTheSame: a rung failed; the first to fail comes with a diagnosis.
        InputError: no such rung, or a pair that cannot be compared.
    """
    found = list(
        climb_all(pair, rungs, seed=seed, batches=batches, steps=steps, jit=jit, bfloat16=bfloat16)
    )
    if not all(r.passed for r in found):
        raise NotTheSame(found)
    return found


def climb_all(
    pair: Pair,
    rungs: Sequence[str] = RUNGS,
    *,
    seed: int = 0,
    batches: Sequence[Batch] | None = None,
    steps: int = trajectory.STEPS,
    device: str = "cpu",
    jit: bool = True,
    stop: bool = False,
    bfloat16: bool = False,
) -> Iterator[Result]:
    """The results of the rungs in order; with `stop`, none after the first rung that fails."""
    unknown = [rung for rung in rungs if rung not in RUNGS]
    if unknown:
        raise InputError(f"no rung named {unknown[0]!r}: choose of {', '.join(RUNGS)}")
    state = shared_weights(pair, seed)
    batches = [example_batch(pair)] if batches is None else batches
    narrow = ("float32", "bfloat16") if bfloat16 else ("float32",)
    found = diagnosed = False
    for rung in RUNGS:
        if rung not in rungs:
            continue
        failed = False
        for r in _rung(rung, pair, state, batches, seed, steps, device, jit, narrow):
            if not r.passed and not diagnosed:
                why = diagnose(r, pair, state, batches, device, jit=jit)
                r = dataclasses.replace(r, diagnosis=why)
                diagnosed = True
            failed = failed or not r.passed
            found = True
            yield r
        if failed and stop:
            return
    if not found:
        raise InputError(
            f"{pair.name}: there is nothing to compare by {', '.join(rungs) or 'no rung'}"
        )


def _rung(
    rung: str,
    pair: Pair,
    state: Tensors,
    batches: Sequence[Batch],
    seed: int,
    steps: int,
    device: str,
    jit: bool,
    narrow: Sequence[str],
) -> list[Result]:
    """One rung's results; a failure of its own where the JAX model cannot be run."""
    try:
        if rung == "data":
            return [inputs.run(pair, batches[0], device)]
        if rung == "init":
            return [r for r in [init.run(pair, seed)] if r is not None]
        if rung == "trajectory":
            run = trajectory.run(pair, state, batches, device=device, steps=steps, jit=jit)
            return list(run)
        return climb(rung, pair, state, batches, device, jit=jit, narrow=narrow)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        detail = CANNOT_RUN + one_line(error)
        comparison = Comparison(False, float("inf"), 0.0, "relative error", detail)
        return [result(pair.name, rung, "float64", comparison)]
