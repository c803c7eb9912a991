"""A report on a terminal of 80 columns."""

import pytest
from report_content import content

from parity.ladder.result import Diagnosis, Result
from parity.report import terminal
from parity.report.comparison import Row

LONG = "simple_cnn:channels=16,32,64:kernel_size=5:pool_after=1,2,3:head=mean"


@pytest.fixture(scope="module")
def found() -> list[Result]:
    made = []
    for fields in content()["results"]:
        told = fields["diagnosis"]
        why = None if told is None else Diagnosis(**told)
        measured = float("inf") if fields["measured"] is None else fields["measured"]
        kept = {"diagnosis": why, "measured": measured, "modules": (), "steps": ()}
        made.append(Result(**{**fields, **kept}))
    return made


def test_a_result_is_one_line_of_80_columns_and_no_name_is_cut(found):
    found = [
        *found,
        Result(None, 0, 0, "x", "no step", model=LONG, rung="trajectory", dtype="float64"),
    ]
    rows = [Row(**{**row, "model": LONG}) for row in content()["comparison"]]
    lines = list(terminal.lines(found, rows))
    told = {result.detail for result in found} | {r.diagnosis.text for r in found if r.diagnosis}
    tables = [line for line in lines if not any(text in line for text in told)]
    assert max(map(len, tables)) <= 80
    for result in found:
        (line, *more) = (
            line for line in tables if line.split()[1:3] == [result.rung, result.dtype]
        )
        mark = {True: "ok", False: "FAIL", None: "--"}
        marks = {line.split()[0] for line in (line, *more)}
        assert mark[result.passed] in marks
    assert lines.count(LONG) == 2
    assert any(line.split()[:3] == ["JAX", "72.84", "%"] for line in tables)


def test_what_follows_is_not_repeated(found):
    lines = list(terminal.lines(found, []))
    assert sum("follows from what was found" in line for line in lines) == 0
    assert sum("gives JAX's output to" in line for line in lines) == 1
