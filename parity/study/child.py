"""`python -m parity.study.child PARENT N FOLDER... ARGUMENT...`: `parity ARGUMENT...`, with care.

It gets SIGTERM when its parent ends in whatever way, and it waits until no earlier process, which
may still be saving, has one of the N run directories.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from parity.shell.files import unlocked

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl; elsewhere a child outlives its parent, and the next one waits for it."""


def main(parent: int, folders: list[str], arguments: list[str]) -> None:
    """Becomes `parity`; the file descriptors and the signal are kept by that."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    while os.getppid() == parent and not all(unlocked(Path(f)) for f in folders):
        time.sleep(0.2)
    if os.getppid() == parent:
        os.execv(sys.executable, [sys.executable, "-m", "parity", *arguments])


if __name__ == "__main__":
    first = 3 + int(sys.argv[2])
    main(int(sys.argv[1]), sys.argv[3:first], sys.argv[first:])
