"""`parity compare`: several trainings in one picture and one table. Imports no framework."""

import os
from pathlib import Path

from jax_impl.errors import InputError, shown
from parity.report.curves import Run, check_suffix, draw
from parity.report.run_table import table
from parity.report.runs import read_trainings
from parity.shell.files import cannot_write, check_place, default_out
from parity.shell.look_options import CompareOptions


def run(options: CompareOptions) -> None:
    """Reads all runs, draws, and prints; what is wrong is told before anything is written."""
    plot = options.plot or default_out("compare").with_suffix(".png")
    _check_plot(plot)
    trainings, again = read_trainings(options.runs)
    lines = [*again, *([""] if again else []), *table(trainings)]
    try:
        plot.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(plot, error) from error
    draw([Run(told.name, told.rows, told.model, told.framework) for told in trainings], plot)
    print("\n".join([*lines, "", f"curves: {plot}"]))


def _check_plot(plot: Path) -> None:
    """Raises InputError if the picture would replace something, or could not be written."""
    check_suffix(plot)
    if os.path.lexists(plot):
        raise InputError(f"{shown(str(plot))} exists: pass another --plot, or remove it")
    try:
        check_place(plot.parent)
    except InputError as error:
        raise InputError(str(error).replace("--out", "--plot")) from error
    except OSError as error:
        raise cannot_write(plot, error) from error
