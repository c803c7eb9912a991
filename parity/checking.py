"""The ladder on one pair: every rung in order, and a diagnosis of each that fails."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jax_impl.errors import InputError, one_line, shown
from parity.diagnosis import CANNOT_RUN, Known, diagnose
from parity.ladder.numeric import climb
from parity.ladder.result import Comparison, Result, nothing, result
from parity.ladder.rungs import NUMERIC, init, inputs, points, trajectory
from parity.pairs.blame import told
from parity.pairs.examples import prepared, shared_weights
from parity.pairs.pair import MODES, Batch, Pair, Tensors
from parity.pairs.preflight import check_parameters, preflight
from parity.pairs.trees import rows

RUNGS = ("data", "init", *NUMERIC, "trajectory")
"""Those of one pair. `trajectory` also gives `eval_after_training`."""

DTYPES = "float64", "float32", "bfloat16"


NO_FLOAT64 = "the JAX model does not run in float64, and is not compared there"


class NotTheSame(AssertionError):
    """The two implementations differ; the message says where and why, `results` has all."""

    def __init__(self, results: Sequence[Result]):
        self.results = results
        failed = [r for r in results if r.passed is False]
        count = sum(r.passed is not None for r in results)
        lines = [f"{failed[0].model}: {len(failed)} of {count} parity checks failed"]
        for r in failed:
            lines.append(
                f"  {r.rung} {r.dtype}: {r.measured:.3g}, at most {r.tolerance:.3g} {r.unit} "
                f"({r.detail})"
            )
        told = (f"  {r.rung} {r.dtype}: {r.diagnosis.text}" for r in failed if r.diagnosis)
        lines += dict.fromkeys(told)
        super().__init__("\n".join(lines))


def check(
    pair: Pair,
    rungs: Sequence[str] = RUNGS,
    *,
    seed: int = 0,
    batches: Sequence[Batch] | None = None,
    steps: int = trajectory.STEPS,
    jit: bool = True,
    dtypes: Sequence[str] | None = None,
    accept: Sequence[str] = (),
    strict_float64: bool = False,
) -> list[Result]:
    """Climbs the ladder, or those of its rungs that are named, and returns what each found.

    Args:
        pair: the two implementations.
        rungs: names of `RUNGS`.
        seed: of the shared weights.
        batches: in place of one of the pair's `example_inputs`; trained on in turn.
        steps: of training, in the trajectory.
        jit: compile the JAX side; else it runs operation by operation.
        dtypes: of `DTYPES`, in place of the pair's own.
        accept: departures that are as they should be, by name, beside the pair's own.
        strict_float64: that a module computes in float32 inside of the float64 run is a failure.

    Raises:
        NotTheSame: a rung failed; each that fails comes with a diagnosis.
        InputError: no such rung, or a pair that cannot be compared.
    """
    __tracebackhide__ = True  # pytest shows the test's line and the message, and nothing of this
    climbed = climb_all(
        pair,
        rungs,
        seed=seed,
        batches=batches,
        steps=steps,
        jit=jit,
        dtypes=dtypes,
        accept=accept,
        strict_float64=strict_float64,
    )
    try:
        found = list(climbed)
    except InputError as error:  # its message has all: the place in the user's file, too
        raise error.with_traceback(None) from None
    if any(r.passed is False for r in found):
        raise NotTheSame(found)
    return found


@dataclasses.dataclass(frozen=True)
class _Climb:
    """What every rung of one pair is given."""

    pair: Pair
    state: Tensors
    batches: Sequence[Batch]
    seed: int
    steps: int
    device: str
    jit: bool
    narrow: tuple[str, ...]
    wide: bool
    strict: bool
    no_float64: str | None
    no_loss: str | None


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
    dtypes: Sequence[str] | None = None,
    accept: Sequence[str] = (),
    strict_float64: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Result]:
    """The results of the rungs in order; with `stop`, none after the first rung that fails.

    `tell` is told what is done next.
    """
    if not isinstance(pair, Pair):
        way = "call it" if inspect.isfunction(pair) else "give a parity.Pair"
        raise InputError(f"the pair is {one_line(ValueError(repr(pair)), 60)}: {way}")
    pair = dataclasses.replace(
        pair,
        modes=_names(pair.modes, "modes"),
        dtypes=_names(pair.dtypes if dtypes is None else dtypes, "dtypes"),
        accept=(*_names(pair.accept, "accept"), *_names(accept, "accept")),
    )
    chosen, rungs = pair.dtypes, _names(rungs, "rungs")
    _check_names(rungs, RUNGS, "rung")
    _check_names(chosen, DTYPES, "precision")
    _check_names(pair.modes, MODES, "mode")
    if not chosen or not pair.modes:
        raise InputError(f"{pair.name}: give at least one of dtypes and of modes")
    for name in pair.accept:
        if not set(name.lower().split()) - COMMON_WORDS:
            raise InputError(f"{pair.name}: accept={name!r} would accept anything: say more words")
    if not (pair.name.isprintable() and pair.name.strip()):
        raise InputError(f"a pair is named {pair.name!r}: give it a name that can be printed")
    if not _is_whole(steps) or steps < 1:
        raise InputError(f"{pair.name}: steps is {steps!r}: give a whole number of 1 or more")
    if not _is_whole(seed) or not 0 <= seed < 2**32:
        raise InputError(f"{pair.name}: seed is {seed!r}: give 0 to 2^32 - 1")
    if batches is not None:
        batches = _batches(batches, pair.name)
    check_parameters(pair)
    if batches is None:
        pair, examples = prepared(pair)
        batches = [examples]
    if not batches or not all(rows(batch.inputs) for batch in batches):
        raise InputError(f"{pair.name}: there is no example in batches or in example_inputs")
    tell(f"{pair.name}: the two models are run once")
    with_loss = bool({"loss", "gradients", "trajectory"} & set(rungs))
    no_float64, no_loss = preflight(pair, batches[0], device, jit=jit, with_loss=with_loss)
    state = shared_weights(pair, seed)
    narrow = tuple(d for d in chosen if d != "float64")
    wide = "float64" in chosen and no_float64 is None
    held = _Climb(
        pair=pair,
        state=state,
        batches=batches,
        seed=seed,
        steps=steps,
        device=device,
        jit=jit,
        narrow=narrow,
        wide=wide,
        strict=strict_float64,
        no_float64=no_float64,
        no_loss=no_loss,
    )
    known = Known(
        pair, state, batches, device, jit, pair.accept, chosen, no_float64 is None, strict_float64
    )
    found = False
    climbed = [rung for rung in RUNGS if rung in rungs]
    for rung in climbed:
        failed = False
        tell(f"{pair.name}: {rung}, compiling and comparing")
        for r in _explained(rung, held, known, last=rung == climbed[-1]):
            failed = failed or r.passed is False
            found = True
            yield r
        if failed and stop:
            return
    if not found:
        raise InputError(
            f"{pair.name}: there is nothing to compare by {', '.join(rungs) or 'no rung'}"
        )


COMMON_WORDS = {"a", "an", "and", "as", "at", "by", "in", "is", "it", "not", "of", "the", "to"}
"""No cause is accepted by these alone."""


def _names(given: str | Sequence[str], what: str) -> tuple[str, ...]:
    """One name, or several."""
    found = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else (*given,)
    for name in found:
        if not isinstance(name, str):
            raise InputError(f"{what} has {shown(repr(name))}: give names, each a text")
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _batches(given: Any, name: str) -> list[Batch]:
    found = [*given] if isinstance(given, Iterable) else [given]
    for batch in found:
        if not isinstance(batch, Batch):
            kind = type(batch).__name__
            raise InputError(f"{name}: batches has a {kind}: give a list of parity.Batch")
    return found


def _check_names(names: Sequence[str], known: Sequence[str], what: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"no {what} named {unknown[0]!r}: choose of {', '.join(known)}")


def _explained(rung: str, held: _Climb, known: Known, last: bool) -> list[Result]:
    """One rung's results, each failure with its diagnosis.

    Where a departure that is found is an accepted one, PyTorch's side makes it too from then on,
    and the rung is climbed again: the rest of it still counts.
    """
    made: list[Result] = []
    for _ in range(5):
        with known.in_force():
            results = _rung(rung, held)
            made.clear()
            for r in results:
                if r.passed is False:
                    r = dataclasses.replace(r, diagnosis=diagnose(r, known))
                    r = known.accepted_whole(r)
                made.append(r)
        if not known.accept_more():
            break
    notes = known.accepted_notes
    if held.no_float64 is not None and rung in NUMERIC:
        notes = (*notes, f"{NO_FLOAT64}: {held.no_float64}")
    unused = [name for name in held.pair.accept if name not in known.used]
    if last and unused:
        notes = (*notes, f"accepted in vain, for no cause has these words: {', '.join(unused)}")
    return [dataclasses.replace(r, remarks=(*r.remarks, *notes)) for r in made]


def _rung(rung: str, held: _Climb) -> list[Result]:
    """One rung's results; a failure of its own where the JAX model cannot be run."""
    pair, state, batches, device = held.pair, held.state, held.batches, held.device
    if held.no_loss and rung in ("loss", "gradients", "trajectory"):
        dtype = "float64" if held.wide or not held.narrow else held.narrow[0]
        return [result(pair.name, rung, dtype, nothing("relative error", held.no_loss))]
    try:
        if rung == "data":
            return [inputs.run(pair, batches[0], device)]
        if rung == "init":
            return [r for r in [init.run(pair, held.seed)] if r is not None]
        if rung == "trajectory":
            if held.narrow == ("bfloat16",) and not held.wide and held.no_float64 is None:
                why = "training is compared in float64 and float32 alone"
                return [result(pair.name, rung, "bfloat16", nothing(points.UNIT, why))]
            run = trajectory.run(
                pair,
                state,
                batches,
                device=device,
                steps=held.steps,
                jit=held.jit,
                narrow="float32" in held.narrow,
                strict=held.strict,
                dtype="float64" if held.wide else "float32",
            )
            return list(run)
        found = climb(
            rung,
            pair,
            state,
            batches,
            device,
            jit=held.jit,
            narrow=held.narrow,
            strict=held.strict,
            runs_in_float64=held.no_float64 is None,
        )
        return [r for r in found if held.wide or r.dtype != "float64"]
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        # Of the user's model, loss, optimizer or step, which fail in any way.
        detail = CANNOT_RUN + told(error)
        comparison = Comparison(False, float("inf"), 0.0, "relative error", detail)
        return [result(pair.name, rung, "float64", comparison)]
