"""The trainings of a study, done: one after the other, or several at once. Imports no framework."""

import contextlib
import dataclasses
import math
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from jax_impl.errors import InputError
from parity.study import training as trained
from parity.study.description import Training
from parity.study.training import Place
from parity.study.trials import HEARTBEAT, Trials

PACE = 0.5
"""Seconds from one look at the trainings to the next."""


@dataclasses.dataclass
class Active:
    """A training that is being done."""

    training: Training
    trial: optuna.Trial
    child: subprocess.Popen[bytes]
    seen: int = 0
    alive: float = 0.0
    pruned: bool = False


@dataclasses.dataclass(frozen=True)
class Work:
    """What a worker does, and how.

    Args:
        trials: of the study.
        place: where they run.
        claim: gives the next training, with its trial.
        extra: what else is measured of a training that is over.
        at_once: trainings at a time.
        until: of the monotonic clock: none is begun after that.
        prune: give up a training of which the pruner thinks nothing.
    """

    trials: Trials
    place: Place
    claim: Callable[[], tuple[Training, optuna.Trial] | None]
    extra: Callable[[Training], Mapping[str, Any]]
    at_once: int = 1
    until: float = math.inf
    prune: bool = False


def do(work: Work, asked: Sequence[str], show: Callable[[Sequence[Active]], None]) -> None:
    """Does what can be claimed, until nothing is left, or it is asked to stop.

    Args:
        work: what, and how.
        asked: is not empty any more once it is to stop; then what runs is saved, and ends.
        show: is told what is being trained.
    """
    active: list[Active] = []
    stopping = False
    try:
        while True:
            while not (asked or time.monotonic() >= work.until) and len(active) < work.at_once:
                if (found := work.claim()) is None:
                    break
                training, trial = found
                if trained.over(training, work.place):  # killed before that was told
                    _settle(work, training, trial, 0)
                    show(active)
                    continue
                active.append(Active(training, trial, trained.begin(training, work.place)))
            if asked and not stopping:
                stopping = True
                for one in active:
                    trained.end(one.child)
            if not active:
                return
            show(active)
            time.sleep(PACE)
            active = [one for one in active if _watched(work, one, stopping)]
    except BaseException:
        for one in active:
            trained.end(one.child)
        for one in active:
            one.child.wait()
            with contextlib.suppress(Exception):  # the database may be what failed
                work.trials.leave(one.trial)
        raise


def _watched(work: Work, one: Active, stopping: bool) -> bool:
    """Whether it goes on."""
    if (status := one.child.poll()) is not None:
        _settle(work, one.training, one.trial, status, stopping, one.pruned)
        return False
    if time.monotonic() - one.alive > HEARTBEAT:
        work.trials.alive(one.trial)
        one.alive = time.monotonic()
    if work.prune and not one.pruned and (found := trained.told(one.training, work.place)):
        for epoch, accuracy in enumerate(found.accuracies[one.seen :], one.seen + 1):
            one.trial.report(accuracy, epoch)
            one.seen = epoch
        if one.seen and one.trial.should_prune():
            one.pruned = True
            trained.end(one.child)
    return True


def _settle(
    work: Work,
    training: Training,
    trial: optuna.Trial,
    status: int,
    stopping: bool = False,
    pruned: bool = False,
) -> None:
    """Notes what a training came to, whose process ended with `status`."""
    trials, place = work.trials, work.place
    over = trained.over(training, place)
    if pruned or over:
        try:
            result = trained.result(training, place)
        except InputError as error:
            trials.fail(trial, training.label, str(error))
            return
        given_up = pruned and not over
        result |= {"given_up": given_up, **work.extra(training)}
        trials.finish(trial, result, given_up)
        trained.clear(training, place)
    elif stopping:
        trials.leave(trial)
    else:
        trials.fail(trial, training.label, trained.reason(training, place, status))
