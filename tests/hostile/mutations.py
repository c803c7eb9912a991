"""Random changes of files, and what became of reading them.

    PYTHONPATH=.:tests MALLOC_ARENA_MAX=2 python -m hostile.mutations COUNT SEED FORMAT...

is a process of its own, for a reader may hang, or take the process with it. It prints a JSON line
for every change after which the reader did anything other than read rightly or refuse in one line,
within `SECONDS` and with at most `MEMORY` more than the process had; and the tally of each format.
"""

import collections
import gc
import json
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import hypothesis

import torch_ref.errors
from hostile.formats import FORMATS
from jax_impl.errors import InputError

SECONDS = 10
MEMORY = 1 << 30
MESSAGE = 1000
"""Letters of a refusal at most."""


class TooLong(BaseException):
    """The reader has not ended in time."""


def main(count: str, seed: str, *names: str) -> None:
    """Prints a line for each problem, and the tally of each format."""

    def too_long(*_: Any) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, too_long)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            form = FORMATS[name](Path(folder))
            assert outcome(form, form.write(form.content)) == ("read", None)
            limit_memory()
            gc.collect()
            gc.freeze()  # what was imported takes no part in what readers collect
            tally = tried(name, form, int(count), int(seed))
            print(json.dumps({"format": name, "tally": tally}), flush=True)


def tried(name: str, form: Any, count: int, seed: int) -> dict[str, int]:
    """How many files were read, refused and neither; a line is printed for each of the last."""
    tally: collections.Counter[str] = collections.Counter()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=[*hypothesis.HealthCheck],  # pyright: ignore[reportArgumentType]
    )
    @hypothesis.given(form.changed())
    def one(content: Any) -> None:
        result, problem = outcome(form, form.write(content))
        tally[result] += 1
        if problem is not None:
            line = {"format": name, "problem": problem, "content": repr(content)[:2000]}
            print(json.dumps(line), flush=True)

    one()
    return tally


def outcome(form: Any, path: Path) -> tuple[str, str | None]:
    """ "read", "refused" or "wrong", and the problem where it is the last."""
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    result, told = "refused", []
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = form.read(path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result, problem = "read", form.wrong(path, found)
    except (InputError, torch_ref.errors.InputError) as error:
        problem = problem_of(error)
    except TooLong:
        problem = "not read in time"
    except BaseException:
        problem = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if problem is None and told:
        problem = f"a warning: {told[0].message}"
    if problem is None and time.monotonic() - began > SECONDS:
        problem = "the system's own code took too long"
    return ("wrong" if problem else result), problem


def problem_of(error: BaseException) -> str | None:
    """What is wrong with a refusal: not one short line to print, or memory that was asked for."""
    text = str(error)
    if not text or len(text) > MESSAGE or not text.isprintable():
        return f"refused by {text!r}"
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen:  # they may go round in a circle
        seen.append(cause)
        if isinstance(cause, MemoryError) or re.search("alloc|out of memory", str(cause)):
            return f"took more than {MEMORY:,} bytes: {cause!r}"
        cause = cause.__cause__ or cause.__context__
    return None


def limit_memory() -> None:
    """From now on the process may have `MEMORY` bytes of addresses more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(*sys.argv[1:])
