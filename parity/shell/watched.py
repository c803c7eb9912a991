"""A process of many, watched by a second one, which has no framework.

Where another host is lost JAX's runtime aborts the process, with pages of its own. The watcher says
it in a line, and what to do. What native code prints goes to the watcher alone.
"""

import collections
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from parity.shell.cli import BY_SIGTERM
from parity.shell.earlier import CONFIG
from parity.shell.run_directory import Followed
from parity.shell.saving import TWICE, way_on

VARIABLE = "PARITY_WATCHED"
"""Of the environment: the number of the pipe to the watcher."""
MARK = "\0"
"""Begins a line that is for the watcher."""
HANGS = 10.0
"""Seconds in which a second request to stop is answered."""
LINES = 1000
"""Of what native code prints, the last are kept."""
LOST = re.compile(r"distributed service|[Cc]oordination|heartbeat|[Gg]loo|NCCL|by peer")
"""In what JAX's runtime says of a process that does not answer."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl; elsewhere a child outlives its parent."""


def is_watched() -> bool:
    """Whether this process has a watcher."""
    return VARIABLE in os.environ


def another_gone(rank: Any, way: str) -> str:
    """What is told in each process that is left, with what to do."""
    return f"process {rank} STOPPED: another process of this training is gone; {way}"


def is_of_others(error: BaseException) -> bool:
    """Whether an error says that another process does not answer."""
    return LOST.search(str(error)) is not None


def end_with_parent() -> None:
    """This process gets SIGTERM when its parent ends in whatever way."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def watch(arguments: Sequence[str]) -> int:
    """Runs `parity` with these arguments in a process of its own; its exit status, or 1 if lost."""
    _open_all()
    signals = _Signals()
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "parity", *arguments],
        env=os.environ | {VARIABLE: f"{write} {os.getpid()}"},
        pass_fds=(write,),
        process_group=0,  # so that Ctrl-C comes to it once, by way of this process
    )
    os.close(write)
    signals.pass_on_to(child)
    told, printed = _Told(), collections.deque[str](maxlen=LINES)
    reader = threading.Thread(target=_read, args=(read, told, printed), daemon=True)
    reader.start()
    status = child.wait()
    reader.join(5)
    if told.status is not None:
        return told.status
    if signals.got and not told.lost and -status in (*signals.got, signal.SIGKILL):
        raise KeyboardInterrupt(*(BY_SIGTERM if signals.got[-1] == signal.SIGTERM else ()))
    print(_ended(status, told, "".join(printed)), file=sys.stderr)
    return 1


class _Signals:
    """Ctrl-C and SIGTERM go to the process that is watched, which answers them.

    If it has not ended some seconds after a second one, it hangs in native code, and is killed.
    """

    def __init__(self) -> None:
        self.got: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._first = 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def pass_on_to(self, child: "subprocess.Popen[bytes]") -> None:
        """From here on; what came before too."""
        self._child = child
        for number in self.got:
            child.send_signal(number)

    def _note(self, number: int, frame: Any) -> None:
        self.got.append(number)
        if len(self.got) == 1:
            self._first = time.monotonic()
        if self._child is None:
            return
        self._child.send_signal(number)
        if time.monotonic() - self._first > TWICE:
            timer = threading.Timer(HANGS, self._child.kill)
            timer.daemon = True
            timer.start()


def _open_all() -> None:
    """What is closed of stdin, stdout and stderr (>&-) is /dev/null, and no place for a pipe."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)


class _Told:
    """What the watched process has said of itself."""

    status: int | None = None
    lost: str = ""
    met: str = ""
    rank: str = "?"
    folder: str = ""


def _read(pipe: int, told: _Told, printed: Any) -> None:
    with open(pipe, errors="replace", newline="\n") as file:
        for line in file:
            before, mark, after = line.rstrip("\n").partition(MARK)
            name, _, value = after.partition(" ")
            if not mark:
                printed.append(line)
            elif name == "status":
                told.status = int(value)
            else:
                setattr(told, name, value)


def _ended(status: int, told: _Told, printed: str) -> str:
    """The line for a process that ended without a word."""
    way = "train anew"
    if told.folder and (Path(told.folder) / CONFIG).is_file():
        way = way_on(Followed(Path(told.folder), True))
    if told.lost or status == -signal.SIGABRT and LOST.search(printed):
        if not told.met:
            return f"process {told.rank} STOPPED: the others did not come; start all of them anew"
        return another_gone(told.rank, way)
    ended = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    handle, name = tempfile.mkstemp(prefix="parity-error-", suffix=".txt", text=True)
    with os.fdopen(handle, "w") as file:
        file.write(printed)
    return f"process {told.rank} was ended {ended}; {way}; what it printed last is in {name}"


def tell(name: str, value: Any) -> None:
    """Tells the watcher, where there is one."""
    if is_watched():
        with contextlib.suppress(OSError):  # the watcher may be gone
            os.write(_pipe(), f"{MARK}{name} {value}\n".encode())


def _pipe() -> int:
    return int(os.environ[VARIABLE].split()[0])


@contextlib.contextmanager
def reporting(leave: Callable[[], None]) -> Iterator[None]:
    """Inside, native code prints to the watcher; the exit status is told to it, then all `leave`.

    Without a watcher nothing is done.
    """
    if not is_watched():
        yield
        return
    pipe, parent = _pipe(), int(os.environ[VARIABLE].split()[1])
    end_with_parent()
    os.set_inheritable(pipe, False)
    sys.stdout, sys.stderr = _moved(1, pipe), _moved(2, pipe)
    if os.getppid() != parent:
        os._exit(1)
    try:
        yield
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0
        tell("status", status)
        leave()
        os._exit(status)


def _moved(number: int, pipe: int) -> Any:
    """Python's stream to where a file descriptor went until now; the descriptor goes to a pipe."""
    kept = os.fdopen(os.dup(number), "w", buffering=1)  # a line at a time: nothing is left over
    os.dup2(pipe, number)
    return kept
