"""From options on the command line to an exit status: what every entry point shares.

Exit status: 0 success, 1 a check failed, 2 bad input, 3 an unexpected error of this program's own,
130 interrupted by Ctrl-C or SIGTERM. Each but the first two gets one line on stderr.
"""

import atexit
import contextlib
import difflib
import errno
import inspect
import io
import itertools
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import tyro

import jax_impl.errors
import torch_ref.errors

BAD_INPUT = 2
UNEXPECTED = 3
INTERRUPTED = 130
BY_SIGTERM = ("by SIGTERM",)
"""What a KeyboardInterrupt of it says."""
MOST = 20_000
"""Letters of a line for the user; what a file says makes no more of it."""
LONGEST_ARGUMENT = 200
LONG_WORD = re.compile(r"\S{400,}")
"""No path that a system takes, and nothing that anybody reads."""
CHOICE = re.compile(
    r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)", re.I
)
VALUE = re.compile(
    r"Error parsing (--[\w-]+): (.*?); Argument helptext: \1 (\[[^]]+\]|[A-Z]+)(?=[ ;]|$).*", re.S
)
MISPLACED = re.compile(r" \(applied to parity [\w ]+\)|; Arguments are applied to [^;]* matter")
"""Of an option that another command has."""
IN_WORDS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "[FLOAT ...]": "numbers",
    "[true|false]": "true, false or nothing",
}
"""What tyro calls by the name of a type."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED", "not enough memory", "out of memory", "allocate memory"
"""What JAX and PyTorch say then."""


def parse(
    options_type: Any,
    args: Sequence[str] | None = None,
    prog: str | None = None,
    examples: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Any:
    """Options of `options_type` (a dataclass or a union of them) from `args` or the command line.

    Exits with status 0 after `--help` and with 2, after one line on stderr, on an unusable option.

    Args:
        options_type: a dataclass or a union of them.
        args: in place of the command line's.
        prog: the program's name in its help; by default the command line's.
        examples: command lines by the name of their subcommand, which end its help; "" has those of
            the help without one.
    """
    args = sys.argv[1:] if args is None else args
    if sys.stdout is None:  # it was closed (>&-)
        sys.stdout = open(os.devnull, "w")
    for before, argument in itertools.pairwise(["", *args]):
        option, _, value = argument.partition("=")
        if not (value if option.startswith("--") and "=" in argument else argument).strip():
            where = option.strip() or f"an argument{f' after {before}' if before else ''}"
            _tell(f"error: {where} is blank (--help lists the options)")
            sys.exit(BAD_INPUT)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(options_type, args=args, prog=prog)
    except SystemExit as stop:
        if stop.code:
            plain = COLOUR.sub("", errors.getvalue())  # tyro's, where stdout is a terminal
            given = [COLOUR.sub("", argument) for argument in args]
            _tell(f"error: {_unwrapped(_one_line(plain), given)}")
            raise
        if shown := examples.get(next((a for a in args if a in examples), "")):
            print("examples:", *shown, sep="\n  ")
        sys.stdout.flush()
        raise


def run(
    function: Callable[[Any], int | None],
    options_type: Any,
    args: Sequence[str] | None = None,
    prog: str | None = None,
    examples: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> NoReturn:
    """Parses the command line, calls `function(options)` and exits with the status it returns.

    `options_type` is as in `parse`, or a function that makes it of the arguments.
    """
    sys.unraisablehook = _keep_interrupts
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as `parity.__main__` leaves it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    try:
        args = sys.argv[1:] if args is None else args
        kind = options_type(args) if inspect.isfunction(options_type) else options_type
        options = parse(kind, args, prog, examples)
        status = function(options) or 0
        sys.stdout.flush()
        # All is done: while libraries are unloaded there is nothing to interrupt.
        atexit.register(_ignore_signals)
    except (jax_impl.errors.InputError, torch_ref.errors.InputError) as error:
        _tell(f"error: {error}")
        atexit.register(_silence)
        status = BAD_INPUT
    except KeyboardInterrupt as interrupt:
        _ignore_signals()  # a second one finds nothing left to end
        _tell(f"interrupted{f': {interrupt}' if interrupt.args else ''}")
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): there is nobody left to tell.
        _drop(sys.stdout)
        status = 0
    except Exception as error:
        text, status = _unforeseen(error)
        _tell(f"error: {text}")
        atexit.register(_silence)
    sys.exit(status)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: Any) -> None:
    """SIGTERM is answered as Ctrl-C is: what was begun is taken back, or told."""
    raise KeyboardInterrupt(*BY_SIGTERM)


def _tell(text: str) -> None:
    """One line on stderr, where it is open and not full; what does not print is escaped."""
    if sys.stderr is None:  # it was closed, and print would take stdout in its place
        return
    text = LONG_WORD.sub(lambda word: f"{word[0][:100]}...{word[0][-20:]}", text)
    try:
        print(jax_impl.errors.shown(text, MOST), file=sys.stderr, flush=True)
    except OSError:  # what is still buffered would fail again at the exit, and change its status
        _drop(sys.stderr)


def _drop(stream: Any) -> None:
    """What is still written to a stream goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _unforeseen(error: Exception) -> tuple[str, int]:
    """The line for an error that nothing else has an answer to, and the exit status."""
    text = jax_impl.errors.one_line(error)
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return f"not enough memory: make the model or the batch smaller ({text[:200]})", BAD_INPUT
    if isinstance(error, OSError) and error.errno is not None:
        name = "" if error.filename is None else f" {jax_impl.errors.shown(str(error.filename))}"
        if not name and error.errno in (errno.ENOSPC, errno.EBADF):  # of print
            _drop(sys.stdout)
            name = " the standard output"
        return f"cannot use{name}: {error.strerror}", BAD_INPUT
    kind = type(error).__name__
    if "Unable to initialize backend" in text:
        named = jax_impl.errors.shown(os.environ.get("JAX_PLATFORMS", ""))
        return f"JAX cannot start with JAX_PLATFORMS={named!r} ({text[:200]})", BAD_INPUT
    try:
        handle, name = tempfile.mkstemp(prefix="parity-error-", suffix=".txt", text=True)
        with os.fdopen(handle, "w") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return f"unexpected {kind}: {text}", UNEXPECTED
    return f"unexpected {kind}: {text[:200]}; where it was is in {name}", UNEXPECTED


@contextlib.contextmanager
def held_interrupts() -> Iterator[None]:
    """Ctrl-C and SIGTERM inside are answered at the end: during an import they may abort it.

    Where one is ignored, as Ctrl-C is in a job in the background, it stays so.
    """
    held: list[int] = []
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before = signal.signal(number, lambda number, frame: held.append(number))
                stack.callback(signal.signal, number, before)
        yield
    if held:
        signal.raise_signal(held[0])


def _silence() -> None:
    """While the process ends, nothing is printed by threads and destructors of libraries."""
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = threading.excepthook = lambda _: None


def _keep_interrupts(unraisable: Any) -> None:
    """Interrupts anew where Python would drop it: in a callback of the garbage collector.

    By the same signal: Ctrl-C is ignored in a job in the background, and SIGTERM is not.
    """
    interrupt = unraisable.exc_value
    if not isinstance(interrupt, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    number = signal.SIGTERM if interrupt.args == BY_SIGTERM else signal.SIGINT
    while True:
        try:
            threading.Timer(0.01, os.kill, [os.getpid(), number]).start()
            return
        except KeyboardInterrupt:  # the one of another timer: what is raised in here is lost
            continue


def _unwrapped(text: str, args: Sequence[str]) -> str:
    """The text with the long arguments shortened, which tyro's box breaks into pieces."""
    for argument in args:
        if len(argument) > LONGEST_ARGUMENT and argument.strip():
            pieces = r"\s*".join(re.escape(c) for c in argument if not c.isspace())
            text = re.sub(pieces, lambda _, a=argument: jax_impl.errors.shown(a), text)
    return text


def _one_line(box: str) -> str:
    """The text of tyro's boxed message: its parts, and the options it suggests if any."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│╭╮╰╯─ ")
        if set(line) <= set("│╭╮╰╯─ "):
            sections.append([])
        elif line.startswith("│"):
            sections[-1].append(text)
    parts: list[str] = []
    for section in filter(None, sections):
        if section[0].startswith(("Perhaps you meant", "Arguments similar")) and len(section) > 1:
            options = [line.split()[0].rstrip(",") for line in section[1:] if line.startswith("-")]
            refused = set(" ".join(parts).replace(",", " ").split())
            near = dict.fromkeys(options[:2] or section[1].split()[:1])
            if others := [option for option in near if option not in refused]:
                parts.append(f"perhaps you meant {' or '.join(others)}")
        elif not section[0].startswith("For full helptext"):
            parts.append(" ".join(section).rstrip("."))
    text = CHOICE.sub(_choice, "; ".join(parts) or " ".join(box.split()))
    text = MISPLACED.sub("", VALUE.sub(_value, text)).replace(" or misplaced options", " options")
    return f"{text} (--help lists the options)"


def _value(found: re.Match[str]) -> str:
    """What an option takes, in place of how its parsing failed."""
    option, why, metavar = found.groups()
    last = re.search(r": \[?('[^']*'|\"[^\"]*\"|'[^]]*')\]?$", why)
    given = f" {last[1]}".replace("', '", " ") if last else ""
    return f"{option}{given}: give {IN_WORDS.get(metavar, metavar)}"


def _choice(found: re.Match[str]) -> str:
    """The choices in order, without the None of an option that may be left out."""
    given, argument, listed = found.groups()
    names = sorted(set(re.findall("'([^']*)'", listed)) - {"None"})
    near = difflib.get_close_matches(given, names, 1)
    hint = f"; perhaps you meant {near[0]}" if near else ""
    return f"no {given!r} for {argument}: choose one of {', '.join(names)}{hint}"
