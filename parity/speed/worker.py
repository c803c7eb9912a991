"""A worker process: `python -m parity.speed.worker MODULE:CLASS`.

Reads a request a line, {"method": ..., "arguments": {...}}, from its standard input, calls that
method of its one object, and writes a line with {"result": ...} or {"error": ..., "input": bool}.
It ends with its input. What frameworks print goes to standard error.
"""

import importlib
import json
import os
import signal
import sys
from typing import IO, Any

import jax_impl.errors
import torch_ref.errors


def main(target: str) -> None:
    """Serves requests until the input ends."""
    with take_stdout() as replies:
        module, _, name = target.partition(":")
        made: Any = None
        for line in sys.stdin:
            request = json.loads(line)
            # A framework fails in any way.
            try:
                made = made or getattr(importlib.import_module(module), name)()
                result = getattr(made, request["method"])(**request["arguments"])
                reply = {"result": result}
            except Exception as error:
                told = isinstance(error, jax_impl.errors.InputError | torch_ref.errors.InputError)
                kind = "" if told else f"{type(error).__name__}: "
                reply = {"error": kind + jax_impl.errors.one_line(error), "input": told}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def take_stdout() -> IO[str]:
    """The standard output as a file of our own; all else that is printed goes to the error one."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    main(sys.argv[1])
