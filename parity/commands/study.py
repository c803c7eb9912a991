"""`parity study`: many trainings that answer a question. Imports no framework."""

import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jax_impl.errors import InputError, listed, shown
from jax_impl.models.registry import MOST
from parity.shell import data_choice
from parity.shell.chosen import AT_ONCE
from parity.shell.console import Console
from parity.shell.files import cannot_write, check_place
from parity.shell.study_options import StudyOptions
from parity.study import report
from parity.study.studies import STUDIES
from parity.study.study_json import DATABASE
from parity.study.training import Place

if TYPE_CHECKING:
    from parity.study.session import Asked

MOST_WORKERS = 64
MOST_SEEDS = 10_000


def run(options: StudyOptions) -> int:
    """Trains, and writes the study's folder; 1 if a training could not be done.

    Raises:
        InputError: options or a folder that cannot be used.
        KeyboardInterrupt: it was stopped; all that is over is kept.
    """
    _check(options)
    from parity.study import session  # it needs Optuna, which was looked for

    console = Console()
    choice = data_choice.resolve(options.data, options.data_dir, console.line)
    console.paragraph(choice.reason)
    folder = options.out or Path("runs") / f"study-{options.name}"
    _check_folder(folder, options)
    asked = _asked(options, folder, choice.name)
    if options.dry_run:
        results = {result["label"]: result for result in session.kept(asked, options)}
        session.tell_plan(asked, options, results, console)
        return 0
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        return session.do(asked, options, console)
    except InputError:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # not if anything is in it
        raise


def _check(options: StudyOptions) -> None:
    for name, most in (("seeds", MOST_SEEDS), ("epochs", MOST), ("workers", MOST_WORKERS),
                       ("at_once", AT_ONCE), ("search", MOST)):  # fmt: skip
        value = getattr(options, name)
        if value is not None and not 1 <= value <= most:
            raise InputError(f"--{name.replace('_', '-')} is {value}: give 1 to {most}")
    if options.minutes is not None and not 0 < options.minutes < MOST:
        raise InputError(f"--minutes is {options.minutes}: give a number above 0")
    if options.search is not None and not STUDIES[options.name].axes:
        raise InputError(f"--search: {options.name} has no axes to search; leave it out")
    for name in ("seeds", "only"):
        if options.search is not None and getattr(options, name):
            raise InputError(f"--{name}: a search chooses its trainings; leave it out")
    if options.search is not None and options.at_once > 1:
        raise InputError("--at-once: a search gives up single trainings; leave it out")
    if options.search is not None and options.framework == "both":
        raise InputError("--framework both: a search is in one of them; give jax or torch")
    if not importlib.util.find_spec("optuna"):
        raise InputError("`parity study` needs Optuna: pip install 'jax-torch-parity[study]'")
    if options.storage is not None:
        _check_storage(options.storage)


def _check_storage(storage: str) -> None:
    from sqlalchemy.engine import make_url  # Optuna's own
    from sqlalchemy.exc import ArgumentError

    from parity.study.database import without_password

    try:
        make_url(storage)
    except (ArgumentError, ValueError) as error:
        given = shown(without_password(storage), 200)
        raise InputError(
            f"--storage {given}: no address of a database; give one as SQLAlchemy takes it, as "
            "sqlite:////folder/study.db or postgresql://host/name"
        ) from error


def _check_folder(folder: Path, options: StudyOptions) -> None:
    """Raises InputError for a folder that holds something else than this study."""
    from parity.study.database import WORKER_NAME, WORKERS

    if not folder.exists() and not folder.is_symlink():
        check_place(folder)
        return
    if not folder.is_dir():
        what = "a file" if folder.exists() else "a link to nothing"
        raise InputError(f"{folder} is {what}: give a folder")
    study = any((folder / name).exists() for name in (DATABASE, report.JSON))
    workers = [path.name for path in (folder / WORKERS).glob("*")]
    study |= (folder / WORKERS).is_dir() and all(map(WORKER_NAME.fullmatch, workers))
    if not study and any(folder.iterdir()):
        raise InputError(f"{folder} holds no study, and is not empty: pass another --out")


def _asked(options: StudyOptions, folder: Path, data: Any) -> "Asked":
    from parity.study.session import Asked

    study = STUDIES[options.name]
    frameworks: dict[str | None, Any] = {
        None: None, "jax": ("jax",), "torch": ("torch",), "both": ("jax", "torch"),
    }  # fmt: skip
    trainings = study.trainings(frameworks[options.framework], options.seeds)
    if any(training.framework == "torch" for training in trainings):
        if not importlib.util.find_spec("torch"):
            raise InputError("PyTorch is not installed: pip install 'jax-torch-parity[torch]'")
    if options.only and not any(training.chosen(options.only) for training in trainings):
        names = listed(sorted({training.group for training in trainings}), 40)
        given = " ".join(options.only)
        raise InputError(f"--only {given}: of no training's name; there are {names}")
    place = Place(folder, data, options.data_dir, options.epochs)
    return Asked(study, () if options.search else trainings, place)
