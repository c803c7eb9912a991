"""Lines and progress bars on a terminal, plain lines in a pipe."""

import contextlib
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich.console
import rich.progress

PIPE_WIDTH = 120
QUIET = 30.0
"""Seconds without a line in a pipe, at most."""


class _Rich(rich.console.Console):
    def on_broken_pipe(self) -> None:
        """The reader went away (`| head`): what is still to come is written all the same."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Console:
    """Where a command tells what it does; `quiet`, nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self._rich = _Rich(highlight=False, quiet=quiet)
        if not self._rich.is_terminal:
            self._rich = _Rich(highlight=False, quiet=quiet, width=PIPE_WIDTH)
        self._last = time.monotonic()

    def line(self, text: str = "") -> None:
        """Prints one line, never wrapped, above a bar that is shown."""
        self._last = time.monotonic()
        self._rich.print(text, markup=False, soft_wrap=True)

    def result(self, text: str, name: str = "") -> None:
        """Prints one line that a terminal has room for: what follows `name` is cut behind a word.

        In a pipe all of it is printed, and so is a name that is longer.
        """
        width = self._rich.width
        if self._rich.is_terminal and len(text) > width:
            kept = text[: width - 1].rsplit(" ", 1)[0]
            text = f"{kept}\N{HORIZONTAL ELLIPSIS}" if len(kept) > len(name) else text
        self.line(text)

    def paragraph(self, text: str) -> None:
        """Prints a line; a terminal that is narrower has it broken between words, and indented."""
        if self._rich.is_terminal and len(text) > self._rich.width:
            indent = " " * (len(text) - len(text.lstrip()))
            broken = textwrap.wrap(
                text.strip(),
                self._rich.width,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            text = "\n".join(broken)
        self.line(text)

    @contextlib.contextmanager
    def status(self, text: str = "") -> Iterator[Callable[[str], None]]:
        """What is done now, and for how many seconds, on the last line of a terminal.

        Gives the function that tells what is done next. In a pipe a line that says the same is
        printed whenever there was none for `QUIET` seconds.
        """
        if not self._rich.is_terminal:
            now = [text, time.monotonic()]

            def tell(text: str) -> None:
                now[:] = text, time.monotonic()

            with self._lines(lambda: f"{now[0]}: {time.monotonic() - now[1]:.0f} s so far"):
                yield tell
            return
        columns = (
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.TimeElapsedColumn(),
        )
        with rich.progress.Progress(*columns, console=self._rich, transient=True) as progress:
            task = progress.add_task(text, total=None)
            yield lambda text: progress.reset(task, total=None, description=text)

    @contextlib.contextmanager
    def bar(self, text: str, total: int, still: bool = False) -> Iterator[Callable[..., None]]:
        """A bar of `total` steps on a terminal; gives `show(done, text)`, where `text` may be left.

        In a pipe a line that says the same is printed whenever there was none for `QUIET` seconds.
        A bar that is `still` is drawn when it is told something, and leaves the processor alone
        in between.
        """
        if not self._rich.is_terminal:  # older releases of rich print an empty line all the same
            shown: list[Any] = [0, text]

            def show(done: int, text: str | None = None) -> None:
                shown[:] = done, text or shown[1]

            with self._lines(lambda: f"{shown[1]} ({shown[0]:,} of {total:,})"):
                yield show
            return
        columns = (
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=None),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        options: Any = {"console": self._rich, "transient": True, "expand": True}
        with rich.progress.Progress(*columns, **options, auto_refresh=not still) as progress:
            task = progress.add_task(text, total=total)
            yield lambda done, text=None: progress.update(
                task, completed=done, description=text, refresh=still
            )

    @contextlib.contextmanager
    def _lines(self, said: Callable[[], str]) -> Iterator[None]:
        """Prints what is said then, whenever nothing was for `QUIET` seconds."""
        stop = threading.Event()

        def tell() -> None:
            while not stop.wait(max(0.1, self._last + QUIET - time.monotonic())):
                if time.monotonic() >= self._last + QUIET:
                    self.line(said())

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def in_words(seconds: float | None) -> str:
    """For a person, who is not told more digits than are known."""
    if seconds is None:
        return "it is not known how long"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"
