"""`parity speed` beside other work, and cut off: what it shows and what is left."""

import dataclasses
import itertools
import json
import os

import numpy as np
import pytest
from speed_support import TASK, TINY, report_of, timing

from parity.commands import speed as command
from parity.shell.options import SpeedOptions
from parity.speed import load, plots, processes, report, rounds, tables
from parity.speed.notebook import EpochResult, Training
from parity.speed.results import SpeedReport, TaskResult
from parity.speed.rounds import Block
from parity.speed.variants import VARIANTS

NOT_VALID = "not valid: the machine was busy (0.50 cores of other work)"


def result_of(*other_cores: float | None) -> TaskResult:
    """Blocks of ten seconds, with so much other work."""
    blocks = tuple(Block(10.0, 10, other) for other in other_cores)
    ours, theirs = timing("JAX", "jit", [1.0]), timing("PyTorch", "eager", [1.0])
    return TaskResult(TASK, tuple(dataclasses.replace(t, blocks=blocks) for t in (ours, theirs)))


def test_other_work_while_blocks_are_timed_makes_them_invalid():
    assert result_of(0.5, 0.5).invalid == NOT_VALID
    assert result_of(0.0, 0.25).invalid and result_of(0.0, 0.25).other_cores == 0.125
    assert result_of(0.0, 0.15).invalid is None
    assert result_of(-0.02, 0.01).other_cores == 0.0
    assert result_of(None, None).other_cores is None and result_of(None).invalid is None
    assert TaskResult(TASK, ()).invalid is None


def test_short_blocks_are_not_blamed_for_the_ticks_of_the_clock():
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert load.invalid(0.2, 100.0, 4) and load.invalid(0.09, 100.0, 4) is None
    assert load.invalid(0.2, 10 * tick, 4) is None
    assert load.invalid(0.11 + 6 * tick / 0.5, 0.5, 4)


def test_a_busy_task_has_no_ratio_in_any_report():
    made = report_of(result_of(0.5))
    assert not made.passed and NOT_VALID in report.verdict(made)
    assert f"WARNING: {TASK}: {NOT_VALID}" in made.warnings
    for table in (tables.ratio_table, tables.throughput_table):
        ((task, told, *rest),) = table(made)[1]
        assert (task, told) == (str(TASK), NOT_VALID) and not any(rest)
    assert tables.cost_table(made)[1] == []
    (task,) = report.content(made)["tasks"]
    assert task["invalid"] == NOT_VALID and task["other_cores"] == 0.5
    assert not {"best", "jax_to_best", "jax_to_eager", "share_of_floor"} & task.keys()
    assert all("images_per_second" not in t and t["blocks"] for t in task["timings"])
    for draw in (plots.throughput_plot, plots.amortised_plot):
        (axes,) = draw(made).axes
        assert not axes.patches and not axes.lines
        assert "not valid: the machine was busy" in axes.texts[0].get_text()


def test_busy_shows_the_ratio_with_the_word_beside_it():
    options = dataclasses.asdict(SpeedOptions(busy=True))
    made = dataclasses.replace(report_of(result_of(0.5)), options=options)
    assert not made.passed and NOT_VALID in report.verdict(made)
    ((task, *cells),) = tables.ratio_table(made)[1]
    assert task == f"{TASK} ({NOT_VALID})" and cells[:3] == ["jit", "eager", "1.00"]
    (task,) = report.content(made)["tasks"]
    assert task["invalid"] == NOT_VALID and task["jax_to_best"]["median"] == 1.0
    for draw in (plots.throughput_plot, plots.amortised_plot):
        (axes,) = draw(made).axes
        assert NOT_VALID in axes.get_title() and (axes.patches or axes.lines)


def test_a_training_from_start_to_end_beside_other_work():
    epochs = (EpochResult(1, 10.0, 1.0, 0.5),)
    busy = Training("scan", "JAX", 0, 1.0, 50.0, epochs, other_cores=0.5)
    made = report_of(result_of(0.0), notebook=(busy, dataclasses.replace(busy, other_cores=0.0)))
    assert busy.invalid == NOT_VALID and not made.passed
    assert [row[3] for row in tables.notebook_table(made)[1]] == [NOT_VALID, "50.0"]
    (axes,) = plots.notebook_plot(made).axes
    assert [len(np.asarray(line.get_xdata())) for line in axes.lines] == [1, 0]


def run_with(tmp_path, monkeypatch, machine_seconds, **fields) -> tuple[int, dict]:
    monkeypatch.setattr(processes, "machine_seconds", machine_seconds)
    options = SpeedOptions(
        workloads=(f"{TINY}@4",), modes=("train",), rounds=2, seconds=0.1, roofline=False,
        variants=("jit", "eager"), data="digits", device="cpu", out=tmp_path / "out", **fields,
    )  # fmt: skip
    status = command.run(options)
    return status, json.loads((tmp_path / "out" / "speed.json").read_text())


def test_a_run_beside_a_spinning_process_exits_with_1(tmp_path, monkeypatch):
    """It also has no roofline, and names what was left out."""
    spinning = itertools.count(0.0, 10.0)  # ten seconds of work between two looks
    status, content = run_with(tmp_path, monkeypatch, lambda: next(spinning))
    assert status == 1 and not content["passed"] and content["unfinished"] is None
    (task,) = content["tasks"]
    assert task["invalid"] and "jax_to_best" not in task
    assert task["work"] is task["ceilings"] is None
    left = [f"{v.framework} {v.name}" for v in VARIANTS if v.name in ("scan", "fused", "compile")]
    assert set(left) <= set(content["left_out"])
    known = {str(v): v for v in VARIANTS}
    assert not any(known[name].ablation or known[name].needs_gpu for name in content["left_out"])
    assert not any("freezing" in name for name in content["left_out"])  # of inference alone
    text = (tmp_path / "out" / "speed.md").read_text()
    assert "not valid: the machine was busy" in text and "hardware's limits" not in text
    assert "PyTorch's best tried" in text and "without JAX scan, PyTorch channels_last" in text


def test_all_variants_have_a_best():
    made = report_of(result_of(0.0))
    assert tables.ratio_table(made)[0][1:3] == ("JAX's best", "PyTorch's best")


def test_what_was_timed_is_there_after_every_round(tmp_path, monkeypatch):
    """A run that is killed after its first round, in the place of the second."""
    timed, seen = rounds.timed_block, []

    def killed(workers, name, steps, limit):
        seen.append(name)
        if len(seen) > 2:
            raise KeyboardInterrupt
        return timed(workers, name, steps, limit)

    monkeypatch.setattr(rounds, "timed_block", killed)
    with pytest.raises(KeyboardInterrupt, match="what was timed is in"):
        run_with(tmp_path, monkeypatch, lambda: None)
    content = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert content["unfinished"] == "1 of 2 rounds of task 1" and not content["passed"]
    (task,) = content["tasks"]
    assert [len(t["blocks"]) for t in task["timings"]] == [1, 1]


def test_an_unfinished_report_says_so():
    made = report_of(result_of(0.0), unfinished="1 of 3 tasks are timed")
    assert not made.passed and report.verdict(made) == "UNFINISHED: 1 of 3 tasks are timed"
    assert isinstance(made, SpeedReport) and "UNFINISHED" in report.to_markdown(made)
