"""`python -m parity.study.child PARENT N FOLDER... MODULE ARGUMENT...`: a module, with care.

It gets SIGTERM when its parent ends in whatever way, and it waits until no earlier process, which
may still be saving, has one of the N run directories.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from parity.shell.files import unlocked
from parity.shell.watched import end_with_parent


def child_line(folders: Sequence[Path], module: str, *arguments: str) -> list[str]:
    """The command of a child of this process."""
    places = map(str, folders)
    start = [sys.executable, "-m", "parity.study.child", str(os.getpid()), str(len(folders))]
    return [*start, *places, module, *arguments]


def run_child(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs one to its end; it ends with this process at the latest."""
    line = child_line((), module, *arguments)
    return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def main(parent: int, folders: list[str], module: str, arguments: list[str]) -> None:
    """Becomes the module; the file descriptors and the signal are kept by that."""
    end_with_parent()
    while os.getppid() == parent and not all(unlocked(Path(f)) for f in folders):
        time.sleep(0.2)
    if os.getppid() == parent:
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


if __name__ == "__main__":
    first = 3 + int(sys.argv[2])
    main(int(sys.argv[1]), sys.argv[3:first], sys.argv[first], sys.argv[first + 1 :])
