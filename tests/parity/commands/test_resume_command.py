"""Runs that are stopped, copied, damaged or mistaken for another, and gone on with."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import assert_same, rows

import torch_ref.errors
from jax_impl.errors import InputError
from parity.commands import train_jax, train_torch
from parity.program import Options, _options, main
from parity.shell import cli, saving
from parity.shell.run_directory import RunDirectory

SMALL = [
    *("train", "--model", "simple_cnn:channels=2,2:hidden=8", "--data", "digits", "--batch-size"),
    *("300", "--epochs", "3", "--device", "cpu", "--augment", "crop", "flip", "cutout"),
    *(
        "--alternate",
        "--ema",
        "0.9",
        "--momentum",
        "0.9",
        "--optimizer",
        "sgd",
        "--lr",
        "0.1",
        "--schedule",
    ),
    *("cosine", "--warmup", "1", "--validation", "137"),
]
EACH = 5
"""Steps of an epoch, the last one smaller."""
FRAMEWORKS = {"jax": ["--random", "jax"], "jax as PyTorch": [], "torch": ["--framework", "torch"]}
ERRORS = InputError, torch_ref.errors.InputError


def command(*arguments: Any) -> int | None:
    given = [str(argument) for argument in arguments]
    return main(cli.parse(_options(given), given, prog="parity"))


class After(list):
    """A request to stop that comes after so many looks for it."""

    def __init__(self, looks: int):
        super().__init__(["by SIGTERM; "])
        self.looks = looks

    def __bool__(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def stopped(monkeypatch, looks: int, *arguments: Any) -> str:
    """Trains until it is stopped; what is told then."""
    for module in (train_jax, train_torch):
        asked = After(looks)
        monkeypatch.setattr(module, "stop_requests", lambda a=asked: contextlib.nullcontext(a))
        monkeypatch.setattr(module, "PACE", 0.0, raising=False)  # a step at a time
    with pytest.raises(KeyboardInterrupt) as stop:
        command(*arguments)
    monkeypatch.undo()
    return str(stop.value)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def whole(request, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert command(*SMALL, *FRAMEWORKS[request.param], "--out", out) == 0
    return out


@pytest.fixture(scope="module", params=["jax", "torch"])
def two(request, tmp_path_factory) -> Path:
    """Stopped in its second epoch."""
    out = tmp_path_factory.mktemp("two") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, EACH + 2, *SMALL, *FRAMEWORKS[request.param], "--out", out)
    return out


@pytest.mark.parametrize("looks", [1, EACH - 1, EACH + 2], ids=["within", "end", "second"])
def test_a_stopped_run_goes_on_bit_for_bit(looks, whole, tmp_path, monkeypatch, capsys):
    told = stopped(monkeypatch, looks, "train", "--config", whole, "--out", tmp_path / "run")
    assert f"go on by: parity train --resume {tmp_path / 'run'}" in told
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    assert (tmp_path / "run" / "curves.png").exists() == (looks >= EACH - 1)
    capsys.readouterr()
    assert command("train", "--resume", tmp_path / "run") == 0
    assert "going on at step" in capsys.readouterr().out
    assert_same(tmp_path / "run", whole)


def test_a_run_that_is_over_stays_as_it_is(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    assert command("train", "--resume", tmp_path / "copy") == 0
    assert_same(tmp_path / "copy", whole)


def test_a_line_after_the_checkpoint_is_not_written_twice(two, tmp_path):
    """Killed between the two, in a folder copied elsewhere."""
    run = tmp_path / "copy"
    shutil.copytree(two, run)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "step": 10, "loss": 0.5}\n{"epo')
    assert command("train", "--resume", run) == 0
    assert [row["epoch"] for row in rows(run)] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--lr", "0.2"], "lr is 0.2, and was 0.1: leave that out, or train anew with --config"),
        (["--seed", "1", "--epochs", "4"], "epochs is 4, and was 3, seed is 1, and was 0"),
        (["--model", "resnet20"], "model is resnet20, and was simple_cnn:channels=2,2:hidden=8"),
        (["--out", "x"], "--out: a training that is gone on with has its place; leave it out"),
        (["--config", "."], "--config and --resume both say what to train: give one"),
    ],
)
def test_another_training_is_not_gone_on_with(given, told, two, tmp_path):
    shutil.copytree(two, tmp_path / "run")
    before = sorted(os.walk(tmp_path))
    with pytest.raises(ERRORS, match=told):
        command("train", "--resume", tmp_path / "run", *given)
    assert sorted(os.walk(tmp_path)) == before


def test_the_checkpoints_of_another_run_are_not_taken(two, tmp_path, monkeypatch):
    """Of the same model, from another seed."""
    framework = json.loads((two / "config.json").read_text())["framework"]
    shutil.copytree(two, tmp_path / "run")
    other = [*SMALL, *FRAMEWORKS[framework], "--seed", "1", "--out", tmp_path / "other"]
    stopped(monkeypatch, 2, *other)
    name = "checkpoint.pt" if framework == "torch" else "checkpoints"
    os.rename(tmp_path / "run" / name, tmp_path / name)
    os.rename(tmp_path / "other" / name, tmp_path / "run" / name)
    with pytest.raises(ERRORS, match="it is of another training"):
        command("train", "--resume", tmp_path / "run")


def test_a_run_without_checkpoints_says_so(tmp_path, monkeypatch):
    out = tmp_path / "run"
    told = stopped(monkeypatch, EACH, *SMALL, "--checkpoint-every", "0", "--out", out)
    assert told == "by SIGTERM; at step 6; no checkpoint was asked for"
    with pytest.raises(
        InputError, match="holds no whole checkpoint: nothing to go on from"
    ) as told:
        command("train", "--resume", out)
    assert str(told.value).endswith(f"; train anew by: parity train --config {out}")
    assert not (out / "checkpoints").exists()


def test_a_run_that_another_process_trains_in_is_refused(two, tmp_path):
    shutil.copytree(two, tmp_path / "run")
    with RunDirectory(tmp_path / "run", "m", "jax", resume=True):
        with pytest.raises(ERRORS, match="is another process's"):
            command("train", "--resume", tmp_path / "run")


DAMAGE = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "missing": lambda path: path.unlink(),
    "a bit": lambda path: path.write_bytes(
        bytes([*(content := path.read_bytes())[:5000], content[5000] ^ 1, *content[5001:]])
    ),
    "a folder": lambda path: [path.unlink(), path.mkdir()],
    "other weights": lambda path: torch.save({"a": torch.zeros(2)}, path),
    "a list": lambda path: torch.save([1, 2], path),
    "a checksum": lambda path: torch.save(
        {**torch.load(path, weights_only=True), "sha256": "0" * 64}, path
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_of_pytorchs_is_told(name, tmp_path, monkeypatch, request):
    run = tmp_path / "run"
    stopped(monkeypatch, 1, *SMALL, "--framework", "torch", "--out", run)
    DAMAGE[name](run / "checkpoint.pt")
    with pytest.raises(ERRORS, match="checkpoint.pt is no checkpoint to go on from: ") as told:
        command("train", "--resume", run)
    assert "\n" not in str(told.value)
    assert not (run / "weights.safetensors").exists()


def changed(**fields: Any) -> bytes:
    return json.dumps(CONFIG | fields).encode()


CONFIG = {
    "framework": "jax", "model": "simple_cnn", "data": "digits", "seed": 0, "init": "torch",
    "precision": "float32", "deterministic": False, "batch_size": 32, "optimizer": "adam",
    "lr": 0.001, "epochs": 5, "momentum": 0.0, "nesterov": False, "weight_decay": None,
    "decay_norms": True, "schedule": "constant", "milestones": [], "gamma": 0.1, "warmup": 0.0,
    "label_smoothing": 0.0, "clip_norm": None, "ema": None, "accumulate": 1, "mirror": False,
    "validation": 0, "random": "torch",
    "augment": {"crop": 0, "reflect": False, "flip": False, "cutout": 0, "alternate": False},
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot read"),
        (b"{", "cannot read"),
        (b"\xff", "cannot read"),
        (b"[" * 100_000, "cannot read"),
        (b" " * 2_000_000, "cannot read"),
        (b"[1]", "is no config.json of `parity train`: it holds no object"),
        (b"null", "is no config.json"),
        (b"{}", "is no config.json of `parity train`: it has no batch_size"),
        (changed(model=3), "model is 3: give a text"),
        (changed(model="resnet19"), "resnet19"),
        (changed(optimizer="adan"), 'optimizer is "adan": give adam or'),
        (changed(epochs="5"), 'config.json: epochs is "5": give a whole number'),
        (changed(epochs=2.5), "epochs is 2.5: give a whole number"),
        (changed(epochs=True), "epochs is true: give a whole number"),
        (changed(epochs=10**30), "--epochs is 1000"),
        (changed(lr=None), "lr is null: give a number"),
        (changed(lr=-1.0), "--lr is -1"),
        (changed(milestones=["x"]), 'milestones is "x": give a number'),
        (changed(milestones={}), "milestones is {}: give a list"),
        (changed(schedule="linear"), 'schedule is "linear": give constant or'),
        (changed(augment=[]), "augment is []: give an object"),
        (changed(augment={"crop": 4}), "it has no reflect"),
        (changed(augment=CONFIG["augment"] | {"rotate": 1}), "augment has no rotate, only crop"),
        (changed(augment=CONFIG["augment"] | {"crop": 99}), "--padding is 99: give 1 to 31 pixels"),
        (changed(augment=CONFIG["augment"] | {"cutout": 10**10}), "--cutout-size is 10000000000"),
        (changed(keep="2"), 'keep is "2": give a whole number'),
        (changed(data_dir=3), "data_dir is 3: give a path"),
        (changed(augment=CONFIG["augment"] | {"crop": -4}), "crop is -4"),
        (changed(augment=CONFIG["augment"] | {"alternate": True}), "flip is false"),
        (changed(seed="x"), 'seed is "x": give a whole number'),
        (changed(seed=2**70), "PyTorch takes"),
        (changed(framework="caffe"), 'framework is "caffe": give jax or torch'),
        (changed(validation=10_000), "there are 1437 training images in all"),
    ],
)
@pytest.mark.parametrize("option", ["--config", "--resume"])
def test_what_is_no_config_is_told(option, content, told, tmp_path, capfd):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        cli.run(main, _options, args=["train", option, str(tmp_path)], prog="parity")
    errors = capfd.readouterr().err
    assert stop.value.code == 2 and errors.startswith("error: ") and errors.count("\n") == 1
    assert told in errors and len(errors) < 600
    assert os.listdir(tmp_path) == ["config.json"]


def test_options_replace_what_a_config_says(whole, tmp_path):
    out = tmp_path / "run"
    changes = ["--lr", "0.05", "--seed", "3", "--epochs", "2", "--augment", "flip"]
    assert command("train", "--config", whole / "config.json", *changes, "--out", out) == 0
    then, now = (json.loads((path / "config.json").read_text()) for path in (whole, out))
    assert (now["lr"], now["seed"], now["epochs"], now["augment"]["crop"]) == (0.05, 3, 2, 0)
    same = "model", "framework", "ema", "schedule", "warmup", "momentum", "data", "validation"
    assert all(now[name] == then[name] for name in same)


def test_too_little_room_is_told_before_training(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="MB free, and checkpoints take up to .*: pass another"):
        command(*SMALL, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_events_for_tensorboard(framework, tmp_path):
    out = tmp_path / "run"
    assert command(*SMALL, *FRAMEWORKS[framework], "--tensorboard", "--out", out) == 0
    (events,) = out.glob("events.out.tfevents.*")
    content = events.read_bytes()
    for name in (b"loss", b"train_accuracy", b"validation_accuracy", b"lr"):
        assert content.count(name) == 3


def test_what_changes_no_training_is_kept_too(two, tmp_path):
    """By `--resume` and by `--config`, where nothing else is asked for."""
    told = json.loads((two / "config.json").read_text())
    habits = {"keep": 3, "checkpoint_every": 0.5, "tensorboard": True, "data_dir": "/there"}
    (tmp_path / "config.json").write_text(json.dumps(told | habits | {"keep_going": True}))
    for option, value in (("--resume", tmp_path), ("--config", tmp_path / "config.json")):
        given = ["train", option, str(value), "--keep", "2"]
        options = cli.parse(_options(given), given)
        assert (options.keep, options.checkpoint_every, options.tensorboard) == (2, 0.5, True)
        assert (options.data_dir, options.keep_going) == (Path("/there"), True)


def test_a_file_is_no_run_to_go_on_with(two):
    for name in ("config.json", "metrics.jsonl"):
        with pytest.raises(InputError, match=f"that is a file; give the run directory, {two}"):
            command("train", "--resume", two / name)


def interrupted(directory: RunDirectory, *said: str) -> str:
    with pytest.raises(KeyboardInterrupt) as stop, saving.told_interrupts(directory):
        raise KeyboardInterrupt(*said)
    return "; ".join(stop.value.args)


def test_every_interruption_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunDirectory(Path("-k"), "m", "jax") as directory:
        assert interrupted(directory) == "" and interrupted(directory, "by SIGTERM") == "by SIGTERM"
        directory.metrics(epoch=1)
        assert interrupted(directory) == "train anew by: parity train --config ./-k"
        (directory.path / "checkpoints" / "45").mkdir(parents=True)
        (directory.path / "checkpoints" / "1000").mkdir()
        told = "go on from its last checkpoint of step 1,000 by: parity train --resume ./-k"
        assert interrupted(directory) == told
        assert interrupted(directory, "by SIGTERM") == f"by SIGTERM; {told}"
        with pytest.raises(saving.Stopped, match="^so$"), saving.told_interrupts(directory):
            raise saving.Stopped("so")
    with RunDirectory(tmp_path / "a b", "m", "torch") as directory:
        (directory.path / "checkpoint.pt").touch()
        told = f"go on from its last checkpoint by: parity train --resume '{directory.path}'"
        assert interrupted(directory) == told


def test_a_second_request_to_stop_within_a_second_is_the_first(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    with saving.stop_requests() as asked:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert asked == ["by SIGTERM; "]
        monkeypatch.setattr(saving, "TWICE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_every_command_line_without_an_earlier_run_has_the_same_options():
    assert _options(["run"]) is Options and _options(["train", "--lr", "1"]) is Options


def test_a_run_that_is_killed_goes_on(tmp_path):
    """SIGKILL, just after the first checkpoint."""
    out = tmp_path / "run"
    arguments = [*SMALL, "--checkpoint-every", "0.4", "--keep", "2"]
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from jax_impl.training import resume\n"
        "from parity import program\n"
        "write = resume.Checkpoints._write\n"
        "def killed(*arguments):\n"
        "    write(*arguments)\n"
        "    os.kill(os.getpid(), 9)\n"
        "resume.Checkpoints._write = killed\n"
        "program.run(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments, "--out", str(out)])
    assert done.returncode == -9 and "weights.safetensors" not in os.listdir(out)
    assert command("train", "--resume", out) == 0
    assert command(*arguments, "--out", tmp_path / "whole") == 0
    assert_same(out, tmp_path / "whole")
