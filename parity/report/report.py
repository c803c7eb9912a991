"""Results as a table on the terminal, as report.json, report.md and report.html."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parity.ladder.result import Result
from parity.report import markdown, terminal
from parity.report.comparison import Row
from parity.report.page import to_html
from parity.report.page.comparison import NOTE, TITLE
from parity.report.page.parts import number
from parity.shell import files
from parity.shell.console import Console

SCHEMA = 4
MUTANTS = Path(__file__).resolve().parents[1] / "benchmarks" / "mutants.json"
"""The tally of planted bugs, in a checkout."""


@dataclasses.dataclass(frozen=True)
class Report:
    """All that a run found, until it was `stopped` if it was. `passed` is the verdict."""

    environment: dict[str, Any]
    data: dict[str, Any]
    results: Sequence[Result]
    comparison: Sequence[Row]
    stopped: str | None = None
    """The error that ended the run before its end."""

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        whole = self.stopped is None
        return whole and all(result.passed is not False for result in self.results)

    @property
    def verdict(self) -> str:
        """The verdict in a line, with the checks that failed."""
        failed = [result for result in self.results if result.passed is False]
        count = sum(result.passed is not None for result in self.results)
        left = len(self.results) - count
        if self.stopped:
            found = f"{len(failed)} of {count} checks until then failed"
            return f"STOPPED by {self.stopped}: {found}"
        if not failed:
            return f"PASSED: all {count} checks" + (f"; {left} not compared" if left else "")
        names = ", ".join(dict.fromkeys(map(name_of, failed)))  # a rung may have several results
        return f"FAILED: {len(failed)} of {count} checks: {names}"


def name_of(result: Result) -> str:
    """Which check it is of."""
    return f"{result.model} {result.rung} {result.dtype}"


def line(result: Result) -> str:
    """A result in one line, for the log of a run."""
    name = name_of(result)
    remarks = "".join(f" ({remark})" for remark in result.remarks)
    if result.passed is None:
        return f"--   {name}: not compared: {result.detail}{remarks}"
    mark = "ok  " if result.passed else "FAIL"
    return (
        f"{mark} {name}: {number(result.measured)}, at most "
        f"{number(result.tolerance)} {result.unit}{remarks}"
    )


def show(report: Report, console: Console) -> None:
    """Prints the tables and the verdict."""
    for text in terminal.lines(report.results, report.comparison):
        console.paragraph(text)
    console.paragraph(report.verdict)


def write(report: Report, directory: Path) -> None:
    """Writes report.json, .md and .html; `directory` must not exist and appears complete.

    Raises:
        InputError: it exists, or cannot be written.
    """
    files.check_new(directory)
    with files.whole_directory(directory) as staging:
        (staging / "report.json").write_text(to_json(report))
        (staging / "report.md").write_text(to_markdown(report))
        (staging / "report.html").write_text(to_html(json.loads(to_json(report))))


def to_json(report: Report) -> str:
    """`content` as JSON."""
    return files.to_json(content(report), indent=2) + "\n"


def content(report: Report) -> dict[str, Any]:
    """Schema 4: environment, data, results, the comparison of the models, the planted bugs."""
    return {
        "schema": SCHEMA,
        "stopped": report.stopped,
        "environment": report.environment,
        "data": report.data,
        "results": [_plain(result) for result in report.results],
        "comparison": [dataclasses.asdict(row) for row in report.comparison],
        "mutants": _mutants(),
    }


def _plain(result: Result) -> dict[str, Any]:
    fields = dataclasses.asdict(result)
    fields["modules"] = [module._asdict() for module in result.modules]
    fields["steps"] = [step._asdict() for step in result.steps]
    return fields


def _mutants() -> list[dict[str, Any]] | None:
    try:
        return json.loads(MUTANTS.read_text())["mutants"]
    except (OSError, ValueError, KeyError):
        return None


def to_markdown(report: Report) -> str:
    """The same as Markdown, with every detail."""
    lines = [
        "# Parity report",
        "",
        f"**{report.verdict}**",
        "",
        *markdown.heading(report.environment, report.data),
        "",
        *markdown.table(
            (*RESULT_COLUMNS, "detail"),
            [(*_result_cells(r), ". ".join((r.detail, *r.remarks))) for r in report.results],
            NUMBERS,
        ),
    ]
    why = [
        f"- **{r.model}, {r.rung} {r.dtype}**: {r.diagnosis.text}"
        for r in report.results
        if r.diagnosis is not None
    ]
    if why:
        lines += ["", "## Diagnosis", "", *why]
    if report.comparison:
        lines += ["", f"## {TITLE}", ""]
        rows = [_comparison_cells(row) for row in report.comparison]
        lines += markdown.table(COMPARISON_COLUMNS, rows, NUMBERS)
        lines += ["", NOTE]
    return "\n".join(lines) + "\n"


RESULT_COLUMNS = ("model", "rung", "dtype", "passed", "measured", "tolerance", "unit")
COMPARISON_COLUMNS = (
    "model", "framework", "parameters", "MFLOPs", "s/epoch", "trained", "losses", "accuracy",
)  # fmt: skip
NUMBERS = {"measured", "tolerance", "parameters", "MFLOPs", "s/epoch", "accuracy"}


def _result_cells(result: Result) -> tuple[str, ...]:
    return (
        result.model,
        result.rung,
        result.dtype,
        {True: "yes", False: "NO", None: "--"}[result.passed],
        number(result.measured),
        number(result.tolerance),
        result.unit,
    )


def _comparison_cells(row: Row) -> tuple[str, ...]:
    return (
        row.model,
        row.framework,
        f"{row.parameters:,}",
        f"{row.forward_flops / 1e6:.1f}",
        f"{row.epoch_seconds:.1f}",
        row.extent,
        " ".join(f"{loss:.3f}" for loss in row.losses),
        f"{100 * row.accuracy:.2f} %",
    )
