"""`python -m parity.study.child PARENT FOLDER ARGUMENT...`: `parity ARGUMENT...`, with two cares.

It gets SIGTERM when its parent ends in whatever way, and it waits until no earlier process, which
may still be saving, has the run directory.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl; elsewhere a child outlives its parent, and the next one waits for it."""


def main(parent: int, folder: str, arguments: list[str]) -> None:
    """Becomes `parity`; the file descriptors and the signal are kept by that."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    while os.getppid() == parent and not _free(folder):
        time.sleep(0.2)
    if os.getppid() == parent:
        os.execv(sys.executable, [sys.executable, "-m", "parity", *arguments])


def _free(folder: str) -> bool:
    """Whether no process trains in it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True  # there is none yet
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    finally:
        os.close(handle)
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
