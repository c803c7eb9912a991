"""A study that is done: planned, trained, told while it runs, and written. Imports no framework."""

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError

from jax_impl.errors import InputError, listed, one_line
from jax_impl.models.registry import MOST
from parity.shell.console import Console, in_words
from parity.shell.provenance import provenance
from parity.shell.saving import quoted, stop_requests
from parity.shell.study_options import StudyOptions
from parity.study import cost, report, worker
from parity.study.database import without_password
from parity.study.description import Study, Training, check_same
from parity.study.groups import grouped
from parity.study.judge import answers
from parity.study.measures import evaluated, extra
from parity.study.study_json import read_study
from parity.study.training import Place
from parity.study.trials import Trials

PLACES = ("minutes", "only", "out", "storage", "data_dir", "workers", "at_once")
"""The options that say where and when it is done, and not what."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the options come to.

    Args:
        study: which.
        trainings: all of it; of a search none.
        place: where and on what.
    """

    study: Study
    trainings: tuple[Training, ...]
    place: Place

    def about(self, options: StudyOptions) -> dict[str, Any]:
        """What must be the same when it is gone on with."""
        return {
            "study": self.study.name,
            "data": self.place.data,
            "epochs": options.epochs or "the recipes'",
            "kind": "search" if options.search else "grid",
        }


def kept(asked: Asked, options: StudyOptions) -> list[dict[str, Any]]:
    """The trainings of the folder's study.json. Raises InputError for another study's."""
    path = asked.place.folder / report.JSON
    if not path.exists():
        return []
    told = read_study(path)
    check_same(path, asked.about(options), told)
    return told["trainings"]


def tell_plan(
    asked: Asked,
    options: StudyOptions,
    results: Mapping[str, Any],
    console: Console,
    timed: Mapping[cost.Kind, float] = MappingProxyType({}),
) -> dict[cost.Kind, float]:
    """Says how many trainings there are, and how long they take.

    Args:
        asked: what is to be trained.
        options: of the command.
        results: what is over, by label.
        console: is told.
        timed: FLOPs a second that were measured before.

    Returns:
        The same of all kinds.
    """
    if options.search is not None:
        console.line(f"study {asked.study.name}: a search of {options.search} trainings")
        return {}
    left = cost.remaining(asked.trainings, results, options.only)
    known = {**timed, **cost.rates({t.label: t for t in asked.trainings}, results)}
    for kind, training in cost.cheapest(left).items():
        if kind not in known:
            console.line(f"timing a training of {training.model} in {training.framework} on digits")
            if (rate := cost.probe(training)) is None:
                break
            known[kind] = rate
    each = cost.seconds(left, known, asked.place.data, options.epochs)
    over = sum(training.label in results for training in asked.trainings)
    console.line(
        f"study {asked.study.name}: {len(asked.trainings)} trainings, {over} of them over; "
        f"{len(left)} to do now, {in_words(each)} one after the other"
    )
    return known


def do(asked: Asked, options: StudyOptions, console: Console) -> int:
    """`done`, of which an interrupt at any time says how it is gone on with."""
    try:
        return done(asked, options, console)
    except KeyboardInterrupt as stop:
        said = "; ".join(map(str, stop.args))
        if "go on by" in said:
            raise
        said = f"{said}; " if said else ""
        raise KeyboardInterrupt(f"{said}go on by: {_command(options)}") from None


def done(asked: Asked, options: StudyOptions, console: Console) -> int:
    """Trains what is left, and writes the folder; 1 if a training could not be done.

    Raises:
        InputError: the database or what is in the folder cannot be used.
        KeyboardInterrupt: it was asked to stop, and has; it says how to go on.
    """
    study, place = asked.study, asked.place
    sampler, pruner = _searching() if options.search else (None, None)
    about = asked.about(options)
    trials = Trials(place.folder, options.storage, study.name, about, sampler, pruner)
    try:
        trials.add(kept(asked, options))
        known = tell_plan(asked, options, trials.results(), console, trials.rates())
        trials.note_rates(known)
        work = worker.Work(
            trials,
            place,
            _claim(asked, options, trials),
            lambda training: extra(study, training, place),
            options.workers,
            options.at_once,
            time.monotonic() + 60 * (options.minutes or MOST),
            options.search is not None,
        )
        known_labels = {*(training.label for training in asked.trainings), *trials.results()}
        total = max(options.search or 0, len(known_labels))
        show_all = _Shown(asked, options, trials, known, console)
        with stop_requests() as stop:
            with console.bar("beginning", total) as show:
                worker.do(work, stop, lambda active: show_all(active, show))
                show_all([], show, at_once=True)
        told = _told(asked, options, trials)
        groups = grouped(told["trainings"], [case.group for case in study.cases])
        if not stop:
            told["evaluated"] = evaluated(study, groups, place)
        written = report.write_all(place.folder, study, told) if told["trainings"] else []
        for sentence in answers(study, told["trainings"]):
            console.line(sentence)
        for label, why in told["failed"].items():
            console.line(f"FAILED: {label}: {why}")
        over = trials.results()
        extent = f"{len(over)} of {total} trainings are over"
        left = cost.remaining(asked.trainings, over, options.only)
        if written:
            console.line(f"written: {place.folder}/{', '.join(written)}")
        if stop:
            raise KeyboardInterrupt(f"{stop[0]}{extent}; go on by: {_command(options)}")
        if others := trials.running():
            extent += f", and other workers do {listed(others)}"
        more = left or (options.search or 0) > len(over)
        console.line(f"{extent}; go on by: {_command(options)}" if more else extent)
        return 1 if told["failed"] else 0
    except StorageInternalError as error:
        why = one_line(error.__cause__ or error, 200)
        raise InputError(
            f"the study's database cannot be used any more: {why}; {place.folder} keeps what is "
            f"over; go on by: {_command(options)}"
        ) from error
    finally:
        trials.close()


class _Shown:
    """What a person sees while it runs, and study.json, which is written after each training."""

    def __init__(
        self,
        asked: Asked,
        options: StudyOptions,
        trials: Trials,
        known: Mapping[cost.Kind, float],
        console: Console,
    ):
        self._asked, self._options, self._trials = asked, options, trials
        self._known, self._console = known, console
        self._over = {*trials.results()}
        self._failed = {*trials.failures()}
        self._looked = 0.0

    def __call__(
        self, active: Sequence[Any], show: Callable[..., None], at_once: bool = False
    ) -> None:
        """Also what other workers have done since."""
        if not at_once and time.monotonic() - self._looked < 1:
            return
        self._looked = time.monotonic()
        results, failed = self._trials.results(), self._trials.failures()
        for label in sorted({*failed} - self._failed):
            self._console.line(f"FAILED: {label}: {failed[label]}")
        for label in [label for label in results if label not in self._over]:
            self._console.line(_line(results[label]))
        if {*results} != self._over:
            told = _told(self._asked, self._options, self._trials)
            report.write_json(self._asked.place.folder, told)
        self._over, self._failed = {*results}, {*failed}
        names = (
            " and ".join(t.label for one in active for t, _ in one.claimed) or "finding the next"
        )
        show(len(results), f"{names}{self._left(results)}")

    def _left(self, results: Mapping[str, Any]) -> str:
        left = cost.remaining(self._asked.trainings, results, self._options.only)
        known = cost.rates({t.label: t for t in self._asked.trainings}, results)
        known = {**self._known, **known}
        seconds = cost.seconds(left, known, self._asked.place.data, self._options.epochs)
        return f"; {in_words(seconds)} left" if left and seconds is not None else ""


def _line(result: Mapping[str, Any]) -> str:
    """What is printed of a training that is over."""
    accuracy, test = result["held_out_accuracy"], result["test_accuracy"]
    text = f"{result['label']}:"
    if result["stopped"]:
        return f"{text} stopped at a loss that is no number"
    if result.get("given_up"):
        return f"{text} given up, {result['held_out']} {100 * (accuracy or 0):.2f} %"
    text += f" {result['held_out']} {100 * accuracy:.2f} %" if accuracy is not None else ""
    text += f", test {100 * test:.2f} %" if result["held_out"] != "test" and test else ""
    return f"{text}, {result['seconds'] or 0:.0f} s"


def _claim(asked: Asked, options: StudyOptions, trials: Trials) -> Callable[[str | None], Any]:
    """What gives the next training, or that of a label, with its trial; None if there is none."""
    if (most := options.search) is not None:
        framework: Any = options.framework or "jax"

        nets = [dataclasses.replace(case, framework=framework) for case in asked.study.cases]
        return lambda label: trials.search(nets, most)
    by_label = {training.label: training for training in asked.trainings}
    labels = [label for label in by_label if by_label[label].chosen(options.only)]

    def claim(label: str | None) -> Any:
        wanted = labels if label is None else [label] if label in labels else []
        found = trials.claim(wanted) if wanted else None
        return None if found is None else (by_label[found[0]], found[1])

    return claim


def _searching() -> tuple[Any, Any]:
    """Optuna's sampler and pruner of a search."""
    return (
        optuna.samplers.TPESampler(),
        optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )


def _told(asked: Asked, options: StudyOptions, trials: Trials) -> dict[str, Any]:
    """What study.json holds."""
    results = trials.results()
    written_by = provenance(("optuna", "scipy", "matplotlib"))
    del written_by["command"]  # with places of this machine
    order = {training.label: i for i, training in enumerate(asked.trainings)}
    labels = sorted(results, key=lambda label: (order.get(label, len(order)), label))
    return {
        **asked.about(options),
        "question": asked.study.question,
        "planned": max(options.search or 0, len({*order, *results})),
        "command": _command(options, places=False),
        "written_by": written_by,
        "failed": trials.failures(),
        "trainings": [results[label] for label in labels],
    }


def _command(options: StudyOptions, places: bool = True) -> str:
    """What goes on with it."""
    parts = [f"parity study {options.name}"]
    for field in dataclasses.fields(options):
        name, value = field.name, getattr(options, field.name)
        option = f"--{name.replace('_', '-')}"
        if name in ("name", "dry_run") or value == field.default or value is None:
            continue
        if not places and name in PLACES:
            continue
        if name == "storage":
            value = without_password(value)
        if isinstance(value, Path):
            parts.append(f"{option} {quoted(value)}")
            continue
        words = value if isinstance(value, tuple) else (value,)
        text = " ".join(shlex.quote(str(word)) for word in words)
        parts.append(f"{option}={text}" if text.startswith("-") else f"{option} {text}")
    return " ".join(parts)
