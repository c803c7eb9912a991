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
from parity.study.database import HEARTBEAT
from parity.study.description import Training
from parity.study.training import Place
from parity.study.trials import Trials

PACE = 0.5
"""Seconds from one look at the trainings to the next."""


Claimed = tuple[Training, optuna.Trial]


@dataclasses.dataclass
class Active:
    """A process that trains: one training, or the next seeds of it at once."""

    claimed: list[Claimed]
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
        claim: gives the next training, with its trial, or one of a label.
        extra: what else is measured of a training that is over.
        workers: processes at a time.
        at_once: seeds of a training that one process trains, in JAX.
        until: of the monotonic clock: none is begun after that.
        prune: give up a training of which the pruner thinks nothing.
    """

    trials: Trials
    place: Place
    claim: Callable[[str | None], Claimed | None]
    extra: Callable[[Training], Mapping[str, Any]]
    workers: int = 1
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
            while not (asked or time.monotonic() >= work.until) and len(active) < work.workers:
                if (found := work.claim(None)) is None:
                    break
                if trained.over(found[0], work.place):  # killed before that was told
                    _settle(work, [found], 0)
                    show(active)
                    continue
                claimed = [found, *_beside(work, found[0])]
                try:
                    child = trained.begin([training for training, _ in claimed], work.place)
                except InputError as error:
                    for training, trial in claimed:
                        work.trials.fail(trial, training.label, str(error))
                    continue
                active.append(Active(claimed, child))
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
                for _, trial in one.claimed:
                    work.trials.leave(trial)
        raise


def _beside(work: Work, training: Training) -> list[Claimed]:
    """The next seeds of a training, as far as they are nobody's and not begun."""
    found: list[Claimed] = []
    if training.framework != "jax" or trained.begun(training, work.place):
        return found  # one that goes on from its checkpoint does so alone
    for seed in range(training.seed + 1, training.seed + work.at_once):
        following = dataclasses.replace(training, seed=seed)
        if trained.begun(following, work.place) or not (other := work.claim(following.label)):
            break
        found.append(other)
    return found


def _watched(work: Work, one: Active, stopping: bool) -> bool:
    """Whether it goes on."""
    if (status := one.child.poll()) is not None:
        _settle(work, one.claimed, status, stopping, one.pruned)
        return False
    if time.monotonic() - one.alive > HEARTBEAT:
        for _, trial in one.claimed:
            work.trials.alive(trial)
        one.alive = time.monotonic()
    training, trial = one.claimed[0]
    if work.prune and not one.pruned and (found := trained.told(training, work.place)):
        for epoch, accuracy in enumerate(found.accuracies[one.seen :], one.seen + 1):
            trial.report(accuracy, epoch)
            one.seen = epoch
        if one.seen and trial.should_prune():
            one.pruned = True
            trained.end(one.child)
    return True


def _settle(
    work: Work,
    claimed: Sequence[Claimed],
    status: int,
    stopping: bool = False,
    pruned: bool = False,
) -> None:
    """Notes what trainings came to, whose process ended with `status`."""
    trials, place, first = work.trials, work.place, claimed[0][0]
    for training, trial in claimed:
        over = trained.over(training, place)
        if pruned or over:
            try:
                result = trained.result(training, place)
            except InputError as error:
                trials.fail(trial, training.label, str(error))
                continue
            given_up = pruned and not over
            result |= {"given_up": given_up, **work.extra(training)}
            trials.finish(trial, result, given_up)
            trained.clear(training, place)
        elif stopping:
            trials.leave(trial)
        else:
            trials.fail(trial, training.label, trained.reason(first, place, status))
