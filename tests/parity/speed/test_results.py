"""What follows from the samples, and how it is shown."""

import os
import time

import numpy as np
import pytest
from speed_support import TASK, report_of, timing

from jax_impl.errors import InputError
from parity.shell import files
from parity.speed import (
    load,
    notebook,
    plots,
    statistics,
)
from parity.speed import report as report_module
from parity.speed.results import TaskResult, compile_overhead, epoch_seconds
from parity.speed.rounds import Timing


def test_an_interval_of_known_samples():
    assert statistics.estimate([7.0, 7.0, 7.0]) == (7.0, 7.0, 7.0)
    median, low, high = statistics.estimate([1.0, 2.0, 3.0, 4.0, 100.0])
    assert median == 3.0 and (low, high) == (1.0, 100.0)
    spread = np.random.default_rng(0).normal(10, 1, 400)
    median, low, high = statistics.estimate(spread.tolist())
    # The median of n normal samples has the standard error 1.2533 / sqrt(n).
    assert low < 10 < high and high - low == pytest.approx(2 * 1.96 * 1.2533 / 20, rel=0.35)
    assert statistics.estimate(spread.tolist()) == (median, low, high)


def test_a_ratio_is_of_the_pairs_of_a_round():
    assert statistics.ratio([10.0, 200.0, 3.0], [5.0, 100.0, 1.5]) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError):
        statistics.ratio([1.0, 2.0], [1.0])


def test_the_best_is_of_the_right_loss_and_the_ratios_are_its_own():
    result = TaskResult(
        TASK,
        (
            timing("JAX", "jit", [30.0, 40.0, 50.0]),
            timing("JAX", "scan", [900.0] * 3, status="wrong loss: all"),
            timing("JAX", "stock", [800.0] * 3, ablation=True),
            timing("PyTorch", "eager", [10.0, 20.0, 30.0]),
            timing("PyTorch", "fused", [15.0, 25.0, 35.0]),
        ),
    )
    assert [t and t.variant for t in map(result.best, ("JAX", "PyTorch"))] == ["jit", "fused"]
    best, eager = result.ratio(), result.ratio("eager")
    assert best and best.median == pytest.approx(40 / 25)
    assert eager and eager.median == pytest.approx(40 / 20)
    assert result.ratio("compile") is None
    assert not report_of(result).passed


def test_compilation_is_shared_by_epochs():
    found = timing("JAX", "scan", [1000.0], first_seconds=10.0, first_steps=250)
    assert compile_overhead(found) == pytest.approx(10 - 250 * 0.004)
    assert epoch_seconds(found, 1) == pytest.approx(50 + 9)
    assert epoch_seconds(found, 9) == pytest.approx(50 + 1)


def test_the_machines_time_is_all_but_idle():
    stat = "cpu  100 20 30 4000 500 6 7 8 999 999\ncpu0 1 1 1\n"
    assert load.machine_seconds(stat) == (100 + 20 + 30 + 6 + 7 + 8) / os.sysconf("SC_CLK_TCK")
    assert load.machine_seconds("cpu  0 0 0 0 0 0 0 0 0 0") is None
    assert load.machine_seconds("no such thing") is None


def test_a_busy_machine_is_told():
    assert load.warning(0.05) is None
    assert load.warning(1.5) == (
        "WARNING: the machine was busy with other work: 1.50 cores before the start"
    )


def test_the_work_of_a_process_is_seen():
    before = load.process_seconds(os.getpid())
    stop = time.process_time() + 0.1
    while time.process_time() < stop:
        pass
    after = load.process_seconds(os.getpid())
    assert before is None or (after is not None and after >= before + 0.05)


def test_what_did_not_settle_or_failed_is_told():
    result = TaskResult(
        TASK,
        (
            timing("JAX", "jit", [4.0], warm_up=(1.0, 2.0)),
            timing("PyTorch", "eager", [], status="failed: it broke"),
        ),
        problem="its work could not be counted: why",
    )
    made = report_of(result)
    assert len(made.warnings) == 3 and not made.passed
    assert "simple_cnn@4 train in PyTorch: every variant failed" in report_module.verdict(made)
    assert "simple_cnn@4 train: PyTorch eager: failed: it broke" in report_module.to_markdown(made)


def test_a_comparison_of_nothing_is_no_pass():
    nothing = Timing(TASK, "JAX", "jit", "not available: needs a GPU")
    made = report_of(TaskResult(TASK, (nothing,)))
    assert not made.passed and not report_of().passed
    assert report_module.verdict(made) == "FAILED: nothing was timed"


def test_no_file_is_half_written(tmp_path, monkeypatch):
    result, out = TaskResult(TASK, (timing("JAX", "jit", [4.0]),)), tmp_path / "out"
    report_module.write(report_of(result), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(descriptor, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", full)
    with pytest.raises(InputError, match="cannot write .*speed.json: No space left on device"):
        report_module.write(report_of(result, unfinished="no"), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_empty_directory_is_taken(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    report_module.check_free(out)
    result = TaskResult(TASK, (timing("JAX", "jit", [4.0]),))
    report_module.write(report_of(result), out)
    assert (out / "speed.json").exists()
    with pytest.raises(InputError, match="is not empty"):
        report_module.check_free(out)


def test_every_plot_is_drawn_of_what_there_is():
    epochs = tuple(notebook.EpochResult(n, 10.0 * n, 1.0, 0.1 * n) for n in range(1, 6))
    trained = tuple(
        notebook.Training(name, framework, 0, 1.0, 50.0, epochs)
        for framework, name in (("JAX", "scan"), ("PyTorch", "eager"))
    )
    result = TaskResult(TASK, (timing("JAX", "scan", [4.0]), timing("PyTorch", "eager", [3.0])))
    made = report_of(result, notebook=trained)
    names = ("faster", "throughput", "amortised", "notebook")
    assert list(plots.images(made)) == [f"{n}.{kind}" for n in names for kind in ("png", "svg")]
    (axes,) = plots.throughput_plot(made).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["JAX scan", "PyTorch eager"]
    (axes,) = plots.notebook_plot(made).axes
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines] == [
        [10.0, 20.0, 30.0, 40.0, 50.0]
    ] * 2
    assert "notebook.png" in report_module.to_markdown(made)
