"""`parity train --mesh`: the same training, whatever it is divided among."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from training_support import rows

from jax_impl.errors import InputError
from parity.program import _options, main
from parity.shell import cli
from parity.shell.run_directory import WEIGHTS

NET = "simple_cnn:channels=2,2:hidden=8"
SMALL = ["train", "--data", "digits", "--model", NET, "--batch-size", "300", "--epochs", "2"]


def command(*arguments: Any) -> int | None:
    given = [str(argument) for argument in arguments]
    return main(cli.parse(_options(given), given, prog="parity"))


def on_devices(count: int, *arguments: Any) -> None:
    """The command in a process of its own, where JAX has so many devices."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(count)}
    given = [sys.executable, "-m", "parity", *map(str, arguments)]
    subprocess.run(given, check=True, env=environment)


NEAR = 1e-5
"""Relative, of a loss in float32 after at most ten steps: some hundred of its roundings."""


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in rows(run) if "loss" in row]


def test_a_mesh_of_one_device(tmp_path, capsys):
    assert command(*SMALL, "--out", tmp_path / "plain") == 0
    assert command(*SMALL, "--mesh", "data=1", "--out", tmp_path / "mesh") == 0
    assert f"{NET} on 1 of cpu, run directory" in capsys.readouterr().out
    assert losses(tmp_path / "mesh") == pytest.approx(losses(tmp_path / "plain"), rel=NEAR)
    assert json.loads((tmp_path / "mesh" / "config.json").read_text())["mesh"] == "data=1"


@pytest.mark.proof
def test_a_training_goes_on_on_another_number_of_devices(tmp_path):
    """From the checkpoint of its first epoch, on the mesh it had, a smaller one, and none."""
    whole = tmp_path / "whole"
    keep = ("--keep", "2", "--mesh", "data=2,model=2", "--out", whole)
    on_devices(4, *SMALL, *keep)
    first, last = sorted(int(path.name) for path in (whole / "checkpoints").iterdir())
    for devices, given in ((4, ()), (2, ("--mesh", "data=2")), (1, ("--mesh", "data=1"))):
        copy = tmp_path / f"on-{devices}"
        subprocess.run(["cp", "-r", whole, copy], check=True)
        subprocess.run(["rm", "-r", copy / "checkpoints" / str(last)], check=True)
        on_devices(devices, "train", "--resume", copy, *given)
        assert losses(copy) == pytest.approx(losses(whole), rel=NEAR)
        if devices == 4:  # the same program on the same mesh: the same bits
            own, other = (safetensors.numpy.load_file(at / WEIGHTS) for at in (copy, whole))
            assert all(np.array_equal(own[name], value) for name, value in other.items())
    assert first < last


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--mesh", "data=1000"], "--mesh data=1000: a mesh of 1000 devices, and JAX sees"),
        (["--mesh", "rows=2"], "--mesh: a mesh of 'rows=2': give data=8, or data=4,model=2"),
        (["--mesh", "data=1", "--framework", "torch"], "--mesh: only JAX trains on one"),
        (["--mesh", "data=1", "--at-once", "2"], "--at-once: on a --mesh trainings go one at a"),
        (["--batch-norm", "local"], "--batch-norm local: it goes with --mesh"),
    ],
)
def test_what_no_mesh_can_do_is_told_before_a_run_directory_is_made(given, why, tmp_path):
    with pytest.raises(Exception, match=why) as caught:
        command(*SMALL, *given, "--out", tmp_path / "run")
    assert type(caught.value).__name__ == "InputError" and not list(tmp_path.iterdir())


def test_statistics_of_other_numbers_of_devices_are_another_training(tmp_path):
    """And a batch too small for those of each is told before one begins."""
    net = ("--model", "resnet18:width=1", "--batch-size", "719", "--epochs", "1")
    small = ("train", "--data", "digits", *net, "--mesh", "data=1", "--batch-norm")
    assert command(*small, "local", "--out", tmp_path / "run") == 0
    for given in (["--batch-norm", "global"], ["--mesh", "data=2"]):
        with pytest.raises(InputError, match="batch_norm is .*, and was local, of 1 devices"):
            command("train", "--resume", tmp_path / "run", *given)


def test_images_that_are_read_meanwhile(tmp_path, capsys):
    """By Grain, of a validation split too, and gone on with: the very weights."""
    whole, read = tmp_path / "device", tmp_path / "grain"
    how = *SMALL, "--validation", "100", "--augment", "crop", "flip"
    assert command(*how, "--out", whole) == 0
    assert command(*how, "--loader", "grain", "--out", read) == 0
    one, other = (safetensors.numpy.load_file(run / WEIGHTS) for run in (whole, read))
    assert all(np.array_equal(value, other[name]) for name, value in one.items())
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows(run)]
                for run in (whole, read)]  # fmt: skip
    assert timeless[0] == timeless[1]
    assert json.loads((read / "config.json").read_text())["loader"] == "grain"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--workers", "2"), "--workers: it goes with --loader grain"),
        (("--loader", "grain", "--workers", "-1"), "--workers is -1: give 0 to 256"),
        (("--loader", "grain", "--framework", "torch"), "PyTorch has a loader of its own"),
        (("--loader", "grain", "--at-once", "2"), "trainings go one at a time"),
    ],
)
def test_a_loader_that_cannot_be(given, told, tmp_path):
    with pytest.raises(InputError, match=told):
        command(*SMALL, *given, "--out", tmp_path / "run")


def test_ctrl_c_is_for_the_training_and_not_for_what_reads(tmp_path):
    """A terminal gives it to all processes: there is one line, and a checkpoint."""
    out = tmp_path / "run"
    line = [sys.executable, "-m", "parity", *SMALL[:-1], "500", "--loader", "grain"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background too
    try:
        process = subprocess.Popen(
            [*line, "--workers", "2", "--out", str(out)], start_new_session=True, **pipes
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    while "Epoch 1" not in (told := process.stdout.readline()):
        assert told, process.communicate()
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130 and told.count("\n") == 1, told
    assert told.startswith("interrupted: saved at step")
