"""Turns, and the workers that take them."""

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import pytest
from speed_support import ODD, TASK, fake, gone, save_setup

from jax_impl.errors import InputError
from parity.speed import (
    bench,
    checks,
    rounds,
)
from parity.speed.checks import Reference
from parity.speed.processes import WorkerFailed, started
from parity.speed.rounds import Conditions, round_order, time_task


@pytest.mark.parametrize("count", range(1, 9))
def test_each_variant_follows_every_other_equally_often(count):
    turns = [round_order(count, number) for number in range(2 * count)]
    assert all(sorted(turn) == list(range(count)) for turn in turns)
    follows = Counter(pair for turn in turns for pair in itertools.pairwise(turn))
    assert follows == Counter(dict.fromkeys(itertools.permutations(range(count), 2), 2))
    places = Counter(pair for turn in turns for pair in enumerate(turn))
    assert set(places.values()) == {2}


def test_stray_prints_do_not_reach_the_protocol(tmp_path):
    with started(ODD, tmp_path, "cpu") as worker:
        assert worker.ask("prints", 60) == "meant"
        assert worker.ask("prints", 60) == "meant"
    printed = (worker.scratch / "stderr").read_text()
    assert "stray" in printed and "descriptor" in printed and "a child prints" in printed


def test_a_worker_that_raises_says_so_in_one_line_and_goes_on(tmp_path):
    with started(ODD, tmp_path, "cpu") as worker:
        with pytest.raises(WorkerFailed, match="^RuntimeError: first line second line$"):
            worker.ask("raises", 60)
        with pytest.raises(InputError, match="^bad input$"):
            worker.ask("refuses", 60)
        with pytest.raises(WorkerFailed, match="no answer in 0 s"):
            worker.ask("sleeps", 0.1)


def test_a_worker_that_dies_says_why_and_its_children_end_with_it(tmp_path):
    with started(ODD, tmp_path, "cpu") as worker:
        child = worker.ask("starts_a_child", 60)
    assert gone(child)
    with started(ODD, tmp_path, "cpu") as worker:
        with pytest.raises(WorkerFailed, match="ended with exit status 3: why it died"):
            worker.ask("dies", 60)
        with pytest.raises(WorkerFailed, match="ended with exit status 3"):
            worker.ask("prints", 60)


@pytest.fixture
def arrays(tmp_path) -> Path:
    """The arrays of a run, in a directory."""
    save_setup(tmp_path, "simple_cnn", {}, 4)
    return tmp_path


def test_a_variant_that_fails_or_is_wrong_leaves_the_others(arrays):
    variants = [
        fake("right"),
        fake("raising", raises="no memory"),
        fake("wrong", losses=[1.0, 2.0, 3.5]),
        fake("breaking", "PyTorch", advance="step broke"),
        dataclasses.replace(fake("gpu", "PyTorch"), needs_gpu=True),
        fake("also right", "PyTorch"),
    ]
    said = []
    reference = Reference((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    found = time_task(
        TASK,
        variants,
        Conditions(0.004, 3, 60, "cpu", 1e-3, arrays),
        said.append,
        lambda losses: checks.wrong_loss(losses, reference, "float32"),
    )
    assert [t.status for t in found] == [
        "ok",
        "failed: RuntimeError: no memory",
        "wrong loss: 3.5 in step 3, not 3 to within 9.2e-05",
        "failed: RuntimeError: step broke",
        "not available: needs a GPU",
        "ok",
    ]
    assert [len(t.blocks) for t in found] == [3, 0, 0, 0, 0, 3]
    assert all(block.steps == 2 for t in found for block in t.blocks)
    assert 2 <= len(found[0].warm_up) <= rounds.WARM_UP_BLOCKS
    assert found[0].peak_bytes and found[0].first_steps == 1
    assert any("no memory" in line for line in said)


def test_a_warm_up_that_takes_too_long_is_given_up(arrays):
    (found,) = time_task(
        TASK,
        [fake("slow")],
        Conditions(1, 1, 0.0, "cpu", 1e-3, arrays),
        lambda line: None,
        lambda _: None,
    )
    assert found.status == "failed: no answer in 0 s"


def test_a_block_is_timed_after_an_untimed_one(monkeypatch):
    class Slower:
        clock, seconds_a_step = 0.0, 5.0

        def advance(self, steps):
            self.clock += steps * self.seconds_a_step
            self.seconds_a_step = 1.0

    class InProcess:
        """A worker that lives here."""

        def ask(self, method, timeout, **arguments):
            return getattr(held, method)(**arguments)

        def cpu_seconds(self):
            return 0.0

    held = bench.BenchWorker()
    held.runner = Slower()  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: held.runner.clock)  # pyright: ignore
    found = rounds.timed_block({"a": InProcess()}, "a", 3, 60.0)  # pyright: ignore
    assert found.seconds == 3.0 and found.steps == 3
