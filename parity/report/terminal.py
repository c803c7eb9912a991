"""A report on a terminal of 80 columns: a line a result, and no name cut."""

from collections.abc import Iterator, Sequence

from parity.ladder.result import Result
from parity.report.columns import columns
from parity.report.comparison import Row
from parity.report.page.parts import number

COMPARED = "framework", "accuracy", "parameters", "MFLOPs", "s/epoch", "trained"


def lines(results: Sequence[Result], rows: Sequence[Row]) -> Iterator[str]:
    """The results by model, what failed and why, and the models beside each other."""
    for model in dict.fromkeys(result.model for result in results):
        yield from ("", model)
        mine = [result for result in results if result.model == model]
        header = "", "rung", "dtype", "measured", "at most", ""
        yield from columns(header, [_cells(result) for result in mine], ("", "rung", "dtype"))
    failed = [result for result in results if result.passed is False]
    for result in failed:
        if result.diagnosis is not None and result.diagnosis.follows:
            continue  # told when it was found, and in the report
        yield from ("", f"{result.model} {result.rung} {result.dtype}: {result.detail}")
        if result.diagnosis is not None:
            yield f"  {result.diagnosis.text}"
    for model in dict.fromkeys(row.model for row in rows):
        yield from ("", model)
        mine = [row for row in rows if row.model == model]
        yield from columns(COMPARED, [_compared(row) for row in mine], ("framework", "trained"))
    yield ""


def _cells(result: Result) -> tuple[str, ...]:
    mark = {True: "ok", False: "FAIL", None: "--"}[result.passed]
    if result.passed is None:
        return mark, result.rung, result.dtype, "", "", "not compared"
    # The table's unit is short; the line that told the result has all of it.
    unit = result.unit.partition(" of ")[0].replace("the quieter framework's ", "")
    sizes = number(result.measured), number(result.tolerance)
    return mark, result.rung, result.dtype, *sizes, unit


def _compared(row: Row) -> tuple[str, ...]:
    return (
        row.framework,
        f"{100 * row.accuracy:.2f} %",
        f"{row.parameters:,}",
        f"{row.forward_flops / 1e6:.1f}",
        f"{row.epoch_seconds:.1f}",
        row.extent,
    )
