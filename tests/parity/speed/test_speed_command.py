"""`parity speed`: what it times and writes. No time is asserted."""

import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from speed_support import TINY, gone, timing

from jax_impl.errors import InputError
from parity.commands import speed as command
from parity.shell import options
from parity.shell.options import SpeedOptions
from parity.speed import (
    notebook,
    processes,
)
from parity.speed.prepare import order
from parity.speed.results import TaskResult
from parity.speed.rounds import Conditions, expected_seconds
from parity.speed.runner import CHECKED, ROWS
from parity.speed.variants import VARIANTS, Variant, chosen_variants
from parity.speed.workloads import ANYWHERE, Task, Workload, chosen_workloads, tasks


def test_the_standard_tasks():
    assert [str(w) for w in chosen_workloads((), gpu=False)] == [
        "simple_cnn@32",
        "simple_cnn@256",
        "resnet18@16",
        "resnet18:stem=cifar@128",
        "resnet50@32",
    ]
    assert str(chosen_workloads((), gpu=True)[-1]) == "resnet18:stem=cifar@512"
    found = tasks(ANYWHERE, ("train", "inference"), None)
    assert [str(task) for task in found[:4]] == [
        "simple_cnn@32 train",
        "simple_cnn@256 inference",
        "simple_cnn@256 train",
        "resnet18@16 train",
    ]
    assert len(found) == 9
    (bf16,) = chosen_workloads(("resnet18:stem=cifar@512",), gpu=True)
    assert [t.precision for t in tasks([bf16], ("train",), None)] == ["bf16"]
    assert [t.precision for t in tasks([bf16], ("train",), "float32")] == ["float32"]
    assert tasks([Workload("simple_cnn", 8)], ("train",), "tf32")[0].precision == "tf32"


def test_an_order_is_of_whole_permutations():
    found = order(64, 16, 3)
    assert found.shape == (ROWS, 16) and found.dtype == np.int32
    for start in range(0, 96, 4):
        assert sorted(found[start : start + 4].ravel()) == list(range(64))
    assert (order(64, 16, 3) == found).all() and (order(64, 16, 4) != found).any()


def test_names_of_variants_are_unique_and_documented():
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names)
    documented = Path(options.__file__).read_text()
    assert all(name in documented.split("class SpeedOptions")[1] for name in names)
    assert chosen_variants(("all",), VARIANTS) == list(VARIANTS)
    assert [v.name for v in chosen_variants(("fused", "jit"), VARIANTS)] == ["jit", "fused"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"workloads": ("simple_cnn",)}, "'simple_cnn' is not MODEL@BATCH"),
        ({"workloads": ("simple_cnn@1",)}, "with a batch of 2 to 1,048,576"),
        ({"workloads": ("simple_cnn@1048577",)}, "with a batch of 2 to 1,048,576"),
        ({"workloads": (f"simple_cnn@{'9' * 5000}",)}, "with a batch of 2 to 1,048,576"),
        ({"workloads": ("resnet19@8",)}, "resnet19"),
        ({"variants": ("jitt",)}, "no variant named 'jitt': choose all, or of jit, scan, im2col"),
        ({"variants": ()}, "--variants needs a name"),
        ({"modes": ()}, "--modes needs"),
        ({"rounds": 0}, "--rounds is 0: give 1 to 100000"),
        ({"notebook_repeats": 0}, "--notebook-repeats is 0"),
        ({"seconds": 0.0}, "--seconds is 0.0"),
        ({"compile_limit": float("inf")}, "--compile-limit is inf"),
        ({"seed": -1}, "--seed is -1: give 0 to 2^32 - 1"),
    ],
)
def test_bad_options_are_told_before_the_work(options, message):
    with pytest.raises(InputError) as told:
        command.run(SpeedOptions(**options))
    assert message in str(told.value) and "\n" not in str(told.value)


def speed(*arguments: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "parity", "speed", *arguments],
        capture_output=True,
        text=True,
        **kwargs,
    )


def test_bad_input_gets_one_line_and_exits_with_2(tmp_path):
    (tmp_path / "kept").touch()
    for arguments, message in (
        (("--out", str(tmp_path)), f"error: {tmp_path} is not empty: pass another --out"),
        (("--modes", "training"), "training"),
    ):
        done = speed(*arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ") and message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_how_long_a_run_takes_is_expected(tmp_path):
    chosen = tasks(chosen_workloads((f"{TINY}@4",), gpu=False), ["train"], None)
    conditions = Conditions(2.0, 3, 60.0, "cpu", 0.1, tmp_path)
    wanted = [v for v in VARIANTS if v.name in ("jit", "cuda_graph")]
    assert expected_seconds(chosen, wanted, conditions) == 15 + (2 * 3 + 4) * 2.0  # no GPU


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> tuple[int, Path, str]:
    """A run with two variants that are right and one that is not, and what it printed."""
    out = tmp_path_factory.mktemp("speed") / "deep" / "out"
    options = SpeedOptions(
        workloads=(f"{TINY}@4",),
        modes=("train",),
        rounds=2,
        seconds=0.01,
        busy=True,  # other tests run beside this one
        data="digits",
        device="cpu",
        out=out,
    )
    liar = Variant("PyTorch", "liar", "speed_variants:make_liar", {}, modes=("train",))
    known = [v for v in VARIANTS if v.name in ("scan", "eager", "cuda_graph")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = command.run(options, (*known, liar))
    return status, out, printed.getvalue()


def test_the_run_says_at_its_start_how_long_it_takes(whole_run):
    assert "\ntasks to time: 1, about 45 s where nothing else runs\n" in whole_run[2]


def test_a_terminal_of_80_columns_has_a_line_a_timing(whole_run):
    printed = whole_run[2].splitlines()
    at = next(i for i, line in enumerate(printed) if line.startswith("variant "))
    assert f"{TINY}@4 train" in printed[at - 2 : at]  # that other tests ran beside it is between
    table = printed[at : at + 4]
    assert " ".join(table[0].split()) == "variant images/s 95 % ms a step first call, s"
    assert {line.rpartition("  ")[0].split("  ")[0] for line in table[1:3]} == {
        "JAX scan",
        "PyTorch eager",
    }
    assert all(len(line) <= 80 for line in table)


def test_a_wrong_loss_exits_with_1_and_is_not_the_best(whole_run):
    status, out, _ = whole_run
    content = json.loads((out / "speed.json").read_text())
    assert status == 1 and not content["passed"]
    (task,) = content["tasks"]
    statuses = {t["variant"]: t["status"] for t in task["timings"]}
    assert statuses.pop("liar").startswith("wrong loss: ")
    assert statuses == {"scan": "ok", "eager": "ok", "cuda_graph": "not available: needs a GPU"}
    assert task["best"] == {"JAX": "scan", "PyTorch": "eager"}
    assert any("liar: wrong loss" in line for line in content["warnings"])


def test_the_files_are_complete(whole_run):
    _, out, _ = whole_run
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    names = sorted(path.name for path in out.iterdir())
    plots = ("amortised", "faster", "throughput")
    drawn = [f"{name}.{kind}" for name in plots for kind in ("png", "svg")]
    assert names == sorted([*drawn, "speed.json", "speed.md"])
    for name in plots:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (out / f"{name}.svg").read_bytes()
    content = json.loads((out / "speed.json").read_text())
    (task,) = content["tasks"]
    scan = next(t for t in task["timings"] if t["variant"] == "scan")
    assert len(scan["blocks"]) == 2 and len(scan["losses"]) == CHECKED
    assert all(block["seconds"] > 0 and block["steps"] > 0 for block in scan["blocks"])
    assert scan["compile_seconds"] > 0 and scan["peak_bytes"] > scan["base_bytes"] > 0
    assert len(task["reference"]["exact"]) == CHECKED
    assert task["work"]["xla_flops"] > 0 and task["ceilings"]["bytes"] > 0
    assert task["jax_to_best"]["low"] <= task["jax_to_best"]["high"]
    assert content["environment"]["packages"]["torch"]
    assert content["environment"]["date"] == time.strftime("%Y-%m-%d")
    assert content["other_cores_before"] >= 0
    text = (out / "speed.md").read_text()
    for part in ("| PyTorch eager |", "JAX / PyTorch", "## Not timed", "needs a GPU", "GB/s"):
        assert part in text


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_ctrl_c_leaves_no_process_and_no_file(tmp_path):
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "parity", "speed", "--workloads", f"{TINY}@4", "--data",
                "digits", "--out", str(out),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (workers := children.read_text().split()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "interrupted\n"
    assert all(gone(int(pid)) for pid in workers)
    assert not out.exists() and list(scratch.iterdir()) == []


@pytest.mark.proof
def test_compiled_variants_compute_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "machine_seconds", lambda: None)  # other tests run beside it
    names = ("jit", "eager", "compile", "compile_channels_last", "compile_freezing", "max_autotune")
    options = SpeedOptions(
        workloads=(f"{TINY}@4",),
        variants=names,
        rounds=2,
        seconds=0.01,
        data="digits",
        device="cpu",
        out=tmp_path / "out",
    )
    assert command.run(options) == 0
    content = json.loads((tmp_path / "out" / "speed.json").read_text())
    found = [t for task in content["tasks"] for t in task["timings"]]
    assert len(found) == 5 + 6 and {t["status"] for t in found} == {"ok"}


@pytest.mark.proof
def test_the_notebook_from_start_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "machine_seconds", lambda: None)  # other tests run beside it
    options = SpeedOptions(
        workloads=(f"{TINY}@4",),
        modes=("train",),
        variants=("scan", "eager", "fused_channels_last"),
        rounds=2,
        seconds=0.01,
        notebook=True,
        data="digits",
        device="cpu",
        out=tmp_path / "out",
    )
    assert command.run(options) == 0
    trainings = json.loads((tmp_path / "out" / "speed.json").read_text())["notebook"]
    assert [t["variant"] for t in trainings] == ["scan", "eager", "fused_channels_last"]
    assert all(len(t["epochs"]) == 5 and t["epochs"][-1]["accuracy"] > 0.9 for t in trainings)
    assert (tmp_path / "out" / "notebook.png").exists()


def test_the_clock_stands_still_during_a_test(monkeypatch):
    now = itertools.count(0.0, 1.0)  # each look at the clock is a second later
    monkeypatch.setattr(notebook.time, "perf_counter", lambda: next(now))
    clock = notebook.EpochClock()
    clock.start()
    clock.epoch(2.0, lambda: 0.5)
    clock.epoch(1.0, lambda: next(now) and 0.6)
    clock.epoch(0.5, lambda: 0.7)
    assert [epoch.seconds for epoch in clock.epochs] == [1.0, 2.0, 3.0]
    assert clock.test_seconds == 1.0
    assert [epoch.number for epoch in clock.epochs] == [1, 2, 3]


def test_who_trains_the_notebook():
    task = Task("simple_cnn", 32, "train", "float32")
    timings = tuple(
        timing("PyTorch", name, [speed], task)
        for name, speed in (
            ("eager", 9.0),
            ("fused", 3.0),
            ("compile", 4.0),
            ("channels_last", 2.0),
            ("cuda_graph", 8.0),
        )
    )

    def names(timings, gpu: bool, variants=VARIANTS) -> list[str]:
        results = [TaskResult(task, timings)] if timings else []
        return [v.name for v in command.notebook_variants(results, variants, gpu)]

    assert names(timings, gpu=False) == ["scan", "eager", "compile", "fused"]
    assert names(timings, gpu=True) == ["scan", "eager", "cuda_graph", "compile"]
    slow_graphs = tuple(
        timing("PyTorch", name, [speed], task)
        for name, speed in (
            ("fused", 3.0),
            ("compile", 4.0),
            ("cuda_graph", 1.0),
            ("cuda_graph_channels_last", 2.0),
        )
    )
    fastest = ["scan", "eager", "compile", "fused"]
    assert names(slow_graphs, gpu=True) == [*fastest, "cuda_graph_channels_last"]
    assert names((), gpu=False) == ["scan", "eager", "fused_channels_last"]
    assert names((), gpu=True) == ["scan", "eager", "fused_channels_last", "cuda_graph"]
    chosen = [v for v in VARIANTS if v.name in ("scan", "eager")]
    assert names((), gpu=True, variants=chosen) == ["scan", "eager"]
    turns = notebook.alternating(["a", "b"], 2)
    assert turns == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
