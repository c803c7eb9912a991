"""`parity` and `python -m parity`. Loads next to nothing before it answers Ctrl-C."""

import signal
import sys
from typing import NoReturn


def entry(*leading: str) -> NoReturn:
    """The process's command line, after the arguments `leading`."""
    # While modules are loaded Ctrl-C ends the process without a word; `cli.run` then answers it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from parity import program

    program.run([*leading, *sys.argv[1:]])


if __name__ == "__main__":
    entry()
