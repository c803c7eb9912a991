"""`parity compare`: several trainings in one picture and one table. Imports no framework."""

from jax_impl.errors import shown
from parity.report.curves import Run, check_suffix, draw
from parity.report.run_table import table
from parity.report.runs import Training, read_trainings
from parity.shell.files import check_picture, default_out, make_place
from parity.shell.look_options import CompareOptions

MOST_DOUBLE = 6
"""Runs that are drawn with two curves of accuracy each; more would hide each other."""


def run(options: CompareOptions) -> None:
    """Reads all runs, draws, and prints; what is wrong is told before anything is written."""
    plot = options.plot or default_out("compare").with_suffix(".png")
    check_suffix(plot)
    check_picture(plot)
    trainings, again = read_trainings(options.runs)
    lines = [*again, *([""] if again else []), *table(trainings)]
    make_place(plot)
    crowded = len(trainings) > MOST_DOUBLE
    draw([_curves(training, crowded) for training in trainings], plot)
    if crowded:
        lines.append(
            f"of more than {MOST_DOUBLE} runs the picture leaves out the training accuracy"
        )
    print("\n".join([*lines, "", f"curves: {shown(str(plot), 400)}"]))


def _curves(training: Training, crowded: bool) -> Run:
    rows = [
        {name: value for name, value in row.items() if not (crowded and name == "train_accuracy")}
        for row in training.rows
    ]
    return Run(training.name, rows, training.model, training.framework)
