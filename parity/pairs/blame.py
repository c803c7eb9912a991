"""Errors of a user's own code, as one line with the user's own file and line."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from jax_impl.errors import InputError, one_line

_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(str(_ROOT / name) for name in ("parity", "jax_impl", "torch_ref"))


@contextlib.contextmanager
def of_the_user(pair: str, what: str) -> Iterator[None]:
    """Any error inside becomes an InputError: "PAIR: WHAT failed: ... (file.py:12, in f)"."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{pair}: {what} failed: {told(error)}") from error


def told(error: BaseException) -> str:
    """The error's type and message, and where in the user's code it arose."""
    place = where(error)
    text = f"{type(error).__name__}: {one_line(error)}"
    return f"{text} ({place})" if place else text


def where(error: BaseException) -> str | None:
    """The innermost line outside of this package and of installed ones; None if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        name = frame.filename
        installed = "site-packages" in name or "dist-packages" in name or name.startswith("<")
        library = "/lib/python" in name
        if not (installed or library or name.startswith(_OURS)):
            return f"{name}:{frame.lineno}, in {frame.name}"
    return None
