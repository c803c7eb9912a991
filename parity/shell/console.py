"""Lines and progress bars on a terminal, plain lines in a pipe."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import rich.console
import rich.markup
import rich.progress
import rich.table

PIPE_WIDTH = 120


class _Rich(rich.console.Console):
    def on_broken_pipe(self) -> None:
        """The reader went away (`| head`): what is still to come is written all the same."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Console:
    """Where a command tells what it does."""

    def __init__(self) -> None:
        self._rich = _Rich(highlight=False)
        if not self._rich.is_terminal:
            self._rich = _Rich(highlight=False, width=PIPE_WIDTH)

    def line(self, text: str = "") -> None:
        """Prints one line, never wrapped, above a bar that is shown."""
        self._rich.print(text, markup=False, soft_wrap=True)

    def table(self, table: rich.table.Table) -> None:
        """Prints a table."""
        self._rich.print(table)

    @contextlib.contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """What is done now, on the last line of a terminal; gives the function that tells it."""
        if not self._rich.is_terminal:
            yield lambda text: None
            return
        with self._rich.status("") as shown:
            yield lambda text: shown.update(rich.markup.escape(text))

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar of `total` steps on a terminal; gives the function that advances it."""
        if not self._rich.is_terminal:  # older releases of rich print an empty line all the same
            yield lambda steps: None
            return
        columns = (
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        with rich.progress.Progress(*columns, console=self._rich, transient=True) as progress:
            task = progress.add_task(text, total=total)
            yield lambda steps: progress.advance(task, steps)
