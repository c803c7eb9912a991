"""Whether every way of writing a task computes the same, and how a wrong one is told."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from speed_support import NARROW, TASK, TINY, setup_of

from parity.speed import (
    bench,
    checks,
)
from parity.speed.checks import Reference
from parity.speed.runner import CHECKED, logits_norm
from parity.speed.variants import VARIANTS


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
    from parity.speed import jax_side, torch_side

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
    from parity.speed import torch_side

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


@pytest.mark.parametrize(
    "model, name, mode",
    [
        *((TINY, name, mode) for name in ("jit", "scan") for mode in ("train", "inference")),
        *(
            pytest.param(NARROW, name, mode, marks=pytest.mark.proof)
            for name in ("jit", "scan")
            for mode in ("train", "inference")
        ),
    ],
)
def test_jax_computes_in_bfloat16(model, name, mode, restored_jax, monkeypatch):
    from parity.speed import jax_side

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
