"""Work that writes files, looked at, failed and interrupted at each of its steps in turn.

    PYTHONPATH=.:tests python -m hostile.steps SUBJECT...

is a process of its own, for Python never forgets an audit hook. It prints a JSON line for each
stop that left neither the old nor the new whole, and how many stops each subject had. After the
manner of SQLite's tests of out-of-memory and disk errors, https://www.sqlite.org/testing.html.
"""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError

FAILING = ("open", "os.rename", "os.mkdir", "os.chmod", "os.link", "os.symlink")
"""Python's names of what a disk that is full or read-only refuses."""
REMOVING = ("os.remove", "os.rmdir")
SIZES = (0, 1, 100, 500, 1000, 2000, 4000, 8000)
"""Bytes of a file after which the disk is full; files of the subjects have some thousands."""

Watch = Callable[[str], None]
_watch: Watch | None = None
_folder = ""
_one, _own = threading.Lock(), threading.local()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    watch = _watch
    if watch is None or event not in FAILING + REMOVING or getattr(_own, "inside", False):
        return
    paths = [os.fsdecode(each) for each in arguments if isinstance(each, str | bytes)]
    if not any(path.startswith(_folder) for path in paths):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    with _one:  # Orbax writes in several threads
        _own.inside = True  # what the watch does is no step
        try:
            watch(event)
        finally:
            _own.inside = False


@contextlib.contextmanager
def watched(folder: Path, watch: Watch) -> Iterator[None]:
    """Calls `watch` with the name of each step before it is taken in `folder`."""
    global _watch, _folder
    _folder, _watch = str(folder), watch
    try:
        yield
    finally:
        _watch = None


def main(*names: str) -> None:
    """Prints a line for each problem, and the count of each subject's stops."""
    from hostile.subjects import SUBJECTS

    sys.addaudithook(_hook)
    # A job may ignore it, and its children with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in names:
        stops = 0
        with tempfile.TemporaryDirectory() as place:
            subject = SUBJECTS[name](Path(place))
            for kind, problem in stopped(subject, Path(place)):
                stops += 1
                if problem is not None:
                    line = {"subject": name, "kind": kind, "problem": problem}
                    print(json.dumps(line), flush=True)
        print(json.dumps({"subject": name, "stops": stops}), flush=True)


def stopped(subject: Any, place: Path) -> Iterator[tuple[str, str | None]]:
    """What kind of stop, and what was wrong after it."""
    steps, snapshots = [], place / "snapshots"
    folder = new_folder(subject, place)

    def look(event: str) -> None:
        """What a kill here, or a power cut after the files were written, would leave."""
        while True:
            try:
                shutil.copytree(folder, snapshots / str(len(steps)), symlinks=True)
                break
            except shutil.Error:  # native threads rename their files meanwhile
                shutil.rmtree(snapshots / str(len(steps)))
        steps.append(event)

    snapshots.mkdir()
    with watched(folder, look):
        subject.work(folder)
    yield "whole", None if state(subject, folder) == "new" else "the work did not do anything"
    for number, event in enumerate(steps):
        found = state(subject, snapshots / str(number))
        yield f"killed before {event} {number}", None if found in ("old", "new") else found
    shutil.rmtree(snapshots)
    for number, event in enumerate(steps):
        for kind in ("failed", "interrupted"):
            if kind == "interrupted" or event in FAILING:
                yield f"{kind} at {event} {number}", stop(subject, place, kind, number)
    for size in SIZES:
        yield f"a disk full after {size}", full(subject, place, size)


def stop(subject: Any, place: Path, kind: str, number: int) -> str | None:
    """What is wrong when the step of this number fails, or an interruption comes with it."""
    seen, folder = [], new_folder(subject, place)

    def watch(event: str) -> None:
        seen.append(event)
        if len(seen) - 1 == number:
            if kind == "failed":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            signal.raise_signal(signal.SIGINT)

    with watched(folder, watch):
        problem = outcome(subject, folder, (KeyboardInterrupt,) if kind == "interrupted" else ())
    removing = len(seen) > number and seen[number] in REMOVING
    return problem or (None if removing else left_over(subject, folder))


def full(subject: Any, place: Path, size: int) -> str | None:
    """What is wrong when no file may have more than `size` bytes, in native code too."""
    folder = new_folder(subject, place)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        problem = outcome(subject, folder, ())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return problem or left_over(subject, folder)


def outcome(subject: Any, folder: Path, expected: tuple[type[BaseException], ...]) -> str | None:
    """What is wrong with how the work ends, or with what lies there then."""
    ended = None
    try:
        subject.work(folder)
    except (InputError, *expected) as error:
        ended = error
        if "\n" in str(error):
            return f"more than a line: {error}"
    except BaseException:
        return traceback.format_exc()
    found = state(subject, folder)
    if found not in ("old", "new"):
        return f"{found} (after {ended!r})"
    return "nothing was said" if found == "old" and ended is None else None


def state(subject: Any, folder: Path) -> str:
    """ "old", "new", or what else it is."""
    try:
        return subject.state(folder)
    except Exception as error:
        return f"neither: {error}"


def left_over(subject: Any, folder: Path) -> str | None:
    """What lies in the folder besides."""
    others = sorted({path.name for path in folder.iterdir()} - {subject.name})
    return f"left over: {others}" if others else None


def new_folder(subject: Any, place: Path) -> Path:
    """A folder with the old in it."""
    folder = place / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subject.old(folder)
    return folder


if __name__ == "__main__":
    main(*sys.argv[1:])
