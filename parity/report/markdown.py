"""The parts that Markdown reports share. Imports no framework."""

from collections.abc import Collection, Sequence
from typing import Any


def heading(environment: dict[str, Any], data: dict[str, Any]) -> list[str]:
    """A list item each: the command, the commit, the data, and what it ran on.

    Args:
        environment: what `parity.shell.environment.describe` gives, with the command.
        data: the choice of the data set; its "reason" is told.
    """
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return [
        f"- command: `{environment['command']}`",
        f"- commit: {environment['commit']}",
        f"- data: {data['reason'].removeprefix('data: ')}",
        f"- device: {environment['device']}; {environment['cpu']}, {environment['cores']} cores",
        f"- precision: {environment['precision']}",
        f"- Python {environment['python']}, {packages}",
    ]


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str]
) -> list[str]:
    """The lines of a table; `numbers` are the columns aligned to the right."""
    rule = ["---:" if column in numbers else "---" for column in columns]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
        for line in (columns, rule, *rows)
    ]


def trainings(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a table with a row for each training.

    Args:
        runs: each with its `seed`, `framework`, epoch `losses` and `accuracy` in [0, 1].
    """
    rows = [
        (
            str(run["seed"]),
            run["framework"],
            " ".join(f"{loss:.3f}" for loss in run["losses"]),
            f"{100 * run['accuracy']:.2f} %",
        )
        for run in runs
    ]
    columns = ("seed", "framework", "epoch losses", "test accuracy")
    return table(columns, rows, {"seed", "test accuracy"})
