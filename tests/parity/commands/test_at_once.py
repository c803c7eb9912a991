"""`parity train --at-once K`: K run directories, each that of a training on its own."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from training_support import rows

from jax_impl.errors import InputError
from parity.commands import jax_training, train_jax
from parity.program import _options, main
from parity.shell import cli

NET = "simple_cnn:channels=2,2:hidden=8"
SMALL = ["train", "--data", "digits", "--model", NET, "--batch-size", "300", "--epochs", "2"]
EACH = 5
"""Steps of an epoch, the last one smaller."""


def command(*arguments: Any) -> int | None:
    given = [str(argument) for argument in arguments]
    return main(cli.parse(_options(given), given, prog="parity"))


def gap(one: Path, other: Path) -> tuple[float, float]:
    """Between two runs: the largest of their losses, and of their weights."""
    losses = [[row["loss"] for row in rows(run) if "loss" in row] for run in (one, other)]
    files = [run / "weights.safetensors" for run in (one, other)]
    weights = [safetensors.numpy.load_file(file) for file in files]
    assert weights[0].keys() == weights[1].keys()
    apart = [np.abs(value - weights[1][name]).max() for name, value in weights[0].items()]
    return max(abs(a - b) for a, b in zip(*losses, strict=True)), float(max(apart))


def assert_alike(run: Path, alone: Path, other: Path) -> None:
    """A thousand times nearer to that of its seed than another seed's is, and the same else.

    XLA multiplies matrices of several trainings in another order, which moves the last bits.
    """
    for near, far in zip(gap(run, alone), gap(other, alone), strict=True):
        assert near < far / 1000
    assert [row.keys() for row in rows(run)] == [row.keys() for row in rows(alone)]
    assert [row.get("step") for row in rows(run)] == [row.get("step") for row in rows(alone)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Of seed 4."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert command(*SMALL, "--seed", "4", "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    """Of the seeds 3 and 4."""
    out = tmp_path_factory.mktemp("two") / "run"
    assert command(*SMALL, "--seed", "3", "--at-once", "2", "--out", out) == 0
    return out.with_name("run-3"), out.with_name("run-4")


def test_each_has_its_own_directory(alone, two):
    assert sorted(path.name for path in two[0].parent.iterdir()) == ["run-3", "run-4"]
    assert_alike(two[1], alone, two[0])
    told = [json.loads((run / "config.json").read_text()) for run in two]
    assert [one["seed"] for one in told] == [3, 4] and told[0]["trained_at_once"] == [3, 4]
    names = {path.name for path in alone.iterdir()}
    assert {path.name for path in two[0].iterdir()} == names


def test_one_goes_on_alone_where_all_stopped(alone, two, tmp_path, monkeypatch, capsys):
    class After(list):
        looks = EACH + 2

        def __bool__(self) -> bool:
            self.looks -= 1
            return self.looks < 0

    asked = After(["by SIGTERM; "])
    monkeypatch.setattr(train_jax, "stop_requests", lambda: contextlib.nullcontext(asked))
    monkeypatch.setattr(train_jax, "PACE", 0.0)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt) as stop:
        command(*SMALL, "--seed", "3", "--at-once", "2", "--out", out)
    monkeypatch.undo()
    said = capsys.readouterr().out
    assert said.count("seed 3: Epoch") == said.count("seed 4: Epoch") == 1
    commands = [f"parity train --resume {out}-{seed}" for seed in (3, 4)]
    assert str(stop.value) == f"by SIGTERM; saved at step 7; go on by: {' && '.join(commands)}"
    assert command("train", "--resume", f"{out}-4") == 0
    assert_alike(tmp_path / "run-4", alone, two[0])


def test_one_that_diverges_is_told_and_the_others_end(tmp_path, monkeypatch, capsys):
    made = train_jax.make_train_epoch

    def broken(*arguments: Any) -> Any:
        epoch = made(*arguments)

        def train(*given: Any, **named: Any) -> Any:
            for state, steps in epoch(*given, **named):
                losses = np.array(steps.losses)
                losses[1, 0] = np.nan
                yield state, steps._replace(losses=losses)

        return train

    monkeypatch.setattr(train_jax, "make_train_epoch", broken)
    assert command(*SMALL, "--at-once", "2", "--out", tmp_path / "run") == 1
    assert "STOPPED: the loss is nan at step 1 of epoch 1" in capsys.readouterr().out
    assert (tmp_path / "run-0" / "weights.safetensors").exists()
    assert not (tmp_path / "run-1" / "weights.safetensors").exists()
    assert [row["step"] for row in rows(tmp_path / "run-1")] == [1]


def test_weights_that_cannot_be_written_cost_no_other(tmp_path, monkeypatch):
    end, ended = jax_training.Run.end, []

    def full(run: jax_training.Run, state: Any) -> None:
        ended.append(run.directory.path.name)
        if run.training.options.seed == 0:
            raise InputError("the disk is full")
        end(run, state)

    monkeypatch.setattr(jax_training.Run, "end", full)
    with pytest.raises(InputError, match="the disk is full"):
        command(*SMALL[:-1], "1", "--at-once", "2", "--out", tmp_path / "run")
    assert ended == ["run-0", "run-1"] and (tmp_path / "run-1" / "weights.safetensors").exists()


def test_room_is_looked_for_for_the_checkpoints_of_all(tmp_path, monkeypatch):
    sizes = []

    def full(path: Path, size: int, keep: int) -> None:
        sizes.append(size)
        raise InputError("full")

    monkeypatch.setattr(jax_training, "check_space", full)
    for given in (["--out", tmp_path / "one"], ["--at-once", "3", "--out", tmp_path / "run"]):
        with pytest.raises(InputError, match="full"):
            command(*SMALL, *given)
    assert sizes[1] == 3 * sizes[0] and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--at-once", "0"], "--at-once is 0: give 1 to 1000"),
        (["--at-once", "2", "--framework", "torch"], "--at-once: only JAX trains several"),
        (["--at-once", "2", "--out", ".."], "--out ..: each training adds its seed to it"),
        (["--at-once", "2", "--seed", 2**64 - 1], f"--seed is {2**64}: PyTorch takes"),
    ],
)
def test_what_cannot_be_done_is_refused(given, told):
    with pytest.raises(InputError, match=told):
        command(*SMALL, *given)


def test_a_place_that_is_taken_is_left_alone(tmp_path):
    taken = tmp_path / "run-1"
    taken.mkdir()
    (taken / "mine").touch()
    with pytest.raises(InputError, match="run-1 is not empty"):
        command(*SMALL, "--at-once", "2", "--out", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run-1"]
