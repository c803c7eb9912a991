"""The arithmetic of the benchmarks' summaries; their runs are long and not repeated here."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from jax_impl.errors import InputError

accuracy = runpy.run_path("benchmarks/accuracy.py", run_name="benchmark")


def runs(ours: list[float], theirs: list[float], loss: float = 0.5) -> list[dict]:
    found = []
    for seed, (first, second) in enumerate(zip(ours, theirs, strict=True)):
        found.append({"seed": seed, "framework": "JAX", "accuracy": first, "losses": [1.0, loss]})
        found.append(
            {"seed": seed, "framework": "PyTorch", "accuracy": second, "losses": [1.0, 0.5]}
        )
    return found


@pytest.mark.parametrize(
    "found, passed",
    [
        (runs([0.73, 0.75], [0.74, 0.74]), True),
        (runs([0.73, 0.75], [0.74, 0.74], loss=0.53), False),
        (runs([0.755, 0.755], [0.744, 0.744]), False),
        (runs([0.77, 0.77], [0.765, 0.765]), False),
    ],
)
def test_the_accuracy_bars(found, passed):
    summary = accuracy["summarise"](found)
    assert summary["passed"] is passed
    environment = {"command": "c", "commit": "a", "device": "cpu", "cpu": "x", "cores": 2}
    text = accuracy["to_markdown"](environment, summary, found)
    assert ("PASSED" if passed else "FAILED") in text
    assert text.count("| JAX |") == 2


def test_an_unknown_gpu_step_is_bad_input():
    command = ["bash", "benchmarks/gpu.sh", "tpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    steps = "checks, speed-resnet, speed-cnn, speed-cifar, accuracy, at-once"
    assert done.stderr == f"error: no step named tpu: choose one of {steps}\n"


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("convert", ["--model", "nosuch"], "no model named 'nosuch'"),
        ("convert", ["--repeats", "0"], "--repeats is 0"),
        ("accuracy", ["--seeds"], "--seeds needs at least one number"),
        ("replay", ["--steps", "0"], "--steps is 0"),
        ("at_once", ["--steps", "0"], "--rounds and --steps: give 1 or more"),
        ("loaders", ["--rounds", "0"], "--rounds and --images: give 1 or more"),
        ("pictures", ["nowhere"], "nowhere"),
        *((name, ["--out", "README.md"], "README.md") for name in (
            "accuracy", "convert", "false_alarms", "family", "mutants", "planted", "replay",
            "rungs", "samples",
        )),
    ],
)  # fmt: skip
def test_a_benchmark_refuses_bad_input_before_it_measures(name, arguments, why, tmp_path):
    out = [] if "--out" in arguments else ["--out", str(tmp_path)]
    command = [sys.executable, f"benchmarks/{name}.py", *arguments, *out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and why in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("options", ["channels=2", "channels=2,2:pool_after=none"])
def test_pictures_are_of_a_net_that_has_what_they_show(options, tmp_path):
    weights = tmp_path / "net.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(1)}, weights, {"model": f"simple_cnn:{options}"})
    pictures = runpy.run_path("benchmarks/pictures.py", run_name="benchmark")
    given = pictures["Options"](weights, out=tmp_path / "out")
    with pytest.raises(InputError, match="a pool after each of the first two"):
        pictures["main"](given)
    assert not (tmp_path / "out").exists()


def test_the_benchmark_of_the_family_names_a_file_of_tests():
    family = runpy.run_path("benchmarks/family.py", run_name="benchmark")
    assert Path(family["FILE"]).is_file()


def test_the_table_of_the_family_is_what_the_tests_measured(tmp_path):
    family = runpy.run_path("benchmarks/family.py", run_name="benchmark")
    test = "test_outputs_and_statistics_in_float64"
    value = '<properties><property name="relative_error" value="{}"/></properties>'
    cases = [
        f'<testcase name="{test}[resnet18:stem=cifar-{size}]">{value.format(error)}</testcase>'
        for size, error in (("32x32", 1e-15), ("45x37", 2e-15))
    ] + ['<testcase name="test_other"/>']
    cases.append(
        f'<testcase name="{family["EXACT"]}"><properties>'
        '<property name="jax_from_exact" value="2e-11"/>'
        '<property name="pytorch_from_exact" value="3e-11"/></properties></testcase>'
    )
    (tmp_path / "report.xml").write_text(f"<testsuite>{''.join(cases)}</testsuite>")
    rows, exact = family["measured"](tmp_path / "report.xml")
    assert [(row["model"], row["size"], row["error"]) for row in rows] == [
        ("resnet18:stem=cifar", "32x32", 1e-15),
        ("resnet18:stem=cifar", "45x37", 2e-15),
    ]
    assert exact == {"pytorch_from_exact": 3e-11, "jax_from_exact": 2e-11}
    environment = {"command": "c", "commit": "a", "cpu": "x", "cores": 2}
    text = family["to_markdown"](environment, True, rows, {})
    assert "| `resnet18:stem=cifar` | 1.0e-15 | 2.0e-15 |" in text
    assert "**2 of 2 comparisons meet their bar**\n" in text and "exact" not in text
    rows[0] |= {"error": 4e-11}
    text = family["to_markdown"](environment, False, rows, exact)
    assert "**1 of 2 comparisons meet their bar**; **the tests FAILED**" in text
    assert "over it: resnet18:stem=cifar at 32x32: 4.0e-11" in text
    assert "result is 3.0e-11 off there, JAX's 2.0e-11" in text


rungs = runpy.run_path("benchmarks/rungs.py", run_name="benchmark")


def row(model: str) -> dict:
    one = {"rung": "loss", "passed": True, "tolerance": 16.0, "unit": "x noise", "detail": "d"}
    found = [one | {"dtype": dtype, "measured": 3.0} for dtype in ("float64", "float32")]
    return {"model": model, "rungs": found, "seconds": 2.0, "commit": "a"}


def test_the_table_of_the_rungs():
    rows = rungs["ordered"]({name: row(name) for name in ("resnet18", "simple_cnn")})
    assert [each["model"] for each in rows] == ["simple_cnn", "resnet18"]
    rows[1]["rungs"][1]["passed"] = False
    assert rungs["line"](rows[1]) == "resnet18: FAIL; loss float32: d (2 s)"
    text = rungs["to_markdown"]({"command": "c", "cpu": "x", "cores": 2}, rows)
    assert "**1 of 2 models pass all of them**; not measured: plain110, plain18, plain20" in text
    assert "| `resnet18` | 3 of 16 | **FAIL** 3 of 16 | 2 | a |" in text


@pytest.mark.parametrize("content", ["{", "[]", '{"models": [{}]}'])
def test_another_file_is_no_table_of_rungs(content, tmp_path):
    path = tmp_path / "rungs.json"
    assert rungs["kept"](path) == {}
    path.write_text(content)
    with pytest.raises(InputError, match="move it away"):
        rungs["kept"](path)


def alarm(pair: str, seed: int, failing: list[dict] | None = None, commit: str = "a") -> dict:
    return {
        "pair": pair,
        "seed": seed,
        "steps": 10,
        "passed": not failing,
        "failing": failing or [],
        "nothing_compared": [],
        "error": None,
        "seconds": 2.0,
        "commit": commit,
    }


def test_the_rate_of_false_alarms_has_its_upper_limit():
    alarms = runpy.run_path("benchmarks/false_alarms.py", run_name="benchmark")
    assert alarms["upper_limit"](0, 300) == pytest.approx(0.01)  # the rule of three
    # As tables of the binomial distribution have it: P(X <= 1; 100, p) = 0.05 at p = 0.0466.
    assert alarms["upper_limit"](1, 100) == pytest.approx(0.0466, abs=1e-4)
    assert alarms["upper_limit"](2, 2) == 1
    place = {"rung": "loss", "dtype": "float32", "measured": 20.0, "tolerance": 16, "unit": "x"}
    failing = [place | {"detail": "d", "diagnosis": "Cause: none."}]
    rows = [alarm("one", 0), alarm("one", 1, failing), alarm("two", 0)]
    environment = {"command": "c", "commit": "a", "cpu": "x", "cores": 2}
    text = alarms["to_markdown"](environment, rows)
    assert "1 of 3 ladders of correct pairs fail: 33.33 %" in text
    assert (
        "| one | 2 | 1 | 97 % | 2.0 | seed 1: loss float32 20, at most 16 x; Cause: none. |" in text
    )
    assert "| two | 1 | 0 | 100 % | 2.0 |  |" in text


def test_false_alarms_go_on_with_the_runs_of_their_commit(tmp_path):
    kept = runpy.run_path("benchmarks/false_alarms.py", run_name="benchmark")["kept"]
    path = tmp_path / "false_alarms.json"
    assert kept(path, "a", 10) == {}
    path.write_text(json.dumps({"runs": [alarm("one", 0), alarm("two", 1, commit="b")]}))
    assert list(kept(path, "a", 10)) == [("one", 0)]
    assert kept(path, "a", 5) == {}
    path.write_text("[]")
    with pytest.raises(InputError, match="no table of false alarms"):
        kept(path, "a", 10)


def test_false_alarms_measure_a_correct_pair(tmp_path):
    command = [sys.executable, "benchmarks/false_alarms.py", "--pairs", "lax_scan", "--seeds", "1"]
    command += ["--steps", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    (row,) = json.loads((tmp_path / "false_alarms.json").read_text())["runs"]
    assert row["passed"] and row["rungs"] > 8, done.stdout + done.stderr
    assert done.returncode == 0
    assert done.stdout.startswith("lax_scan seed 0: passed, with nothing to compare")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.startswith("# False alarms")
