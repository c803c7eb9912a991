"""Reports: the JSON's schema, the verdict, and files that appear complete or not at all."""

import json
import tempfile

import pytest

from jax_impl.errors import InputError
from parity.ladder.result import Result
from parity.report import report
from parity.report.comparison import Row
from parity.shell.console import Console
from parity.shell.files import check_new

GOOD = Result(
    True, 1e-15, 1e-12, "relative error", "a | b",
    model="simple_cnn", rung="forward", dtype="float64",
)  # fmt: skip
BAD = Result(
    False, float("inf"), 16.0, "x noise", "not finite",
    model="resnet18", rung="loss", dtype="float32",
)  # fmt: skip
ROW = Row("resnet18", "JAX", 11_181_642, 74_000_000, 110.0, [1.7, float("nan")], 0.47, "5 epochs")
ENVIRONMENT = {
    "command": "parity run",
    "commit": "abc",
    "python": "3.11",
    "cpu": "a cpu",
    "cores": 2,
    "device": "cpu",
    "precision": "pinned",
    "packages": {"jax": "0.10.2"},
}


def make(*results: Result) -> report.Report:
    data = {"name": "digits", "reason": "data: digits, as asked"}
    return report.Report(ENVIRONMENT, data, results, [ROW])


def test_the_json_has_the_schema(tmp_path):
    report.write(make(GOOD, BAD), tmp_path / "out")
    content = json.loads(
        (tmp_path / "out" / "report.json").read_text(),
        parse_constant=lambda name: pytest.fail(name),
    )
    assert set(content) == {
        "schema", "stopped", "environment", "data", "results", "comparison", "mutants",
    }  # fmt: skip
    assert content["schema"] == 4
    assert content["results"][0] == {
        "model": "simple_cnn",
        "rung": "forward",
        "dtype": "float64",
        "passed": True,
        "measured": 1e-15,
        "tolerance": 1e-12,
        "unit": "relative error",
        "detail": "a | b",
        "modules": [],
        "steps": [],
        "remarks": [],
        "diagnosis": None,
    }
    assert content["results"][1]["measured"] is None
    assert content["comparison"][0]["losses"] == [1.7, None]


def test_the_markdown_tells_all(tmp_path):
    report.write(make(GOOD, BAD), tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "FAILED: 1 of 2 checks: resnet18 loss float32" in text
    assert (
        "| simple_cnn | forward | float64 | yes | 1.0e-15 | 1.0e-12 | relative error | a \\| b |"
        in text
    )
    assert "- data: digits, as asked" in text
    assert "11,181,642" in text and "47.00 %" in text


def test_a_check_of_several_results_is_named_once_in_the_verdict():
    assert make(GOOD, BAD, BAD).verdict == "FAILED: 2 of 3 checks: resnet18 loss float32"


@pytest.mark.parametrize(
    "results, verdict",
    [((GOOD,), "PASSED: all 1 checks"), ((GOOD, BAD), "FAILED: 1 of 2 checks")],
)
def test_the_verdict(results, verdict, capsys):
    made = make(*results)
    assert made.verdict.startswith(verdict)
    assert made.passed == (BAD not in results)
    report.show(made, Console())
    output = capsys.readouterr().out
    assert verdict in output
    assert ("resnet18 loss float32: not finite" in output) == (BAD in results)


def test_a_place_that_nobody_may_write_to_is_told_before_a_run(tmp_path, monkeypatch):
    """Whatever its permissions say, as of the system's own folders."""

    def fail(**_):
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    with pytest.raises(InputError, match="cannot write .*out: No such.*; pass another --out"):
        check_new(tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_kept(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError, match="exists: pass another --out"):
        report.write(make(GOOD), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_nothing_is_left_of_a_report_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "to_markdown", fail)
    with pytest.raises(InputError, match="cannot write .*out: No space left"):
        report.write(make(GOOD), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
