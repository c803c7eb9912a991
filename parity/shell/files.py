"""JSON that every reader takes, and files that appear complete or not at all."""

import contextlib
import ctypes
import fcntl
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError, shown
from jax_impl.models.registry import Spec

FORMAT_KEY = "format_version"
"""In the metadata of the files of weights that are written here."""


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text; null stands for infinity and NaN, which JSON does not have."""
    return json.dumps(_finite(value), indent=indent, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def weights_metadata(spec: Spec) -> dict[str, str]:
    """What other tools need to know of a file of weights."""
    return {
        "format": "pt",
        FORMAT_KEY: "1",
        "model": str(spec),
        "num_classes": str(spec.options.num_classes),
    }


def write_whole(path: Path, content: bytes) -> None:
    """Writes under a temporary name and renames.

    Raises:
        InputError: it cannot be written; what was there before is still there.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)  # mkstemp makes it private
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):  # an interrupt may come after the renaming
                os.unlink(temporary)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def whole_directory(directory: Path) -> Iterator[Path]:
    """A folder to fill that becomes `directory` at the end, and is removed if that is not reached.

    Args:
        directory: does not exist, or is empty.

    Raises:
        InputError: it cannot be written.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            yield staging
            os.chmod(staging, 0o755)  # mkdtemp makes it private
            staging.rename(directory)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise cannot_write(directory, error) from error


def exchange(one: Path, other: Path) -> bool:
    """Two names change places in one step; False where the system or the disk has no such step."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2  # Linux with a C library of 2018
    except (OSError, AttributeError):
        return False
    here, exchanging = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchanging) == 0


def remove(folder: Path, seconds: float = 0.0) -> None:
    """Removes a folder into which a library's threads may write for so many `seconds` yet."""
    until = time.monotonic() + seconds
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() >= until:
            return
        time.sleep(0.05)


def unlocked(path: Path) -> bool:
    """Whether no process holds a file's or a folder's lock; also where it is not, or has none."""
    try:  # a file of a network's disk is locked for writing alone
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    finally:
        os.close(handle)
    return True


def default_out(prefix: str) -> Path:
    """A folder under runs/ of which no other process that runs here has the name."""
    return Path("runs") / f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def check_new(directory: Path) -> None:
    """Raises InputError if `directory` exists, or cannot be made: told before a long run."""
    if directory.exists() or directory.is_symlink():
        raise InputError(f"{directory} exists: pass another --out, or remove it")
    check_place(directory)


def check_place(directory: Path) -> None:
    """Raises InputError if no file could be written into `directory`, made with its parents."""
    there = next(
        path for path in (directory.absolute(), *directory.absolute().parents) if path.exists()
    )
    if not there.is_dir():
        raise InputError(f"cannot write {directory}: {there} is a file; pass another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {directory}: no permission in {there}; pass another --out")
    try:  # some places refuse whoever may write, as those of the system's own
        os.rmdir(tempfile.mkdtemp(prefix=".parity-", dir=there))
    except OSError as error:
        raise InputError(f"{cannot_write(directory, error)}; pass another --out") from error


def check_picture(path: Path) -> None:
    """Raises InputError if a new picture would replace something, or could not be written."""
    if os.path.lexists(path):
        raise InputError(f"{shown(str(path))} exists: pass another --plot, or remove it")
    try:
        check_place(path.parent)
    except InputError as error:
        raise InputError(str(error).replace("--out", "--plot")) from error
    except OSError as error:
        raise cannot_write(path, error) from error


def make_place(path: Path) -> None:
    """Makes the folder that a new file is to lie in. Raises InputError where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> InputError:
    """The error for the user: which file, and why."""
    return InputError(f"cannot write {path}: {error.strerror or error}")
