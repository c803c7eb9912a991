"""The section of report.html that has every result with all its details."""

from collections.abc import Sequence

from parity.report.page import parts
from parity.report.page.markup import Markup
from parity.report.page.parts import Content, Section

RESULT_COLUMNS = (
    "model", "passed", "rung", "dtype", "measured", "tolerance", "unit", "detail",
)  # fmt: skip
NUMBERS = "measured", "tolerance"
CLASSES = {**dict.fromkeys(NUMBERS, "number"), "unit": "medium", "detail": "long"}
VERDICTS = {True: "yes", False: "NO", None: "not compared"}
"""What a result's `passed` is called."""


def table(results: Sequence[Content]) -> Section | None:
    """All of them, with every detail."""
    if not results:
        return None
    rows = [_row(number, result) for number, result in enumerate(results)]
    whole = parts.table(RESULT_COLUMNS, rows, "All results", NUMBERS, "stacked")
    return Section("results", "All results", [whole])


def _row(number: int, result: Content) -> Markup:
    cells = (
        result["model"],
        parts.mark(result["passed"], VERDICTS[result["passed"]]),
        result["rung"],
        result["dtype"],
        parts.number(result["measured"]),
        parts.number(result["tolerance"]),
        result["unit"],
        ". ".join((result["detail"], *result["remarks"])),
    )
    return parts.row(RESULT_COLUMNS, cells, CLASSES, id=f"result-{number}")
