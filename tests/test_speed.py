"""`python -m parity speed`: what it times, checks, computes and writes. No time is asserted."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_impl import registry
from jax_impl.errors import InputError
from parity import files
from parity.options import ModeName, PrecisionName, SpeedOptions
from parity.speed import (
    bench,
    checks,
    command,
    load,
    notebook,
    plots,
    processes,
    roofline,
    rounds,
    statistics,
)  # fmt: skip
from parity.speed import report as report_module
from parity.speed.bench import weights_path
from parity.speed.checks import Reference
from parity.speed.prepare import order
from parity.speed.processes import WorkerFailed, started
from parity.speed.results import SpeedReport, TaskResult, compile_overhead, epoch_seconds
from parity.speed.rounds import Block, Conditions, Timing, round_order, time_task
from parity.speed.runner import CHECKED, ROWS, Setup, logits_norm, save_arrays
from parity.speed.variants import VARIANTS, FrameworkName, Variant, chosen_variants
from parity.speed.workloads import ANYWHERE, Task, Workload, chosen_workloads, tasks

TINY = "simple_cnn:channels=4,8:hidden=16"
NARROW = "resnet18:width=4"
TASK = Task("simple_cnn", 4, "train", "float32")
ODD = "speed_variants:Odd"


def fake(name: str, framework: FrameworkName = "JAX", **settings) -> Variant:
    settings = {"losses": [1.0, 2.0, 3.0], **settings}
    return Variant(framework, name, "speed_variants:make_fake", settings)


def timing(framework: FrameworkName, variant, throughputs, task=TASK, **fields) -> Timing:
    blocks = tuple(Block(task.batch_size / value, 1, 0.0) for value in throughputs)
    fields = {"warm_up": (1.0, 1.0), "first_seconds": 1.0, "first_steps": 1} | fields
    return Timing(task, framework, variant, blocks=blocks, **fields)


def report_of(*results: TaskResult, **fields) -> SpeedReport:
    environment = {
        "command": "c", "commit": "a", "python": "3", "platform": "p", "cpu": "c", "cores": 2,
        "device": "cpu", "precision": "p", "packages": {"jax": "1"},
        "variables": {"OMP_NUM_THREADS": "2"},
    }  # fmt: skip
    data, options = {"name": "digits", "reason": "data: digits"}, dataclasses.asdict(SpeedOptions())
    return SpeedReport(environment, data, options, 0.0, results, **fields)


# Statistics.


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


# Turns.


@pytest.mark.parametrize("count", range(1, 9))
def test_each_variant_follows_every_other_equally_often(count):
    turns = [round_order(count, number) for number in range(2 * count)]
    assert all(sorted(turn) == list(range(count)) for turn in turns)
    follows = Counter(pair for turn in turns for pair in itertools.pairwise(turn))
    assert follows == Counter(dict.fromkeys(itertools.permutations(range(count), 2), 2))
    places = Counter(pair for turn in turns for pair in enumerate(turn))
    assert set(places.values()) == {2}


# Workers.


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


def gone(pid: int) -> bool:
    """Whether a process ends within a few seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def arrays(tmp_path) -> Path:
    """The arrays of a run, in a directory."""
    save_setup(tmp_path, "simple_cnn", {}, 4)
    return tmp_path


def save_setup(path: Path, model: str, weights, batch_size: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, 64).astype(np.int32)
    save_arrays(path / "data.npz", {"images": images, "labels": labels})
    save_arrays(path / "orders.npz", {str(batch_size): order(64, batch_size, 0)})
    save_arrays(weights_path(path, model), weights)


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


# Losses.


def test_bounds_are_the_largest_noise_so_far_or_the_floor():
    reference = Reference((2.0, 2.0, 2.0), (2.0, 2.1, 2.0), (2.0, 2.0, 1.8))
    floor = 16 * 16 * np.finfo(np.float32).eps * 2
    assert checks.bounds(reference, "float32") == pytest.approx([floor, 1.6, 3.2])
    assert checks.bounds(reference, "bf16")[0] == pytest.approx(16 * 2**-8 * 2)
    assert checks.bounds(reference, "tf32")[0] == pytest.approx(16 * 2**-11 * 2)


@pytest.mark.parametrize(
    "losses, where",
    [
        ((2.0, 2.0), "2 losses, not 3"),
        ((2.001, 2.0, 2.0), "in step 1"),
        ((2.0, 2.0, 2.001), "in step 3"),
        ((2.0, float("nan"), 2.0), "nan in step 2"),
    ],
)
def test_a_wrong_loss_is_told(losses, where):
    reference = Reference(*[(2.0, 2.0, 2.0)] * 3)
    assert checks.wrong_loss((2.0, 2.0, 2.00001), reference, "float32") is None
    assert where in (checks.wrong_loss(losses, reference, "float32") or "")


def test_moved_weights_are_one_rounding_away():
    weights = {"w": np.linspace(-3, 3, 1000, dtype=np.float32), "n": np.array(5)}
    moved = checks.moved(weights, checks.EPS["float32"], 0)
    ulps = np.abs(moved["w"] - weights["w"]) / np.spacing(np.abs(weights["w"]))
    assert moved["w"].dtype == np.float32 and moved["n"] == 5
    assert ulps.min() >= 1 and ulps.max() <= 2


def test_the_norm_of_logits_tells_rows_and_classes_apart():
    logits = np.random.default_rng(0).normal(size=(6, 10))
    found = logits_norm(logits)
    assert logits_norm(1.001 * logits) == pytest.approx(1.001 * found, rel=1e-12)
    for other in (logits[::-1], logits[:, ::-1], np.roll(logits, 1, 1)):
        assert abs(logits_norm(other) - found) > 1e-3 * found


@pytest.fixture
def restored_jax(monkeypatch):
    """The configuration that a variant changes, since it has a process of its own."""
    import jax

    from jax_impl import lowering

    for name in ("conv2d", "max_pool2d", "WINOGRAD_TILES"):
        monkeypatch.setattr(lowering, name, getattr(lowering, name))
    names = "jax_default_matmul_precision", "jax_default_device"
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def setup_of(
    model: str, mode: ModeName, precision: PrecisionName = "float32", batch_size=4
) -> Setup:
    from jax_impl.models import from_spec
    from parity.weights import to_arrays

    made = from_spec(registry.parse(model))
    rng = np.random.default_rng(0)
    return Setup(
        Task(model, batch_size, mode, precision),
        {},
        "cpu",
        1e-3,
        rng.integers(0, 256, (64, 32, 32, 3), np.uint8),
        rng.integers(0, 10, 64).astype(np.int32),
        order(64, batch_size, 0),
        to_arrays(made.init(0), made),
    )


@pytest.mark.parametrize(
    "model, mode",
    [
        (TINY, "train"),
        (TINY, "inference"),
        pytest.param(NARROW, "train", marks=pytest.mark.proof),
        (NARROW, "inference"),
    ],
)
def test_every_way_of_writing_it_computes_the_same(model, mode, restored_jax, monkeypatch):
    from parity.speed import bench, jax_side, torch_side

    setup, seeds, move = setup_of(model, mode), [], checks.moved
    monkeypatch.setattr(bench, "load_setup", lambda *arguments: setup)
    monkeypatch.setattr(
        checks, "moved", lambda w, eps, seed: seeds.append(seed) or move(w, eps, seed)
    )
    losses = checks.ReferenceWorker().losses(
        dataclasses.asdict(setup.task), "cpu", setup.lr, "", seed=0
    )
    reference = Reference(*map(tuple, losses))
    assert reference.exact not in (reference.narrow, reference.moved)
    assert seeds == list(range(checks.MOVED_RUNS))
    makers = {"JAX": jax_side.make_jax_variant, "PyTorch": torch_side.make_torch_variant}
    tried = [
        variant
        for variant in VARIANTS
        if mode in variant.modes
        and variant.unavailable(setup.task, gpu=False) is None
        and "compile" not in variant.settings
    ]
    assert {v.name for v in tried} >= {"jit", "scan", "eager", "channels_last"}
    for variant in tried:
        runner = makers[variant.framework](dataclasses.replace(setup, settings=variant.settings))
        found = [loss for call in runner.losses() for loss in call]
        assert len(found) == CHECKED
        assert checks.wrong_loss(found, reference, "float32") is None, variant
        runner.advance(runner.fit(CHECKED))
        assert runner.facts().keys() == {"threads", "compile_seconds", "device_peak_bytes"}


@pytest.mark.parametrize(
    "asked, chunk, fitted", [(1, 16, 16), (20, 20, 20), (140, 100, 100), (160, 100, 200)]
)
def test_a_scanned_call_holds_many_steps(asked, chunk, fitted, restored_jax):
    from parity.speed.jax_side import make_jax_variant

    setup = dataclasses.replace(setup_of(TINY, "inference"), settings={"scan": True})
    runner: Any = make_jax_variant(setup)
    runner.advance = lambda steps: None
    assert (runner.fit(asked), runner.chunk) == (fitted, chunk)


def test_a_lower_precision_has_a_wrong_float32_loss(monkeypatch):
    from parity.speed import bench, torch_side

    setup = setup_of(TINY, "train", "bf16")
    monkeypatch.setattr(bench, "load_setup", lambda *arguments: setup)
    losses = checks.ReferenceWorker().losses(
        dataclasses.asdict(setup.task), "cpu", setup.lr, "", seed=0
    )
    reference = Reference(*map(tuple, losses))
    assert reference.exact != reference.narrow != reference.moved
    assert checks.wrong_loss(reference.narrow, reference, "bf16") is None
    narrow = dataclasses.replace(setup, task=dataclasses.replace(setup.task, precision="float32"))
    steps = torch_side.make_torch_variant(narrow).losses()
    float32 = tuple(loss for call in steps for loss in call)
    honest = Reference(reference.exact, float32, float32)
    assert checks.wrong_loss(reference.narrow, honest, "float32") is not None


@pytest.mark.parametrize("model", [TINY, NARROW])
@pytest.mark.parametrize("name", ["jit", "scan"])
@pytest.mark.parametrize("mode", ["train", "inference"])
def test_jax_computes_in_bfloat16(model, name, mode, restored_jax, monkeypatch):
    from parity.speed import bench, jax_side

    setup = setup_of(model, mode, "bf16")
    setup = dataclasses.replace(setup, settings={v.name: v for v in VARIANTS}[name].settings)
    monkeypatch.setattr(bench, "load_setup", lambda *arguments: setup)
    losses = checks.ReferenceWorker().losses(
        dataclasses.asdict(setup.task), "cpu", setup.lr, "", seed=0
    )
    reference = Reference(*map(tuple, losses))
    found = [loss for call in jax_side.make_jax_variant(setup).losses() for loss in call]
    assert checks.wrong_loss(found, reference, "bf16") is None
    wide = dataclasses.replace(setup, task=dataclasses.replace(setup.task, precision="float32"))
    in_float32 = [loss for call in jax_side.make_jax_variant(wide).losses() for loss in call]
    assert max(abs(a / b - 1) for a, b in zip(found, in_float32, strict=True)) > 1e-5


def test_what_a_cpu_lacks():
    tf32 = dataclasses.replace(TASK, precision="tf32")
    named = {v.name: v for v in VARIANTS}
    assert named["eager"].unavailable(tf32, gpu=False) == "TF32 needs a GPU"
    assert named["scan"].unavailable(tf32, gpu=False) == "TF32 needs a GPU"
    assert named["scan"].unavailable(tf32, gpu=True) is None
    assert named["cuda_graph"].unavailable(TASK, gpu=False) == "needs a GPU"


# Tasks.


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
    documented = Path(command.__file__).parents[1].joinpath("options.py").read_text()
    assert all(name in documented.split("class SpeedOptions")[1] for name in names)
    assert chosen_variants(("all",), VARIANTS) == list(VARIANTS)
    assert [v.name for v in chosen_variants(("fused", "jit"), VARIANTS)] == ["jit", "fused"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"workloads": ("simple_cnn",)}, "'simple_cnn' is not MODEL@BATCH"),
        ({"workloads": ("simple_cnn@1",)}, "with a batch of 2 or more"),
        ({"workloads": ("resnet19@8",)}, "resnet19"),
        ({"variants": ("jitt",)}, "no variant named 'jitt': choose all, or of jit, scan, im2col"),
        ({"variants": ()}, "--variants needs a name"),
        ({"modes": ()}, "--modes needs"),
        ({"rounds": 0}, "--rounds is 0: give 1 or more"),
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


# Whole runs.


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> tuple[int, Path]:
    """A run with two variants that are right and one that is not."""
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
    return command.run(options, (*known, liar)), out


def test_a_wrong_loss_exits_with_1_and_is_not_the_best(whole_run):
    status, out = whole_run
    content = json.loads((out / "speed.json").read_text())
    assert status == 1 and not content["passed"]
    (task,) = content["tasks"]
    statuses = {t["variant"]: t["status"] for t in task["timings"]}
    assert statuses.pop("liar").startswith("wrong loss: ")
    assert statuses == {"scan": "ok", "eager": "ok", "cuda_graph": "not available: needs a GPU"}
    assert task["best"] == {"JAX": "scan", "PyTorch": "eager"}
    assert any("liar: wrong loss" in line for line in content["warnings"])


def test_the_files_are_complete(whole_run):
    _, out = whole_run
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    names = sorted(path.name for path in out.iterdir())
    assert names == ["amortised.png", "speed.json", "speed.md", "throughput.png"]
    for name in ("amortised.png", "throughput.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
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


# The notebook.


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


# Roofline.


@pytest.mark.parametrize("model", ["simple_cnn", "resnet18", "resnet18:stem=cifar", "resnet50"])
def test_flops_by_hand_are_pytorchs(model):
    from parity.family import forward_flops

    counted = roofline.by_hand(Task(model, 8, "inference", "float32"))
    assert counted["dense_flops"] == 8 * forward_flops(registry.parse(model), 32)
    assert 0 < counted["flops"] < counted["dense_flops"]
    trained = roofline.by_hand(Task(model, 8, "train", "float32"))
    assert trained["dense_flops"] == training_flops(model, 8)


def training_flops(model: str, batch_size: int) -> int:
    """PyTorch's own count of a forward and a backward pass."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import torch_ref.models

    spec = registry.parse(model)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net = torch_ref.models.create_model(spec.name, **dataclasses.asdict(spec.options))
        net(torch.zeros(batch_size, 3, 32, 32)).sum().backward()
    return counter.get_total_flops()


def test_products_with_padding_are_left_out():
    assert roofline.taps(size=1, outputs=1, kernel=3, stride=1, padding=1, dilation=1) == [0, 1, 0]
    assert roofline.taps(size=4, outputs=4, kernel=3, stride=1, padding=1, dilation=1) == [3, 4, 3]
    assert roofline.taps(size=8, outputs=4, kernel=3, stride=2, padding=1, dilation=1) == [3, 4, 4]
    assert roofline.taps(size=5, outputs=3, kernel=3, stride=1, padding=0, dilation=1) == [3, 3, 3]


def test_bytes_by_hand():
    # 3072 + 32x32x32 + 64x16x16 + 512 + 10 numbers of an image, and 2,122,186 parameters.
    outputs, parameters = 3072 + 32768 + 16384 + 522, 2_122_186
    counted = roofline.by_hand(Task("simple_cnn", 8, "inference", "float32"))
    assert counted["bytes"] == 4 * (parameters + 8 * outputs)
    counted = roofline.by_hand(Task("simple_cnn", 8, "train", "float32"))
    assert counted["bytes"] == 4 * (8 * parameters + 2 * 8 * outputs)
    counted = roofline.by_hand(Task("simple_cnn", 8, "train", "bf16"))
    assert counted["bytes"] == 4 * 8 * parameters + 2 * 2 * 8 * outputs


def test_weights_that_only_meet_padding_are_no_bytes():
    # resnet18's last maps are 2x2, then 1x1: of a kernel's nine taps four and, three times, one.
    unread = 256 * 512 * 5 + 3 * 512 * 512 * 8
    found, parameters = roofline.layers("resnet18")
    assert sum(layer.unread for layer in found) == unread
    counted = roofline.by_hand(Task("resnet18", 0, "train", "float32"))
    assert counted["bytes"] == 4 * 8 * (parameters - unread)


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_xlas_count_holds_the_products(mode, restored_jax):
    found = roofline.RooflineWorker().work(
        dataclasses.asdict(Task(TINY, 4, mode, "float32")), "cpu", 1e-3, images=64
    )
    assert found["flops"] <= found["xla_flops"] <= 3 * found["dense_flops"]
    assert found["xla_bytes"] > 0


def test_the_floor_and_how_near_the_best_comes():
    work = roofline.Work(flops=200.0, dense_flops=0, bytes=30.0, xla_flops=0, xla_bytes=0)
    ceilings = roofline.Ceilings(jax_flops=50.0, torch_flops=100.0, bytes=10.0)
    assert roofline.floor(work, ceilings) == roofline.Floor(overlapped=3.0, added=5.0)
    result = TaskResult(TASK, (timing("JAX", "jit", [1.0]),), None, work, ceilings)
    assert result.nearness("JAX") == pytest.approx(3 / 4)  # a step of 4 images takes 4 s
    assert result.nearness("PyTorch") is None


# Load.


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


# The report.


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
    assert plots.images(made).keys() == {"throughput.png", "amortised.png", "notebook.png"}
    (axes,) = plots.throughput_plot(made).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["JAX scan", "PyTorch eager"]
    (axes,) = plots.notebook_plot(made).axes
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines] == [
        [10.0, 20.0, 30.0, 40.0, 50.0]
    ] * 2
    assert "notebook.png" in report_module.to_markdown(made)
