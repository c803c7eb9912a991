"""Which training is whose to do: an Optuna study, of which many machines may do a part.

Optuna's GridSampler gives one point to several workers at once, as its documentation says. So each
training of a grid waits in Optuna's queue, from which it is taken once.
"""

import contextlib
import dataclasses
import fcntl
import os
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from parity.shell.files import cannot_write, unlocked
from parity.study.database import (
    WORKER_NAME,
    WORKERS,
    alone,
    connected,
    telling,
)
from parity.study.description import Training, check_same
from parity.study.study_json import DATABASE

ABOUT, RATES = "about", "rates"
"""Of the Optuna study: what it is a study of, and how fast its nets are."""
WORKER, RESULT, REASON, LABEL = "worker", "result", "reason", "label"
"""Of a trial: who does it, what it came to, why it failed, and which training it is."""
TRAINING, NET = "training", "net"
"""The one parameter of a grid, a training's label, and that of a search, a net's name."""
GIVEN_UP = optuna.exceptions.UpdateFinishedTrialError, ValueError
"""What Optuna says of a trial that somebody gave up in the meantime, as of a machine that slept."""


class Trials:
    """The trainings of a study, as its database has them, and this process as a worker of it.

    Args:
        folder: of the study.
        storage: a database's address, as SQLAlchemy takes it; None is a file in the folder.
        name: of the study.
        about: what it is a study of, by name; it must be what the database says, if it has it.
        sampler: suggests what is searched for; None where all trainings are known.
        pruner: says which of those are given up.

    Raises:
        InputError: the database cannot be used, or is of another study.
    """

    def __init__(
        self,
        folder: Path,
        storage: str | None,
        name: str,
        about: dict[str, Any],
        sampler: Any = None,
        pruner: Any = None,
    ):
        self._workers = folder / WORKERS
        self._failed: set[str] = set()
        file = None if storage else folder / DATABASE
        with telling(storage, file), alone(folder):
            self._storage = connected(storage, file)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=sampler,
                pruner=pruner or optuna.pruners.NopPruner(),
            )
            before = self._study.user_attrs.get(ABOUT)
            if before is None:
                self._study.set_user_attr(ABOUT, about)
        if before is not None:
            check_same(folder, about, before)
        self.worker = uuid.uuid4().hex
        try:
            self._workers.mkdir(exist_ok=True)
            self._lock = _locked(self._workers / self.worker)
        except OSError as error:
            raise cannot_write(self._workers, error) from error

    def close(self) -> None:
        """This process is no worker any more."""
        (self._workers / self.worker).unlink(missing_ok=True)
        os.close(self._lock)
        with contextlib.suppress(Exception):
            self._storage.remove_session()
            self._storage.engine.dispose()

    def all(self) -> list[FrozenTrial]:
        """Every trial there ever was."""
        return self._study.get_trials(deepcopy=False)

    def results(self) -> dict[str, dict[str, Any]]:
        """What the trainings came to that are over, by label; each once."""
        found: dict[str, dict[str, Any]] = {}
        for trial in self.all():
            if (
                trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
                and RESULT in trial.user_attrs
            ):
                result = trial.user_attrs[RESULT]
                found.setdefault(result["label"], result)
        return found

    def failures(self) -> dict[str, str]:
        """Why trainings failed that are not over, by label."""
        over = self.results()
        found = {label_of(t): t.user_attrs[REASON] for t in self.all() if REASON in t.user_attrs}
        return {label: why for label, why in found.items() if label not in over}

    def rates(self) -> dict[tuple[str, str, int], float]:
        """What `note_rates` was told, by any worker."""
        told = self._study.user_attrs.get(RATES, [])
        return {(framework, block, batch): rate for framework, block, batch, rate in told}

    def note_rates(self, rates: Mapping[tuple[str, str, int], float]) -> None:
        """FLOPs a second by kind, so that nobody measures them again."""
        self._study.set_user_attr(RATES, [[*kind, rate] for kind, rate in rates.items()])

    def running(self) -> list[str]:
        """Labels of what is being trained, by this worker or others."""
        return [label_of(t) for t in self.all() if t.state is TrialState.RUNNING]

    def add(self, results: Sequence[dict[str, Any]]) -> None:
        """Trainings that are over, from elsewhere; those that are there already are left alone."""
        there = self.results()
        for result in results:
            if result["label"] not in there:
                self._study.add_trial(
                    optuna.trial.create_trial(
                        state=TrialState.COMPLETE,
                        value=value_of(result),
                        user_attrs={RESULT: result},
                    )
                )

    def claim(self, labels: Sequence[str]) -> tuple[str, optuna.Trial] | None:
        """One of these trainings that is nobody's yet; None if there is none left.

        What a worker had that has ended since is anybody's again.
        """
        self._abandon()
        wanted = [label for label in labels if label not in self._failed]
        over = {*self.results()}
        held = [label_of(t) for t in self.all() if not t.state.is_finished()]
        for label in wanted:
            if label not in over and label not in held:
                self._study.enqueue_trial({TRAINING: label})
        queue = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        place = {label: i for i, label in enumerate(wanted)}  # what was begun before comes first
        for waiting in sorted(queue, key=lambda t: place.get(label_of(t), len(place))):
            label = label_of(waiting)
            if label not in place or not self._took(waiting):
                continue
            trial = optuna.Trial(self._study, waiting._trial_id)
            others = [label_of(t) for t in self.all() if t.state is TrialState.RUNNING]
            if others.count(label) > 1 or label in self.results():
                self.leave(trial)  # two workers put it into the queue at once
                continue
            self._take(trial)
            return label, trial
        return None

    def search(self, nets: Sequence[Training], most: int) -> tuple[Training, optuna.Trial] | None:
        """A training that the sampler suggests, or one that was begun and is nobody's; else None.

        Args:
            nets: what there is to choose from; of one that was chosen before, the seed is the next.
            most: trainings in all.
        """
        self._abandon()
        for trial in self.all():
            label = trial.user_attrs.get(LABEL)
            if label and trial.state is TrialState.FAIL and self._lost(label):
                self._study.enqueue_trial(trial.params, {LABEL: label})
        begun = {label_of(t) for t in self.all() if not t.state.is_finished()} | {*self.results()}
        by_name = {net.stem: net for net in nets}
        with warnings.catch_warnings():  # the signs of life are given by `alive`
            warnings.simplefilter("ignore", UserWarning)
            trial = self._study.ask()
        found = by_name[trial.suggest_categorical(NET, [*by_name])]
        again = trial.user_attrs.get(LABEL)
        while found.label != again and found.label in begun | self._failed:
            found = dataclasses.replace(found, seed=found.seed + 1)
        if again is None and len((begun | self._failed) - {""}) >= most:
            self.leave(trial)
            return None
        self._take(trial)
        trial.set_user_attr(LABEL, found.label)
        return found, trial

    def _lost(self, label: str) -> bool:
        """Whether a training was begun that is not over, did not fail here, and is nobody's."""
        held = [label_of(t) for t in self.all() if not t.state.is_finished()]
        return label not in self.results() and label not in self._failed and label not in held

    def _took(self, waiting: FrozenTrial) -> bool:
        """Whether a waiting trial became this worker's: of several workers one gets it."""
        number = waiting._trial_id
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            # Named before: one that is killed right behind the next line is known by its name.
            self._storage.set_trial_user_attr(number, WORKER, self.worker)
            return self._storage.set_trial_state_values(number, TrialState.RUNNING)
        return False

    def _take(self, trial: optuna.Trial) -> None:
        trial.set_user_attr(WORKER, self.worker)
        self.alive(trial)

    def alive(self, trial: optuna.Trial) -> None:
        """A sign of life."""
        self._storage.record_heartbeat(trial._trial_id)

    def finish(self, trial: optuna.Trial, result: dict[str, Any], pruned: bool = False) -> None:
        """A training is over; `result` has its `label`."""
        try:
            trial.set_user_attr(RESULT, result)
            if pruned:
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, value_of(result))
        except GIVEN_UP:
            self.add([result])

    def fail(self, trial: optuna.Trial, label: str, reason: str) -> None:
        """A training could not be done; it is not tried again by this worker."""
        self._failed.add(label)
        with contextlib.suppress(*GIVEN_UP):
            trial.set_user_attr(REASON, reason)
            self._study.tell(trial, state=TrialState.FAIL)

    def leave(self, trial: optuna.Trial) -> None:
        """A training is not done now: it is anybody's."""
        with contextlib.suppress(*GIVEN_UP):
            self._study.tell(trial, state=TrialState.FAIL)

    def _abandon(self) -> None:
        """Lets go of what workers had that are no more: of this folder at once, others in time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(WORKER)
            place = self._workers / str(worker)
            if worker == self.worker or not place.exists() or not unlocked(place):
                continue
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        held = {t.user_attrs.get(WORKER) for t in self.all() if t.state is TrialState.RUNNING}
        for place in self._workers.iterdir():
            if not WORKER_NAME.fullmatch(place.name):
                continue
            if place.name not in held and place.name != self.worker and unlocked(place):
                place.unlink(missing_ok=True)


def label_of(trial: FrozenTrial) -> str:
    """Of the training that a trial is."""
    told = trial.user_attrs
    fixed = trial.system_attrs.get("fixed_params", {})
    return told.get(RESULT, {}).get("label") or told.get(LABEL) or fixed.get(TRAINING, "")


def value_of(result: dict[str, Any]) -> float:
    """The accuracy that is the larger the better, in [0, 1]; 0 where none was measured."""
    return float(result["held_out_accuracy"] or 0.0)


def _locked(path: Path) -> int:
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle
