"""The database of a study: where it is, and how it is opened. Imports Optuna."""

import contextlib
import fcntl
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from sqlalchemy.pool import QueuePool

from jax_impl.errors import InputError, one_line, shown
from parity.shell.files import cannot_write

WORKERS, WORKER_NAME = "workers", re.compile("[0-9a-f]{32}")
"""The folder beside it, with a file for each process that does a part of the study."""
PASSWORD = re.compile("(://[^:/@]*):[^@]*@")
TRIES = 3
"""To make a database that others make too."""
PATIENCE = 60
"""Seconds for which another process may have a database's file."""
HEARTBEAT = 30
"""Seconds; a worker of another machine that gives no sign for `GRACE` of them is given up."""
GRACE = 600


def without_password(text: str) -> str:
    """A text that names a database's address, for a person."""
    return PASSWORD.sub(r"\1:***@", text)


def connected(storage: str | None, file: Path | None) -> optuna.storages.RDBStorage:
    """The database at an address or in a file, made where there is none yet.

    One that could not be made leaves no `file`.
    """
    arguments: dict[str, Any] = {}
    if file is not None:  # not by its address, in which `?`, `%` and braces say something else
        connect = partial(sqlite3.connect, file, timeout=PATIENCE, check_same_thread=False)
        arguments = {"creator": connect, "poolclass": QueuePool}
    elif storage is not None and storage.startswith("sqlite:"):
        arguments = {"connect_args": {"timeout": PATIENCE}}
    open_it = partial(
        optuna.storages.RDBStorage,
        storage or "sqlite://",
        arguments,
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
    )
    new = file is not None and not file.exists()
    for _ in range(TRIES - 1):
        try:
            return open_it()
        except Exception as error:
            if new and file is not None:
                file.unlink(missing_ok=True)
            # Another machine makes the tables at the same moment.
            if not any(word in str(error).lower() for word in ("already exists", "unique")):
                raise
            time.sleep(1)
    return open_it()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time, of those that begin in a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def telling(storage: str | None, file: Path | None) -> Iterator[None]:
    """What a database says of itself, as one line; Optuna's own lines are left out."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of Optuna, SQLAlchemy, or a database's own driver
            wrapped = [getattr(of, "orig", None) for of in (error, error.__cause__)]
            said = next((own for own in wrapped if own), error)  # without SQLAlchemy's statement
            why = without_password(one_line(said, 200))
            where = shown(without_password(storage or str(file)), 200)
            advice = "pass another --storage" if storage else "pass another --out"
            if file is not None and file.exists():
                advice = f"remove it, and what study.json has is kept, or {advice}"
            raise InputError(
                f"cannot use {where} as a study's database: {why}; {advice}"
            ) from error
