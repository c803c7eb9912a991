"""The training scripts as a user calls them: lines, run directory, bad input, interruption."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import parity.program
import torch_ref.errors
import torch_ref.models
from jax_impl.errors import InputError
from jax_impl.models.model import create_model
from jax_impl.models.registry import create_spec
from parity.pairs.weights import to_flax
from parity.shell.files import default_out
from parity.shell.run_directory import RunDirectory
from parity.shell.train_options import TrainOptions

SCRIPTS = ["train_jax.py", "train_torch.py"]


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"scripts/{name}", "--data", "digits", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "name", [pytest.param("train_jax.py", marks=pytest.mark.quick), "train_torch.py"]
)
def test_a_run_and_its_directory(name, tmp_path):
    out = tmp_path / "run"
    done = script(name, "--epochs", "2", "--batch-size", "64", "--seed", "3", "--out", str(out))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 2]
    assert lines[-3:] == [
        *(
            f"Epoch {row['epoch']}, Loss: {row['loss']:.3f}, training "
            f"{100 * row['train_accuracy']:.2f} %, test {100 * row['test_accuracy']:.2f} %, "
            f"lr 0.001, {row['seconds']:.1f} s"
            for row in rows[:2]
        ),
        f"Accuracy: {100 * rows[2]['test_accuracy']:.2f} %",
    ]
    assert rows[2]["test_accuracy"] == rows[1]["test_accuracy"] > 0.8
    assert [row.get("step") for row in rows] == [23, 46, None]
    assert all(0 < row["train_accuracy"] < 1 and row["lr"] == 1e-3 for row in rows[:2])
    config = json.loads((out / "config.json").read_text())
    assert (config["model"], config["epochs"], config["lr"]) == ("simple_cnn", 2, 1e-3)
    assert (config["seed"], config["data"], config["batch_size"]) == (3, "digits", 64)
    assert (config["parameters"], config["packages"]["numpy"]) == (2122186, np.__version__)
    assert config["command"].startswith("parity ") and config["cores"] >= 1
    saved = "checkpoints" if name == "train_jax.py" else "checkpoint.pt"
    made = {"config.json", "curves.png", "metrics.jsonl", "weights.safetensors", saved}
    assert {path.name for path in out.iterdir()} == made
    with safetensors.safe_open(out / "weights.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["model"], metadata["num_classes"]) == ("simple_cnn", "10")
    state = safetensors.torch.load_file(out / "weights.safetensors")
    torch_ref.models.create_model("simple_cnn").load_state_dict(state, strict=True)
    to_flax(state, create_model("simple_cnn"))


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--modle", "simple_cnn"], "perhaps you meant --model"),
        (["--model", "resnet19"], "resnet19"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--batch-size", "-1"], "--batch-size is -1"),
        (["--lr", "nan"], "--lr is nan"),
        (["--seed", "99999999999999999999"], "--seed is 99999999999999999999: PyTorch takes"),
        (["--device", "tpu"], "--device tpu"),
        (["--device", "cpu", "--precision", "tf32"], "tf32: a CPU has none"),
        (
            ["--precision", "bf17"],
            "no 'bf17' for --precision: choose one of bf16, float32, tf32; perhaps you meant bf16",
        ),
        (
            ["--augment", "crop", "flipp"],
            "choose one of crop, cutout, flip; perhaps you meant flip",
        ),
    ],
)
def test_bad_input_gets_one_line_and_exits_with_2(name, arguments, message, tmp_path):
    done = script(name, "--out", str(tmp_path / "run"), *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_two_deterministic_runs_in_bfloat16_are_the_same(name, tmp_path):
    weights = []
    for run in ("first", "second"):
        out = tmp_path / run
        done = script(
            name, "--epochs", "1", "--precision", "bf16", "--deterministic", "--out", str(out),
            "--model", "simple_cnn:channels=4,8:hidden=16",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        config = json.loads((out / "config.json").read_text())
        assert (config["precision"], config["deterministic"]) == ("bf16", True)
        weights.append(safetensors.torch.load_file(out / "weights.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_interruption_gets_one_line(name, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, f"scripts/{name}", "--data", "digits", "--epochs", "1000"]
    # A process inherits "SIGINT ignored", as from nohup, but not a handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    saved = re.fullmatch(
        r"interrupted: saved at step ([\d,]+); go on by: parity train --resume (.*)\n", errors
    )
    assert saved and saved[2] == str(out)
    assert {"config.json", "curves.png", "metrics.jsonl"} < {*os.listdir(out)}
    assert "weights.safetensors" not in os.listdir(out)
    assert all(json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    "name, ctrl_c, told",
    [
        ("SIGINT", "default_int_handler", "interrupted"),
        ("SIGTERM", "SIG_IGN", "interrupted: by SIGTERM"),  # in the background
    ],
)
def test_an_interruption_in_the_garbage_collector_is_not_lost(name, ctrl_c, told):
    """Python reports what a collector's callback raises, and goes on."""
    code = (
        "import gc, os, signal, sys, time\n"
        "sys.path.insert(0, '.')\n"
        f"signal.signal(signal.SIGINT, signal.{ctrl_c})\n"
        "from parity.shell import cli\n"
        "from parity.shell.options import ListOptions\n"
        "def work(options):\n"
        f"    gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.{name}))\n"
        "    gc.collect()\n"
        "    gc.callbacks.clear()\n"
        "    time.sleep(60)\n"
        "cli.run(work, ListOptions, args=[])\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, f"{told}\n")
    assert time.monotonic() - started < 50


def test_an_occupied_run_directory_is_refused(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError, match="is not empty: pass another --out"):
        RunDirectory(tmp_path, "simple_cnn", "jax")
    with pytest.raises(InputError, match="cannot write"):
        RunDirectory(tmp_path / "kept" / "below", "simple_cnn", "jax")


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        made += [RunDirectory(None, "simple_cnn", "jax").path, default_out("parity")]
    assert len(set(made)) == 4 and all(path.parent == Path("runs") for path in made)


def test_a_run_that_ends_before_it_has_metrics_leaves_no_directory(tmp_path):
    for path in (tmp_path / "run", tmp_path / "there"):
        with pytest.raises(InputError, match="too large"), RunDirectory(path, "m", "jax") as made:
            made.config({"a": 1})
            raise InputError("too large")
    assert not list(tmp_path.iterdir())
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), RunDirectory(tmp_path / "there", "m", "jax") as made:
        made.config({"a": 1})
        raise KeyboardInterrupt
    assert not list((tmp_path / "there").iterdir())
    with pytest.raises(KeyboardInterrupt), RunDirectory(tmp_path / "run", "m", "jax") as made:
        made.config({"a": 1})
        made.metrics(epoch=1)
        raise KeyboardInterrupt
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "metrics.jsonl"}


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"epochs": 10**31}, "--epochs is 1000"),
        ({"epochs": 2**31}, "give 1 to 2147483647"),
        ({"batch_size": 10**31}, "--batch-size is 1000"),
        ({"model": "resnet18:width=1", "batch_size": 359}, "last of 1437 images' batches is one"),
        ({"model": "resnet18:width=1", "batch_size": 1}, "each batch is one image"),
    ],
)
def test_what_cannot_be_trained_is_told_before_a_run_directory_is_made(
    framework, given, why, tmp_path
):
    options = TrainOptions(framework, data="digits", out=tmp_path / "run", **given)
    errors = InputError, torch_ref.errors.InputError
    with pytest.raises(errors, match=why):
        parity.program.main(options)
    assert not list(tmp_path.iterdir())


def test_both_scripts_augment_alike(tmp_path):
    """From one seed the same crops and flips: an epoch's loss to float32's noise."""
    options = TrainOptions(
        model="simple_cnn:channels=4,4:hidden=8",
        data="digits",
        epochs=2,
        batch_size=100,
        lr=1e-3,
        augment=("crop", "flip", "cutout"),
        alternate=True,
        cutout_size=8,
        device="cpu",
    )
    losses = {}
    for framework, given in (
        ("jax", {}),
        ("torch", {}),
        ("plain", {"augment": (), "cutout_size": None, "alternate": None}),
        ("own", {"random": "jax"}),
    ):
        out = tmp_path / framework
        which = "torch" if framework == "torch" else "jax"
        parity.program.main(
            dataclasses.replace(options, framework=which, out=out, **given)  # pyright: ignore
        )
        losses[framework] = json.loads((out / "metrics.jsonl").read_text().splitlines()[1])["loss"]
    config = json.loads((tmp_path / "torch" / "config.json").read_text())
    told = {"crop": 4, "reflect": False, "flip": True, "cutout": 8, "alternate": True}
    assert config["augment"] == told
    assert losses["torch"] == pytest.approx(losses["jax"], rel=1e-5)
    assert len({round(loss, 4) for loss in losses.values()}) == 3


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_loss_that_is_none_stops_the_run(framework, tmp_path, capsys):
    options = TrainOptions(
        framework,
        model="simple_cnn:channels=2,2:hidden=4",
        data="digits",
        batch_size=300,
        epochs=2,
        lr=1e30,
        device="cpu",
        out=tmp_path / "run",
    )
    assert parity.program.main(options) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "STOPPED" in line]
    assert len(said) == 1 and "at step 2 of epoch 1, with a learning rate of 1e+30: give" in said[0]
    assert said[0].endswith("and no weights; it has no checkpoint")
    (row,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(row) == {"epoch": 1, "step": 2, "loss": None}
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    going = dataclasses.replace(options, keep_going=True, out=tmp_path / "going")
    assert parity.program.main(going) == 0
    assert (tmp_path / "going" / "weights.safetensors").exists()


def test_metrics_are_valid_json_even_when_training_diverges(tmp_path):
    directory = RunDirectory(tmp_path / "run", "simple_cnn", "jax")
    directory.metrics(epoch=1, loss=float("nan"))
    directory.metrics(epoch=2, loss=0.5)
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert text == '{"epoch": 1, "loss": null}\n{"epoch": 2, "loss": 0.5}\n'


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path / "run", "simple_cnn", "jax")
    directory.config({"old": True})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="config.json: No space left"):
        directory.config({"old": False})
    monkeypatch.undo()
    assert [path.name for path in directory.path.iterdir()] == ["config.json"]
    assert json.loads((directory.path / "config.json").read_text()) == {"old": True}


def test_an_interruption_just_after_a_file_is_renamed_is_one(tmp_path, monkeypatch):
    """Ctrl-C is raised when the call is over: there is nothing left to remove."""
    replace = os.replace

    def interrupted(*names):
        replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        RunDirectory(tmp_path / "run", "simple_cnn", "jax").config({"new": True})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_weights_keep_their_bits(tmp_path):
    directory = RunDirectory(tmp_path / "run", "simple_cnn", "jax")
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    directory.weights({"a": array}, create_spec("simple_cnn"), "jax")
    state = safetensors.torch.load_file(directory.path / "weights.safetensors")
    assert np.array_equal(state["a"].numpy(), array)
