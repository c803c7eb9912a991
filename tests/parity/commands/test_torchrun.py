"""`parity train --framework torch` by two processes, as `torchrun` starts them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from parity.ladder.workers.task import free_port
from parity.shell.run_directory import CHECKPOINT, WEIGHTS
from torch_ref.distributed import joined
from torch_ref.errors import InputError

ROOT = Path(__file__).parents[3]
NEAR = 1e-5
"""Relative, of a loss in float32 after an epoch of 15 steps: some hundred of its roundings."""
LOADED = 20
"""Seconds after which a process waits for the others, on a machine that is busy."""
FULL = "import shutil, collections; U = collections.namedtuple('U', 'total used free')\n"
FULL += "shutil.disk_usage = lambda path: U(1, 1, 0)\n"
NET = "--framework", "torch", "--model", "simple_cnn:channels=4,4:hidden=8", "--data", "digits"


@contextlib.contextmanager
def processes(*arguments, count=2, each=((), ()), world=None):
    """The processes, which are killed at the end; `each` has more options of its own."""
    told = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world or count),
    }
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    told |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "parity", "train", *map(str, (*NET, *arguments))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    made = [
        subprocess.Popen(
            [*command, *each[rank]], env=os.environ | told | {"RANK": str(rank)}, **pipes
        )
        for rank in range(count)
    ]
    try:
        yield made
    finally:
        for process in made:
            process.kill()
            process.communicate()


def ended(made):
    """Of each process its status, and what it printed to both."""
    texts = [process.communicate(timeout=120) for process in made]
    return [(process.returncode, *text) for process, text in zip(made, texts, strict=True)]


def trained(*arguments, count=2):
    with processes(*arguments, count=count) as made:
        return ended(made)


def wait_for(path, process):
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)


def weights(folder):
    return safetensors.numpy.load_file(folder / WEIGHTS)


@pytest.mark.parametrize("killed", [0, 1])
def test_one_that_is_killed_ends_the_other_and_the_training_goes_on(killed, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    how = "--epochs", 4, "--checkpoint-every", 0.2
    (first, said, bad), (second, *silence) = trained(*how, "--out", whole)
    assert (first, bad) == (0, "") and "2 processes" in said
    assert second == 0 and silence == ["", ""], "the second one says nothing"
    with processes(*how, "--out", cut) as made:
        wait_for(cut / CHECKPOINT, made[0])
        made[killed].kill()
        status, _, told = ended(made)[1 - killed]
    assert status == 1 and not (cut / WEIGHTS).exists()
    assert told.count("\n") == 1, told
    assert "another process of this training is gone; go on from its last checkpoint" in told
    assert f"by: parity train --resume {cut} " in told
    (status, said, bad), _ = trained("--resume", cut)
    assert (status, bad) == (0, ""), bad
    theirs = weights(cut)
    assert all(np.array_equal(value, theirs[name]) for name, value in weights(whole).items())


def test_two_share_a_batch_and_train_as_one_does(tmp_path):
    """Statistics of each one's share are others: each has a share, and not all."""

    def loss(out, *arguments, count=2):
        how = "--model", "resnet18:width=2:stem=cifar", "--optimizer", "sgd", "--epochs", 1
        done = trained(*how, "--batch-size", 100, *arguments, "--out", out, count=count)
        assert [status for status, *_ in done] == [0] * count, done
        return json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["loss"]

    one = loss(tmp_path / "one", count=1)
    assert loss(tmp_path / "two") == pytest.approx(one, rel=NEAR)
    local = loss(tmp_path / "local", "--batch-norm", "local")
    assert abs(local - one) > 10 * NEAR * one
    assert json.loads((tmp_path / "two" / "config.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("variable", "value"), [("RANK", "x"), ("RANK", "5"), ("WORLD_SIZE", "0"), ("RANK", "-1")]
)
def test_a_senseless_variable_is_named(variable, value, monkeypatch):
    for name, usual in (("RANK", "0"), ("WORLD_SIZE", "2"), (variable, value)):
        monkeypatch.setenv(name, usual)
    with pytest.raises(InputError, match=f"the variable {variable} is '{value}'"), joined():
        pass


def test_one_that_waits_for_the_others_can_be_ended():
    with processes("--epochs", 1, count=1, world=2) as made:
        time.sleep(LOADED)
        made[0].send_signal(signal.SIGTERM)
        ((status, _, told),) = ended(made)
    assert status == 130 and told.count("\n") == 1 and told.startswith("interrupted")


@pytest.mark.proof
def test_a_stop_is_of_both_and_said_once(tmp_path):
    out = tmp_path / "out"
    with processes("--epochs", 50, "--checkpoint-every", 0.2, "--out", out) as made:
        wait_for(out / CHECKPOINT, made[0])
        made[1].send_signal(signal.SIGINT)
        (first, _, told), (second, *silence) = ended(made)
    assert (first, second, silence) == (130, 130, ["", ""])
    assert told.startswith("interrupted: saved at step") and told.count("\n") == 1


def test_a_full_disk_is_told_by_the_first_alone(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(FULL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (first, _, told), (second, *silence) = trained("--out", tmp_path / "out")
    assert (first, second, silence) == (2, 2, ["", ""])
    assert "checkpoints take up to" in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_all_of_them_train_the_same(tmp_path):
    out = tmp_path / "out"
    with processes("--out", out, each=((), ("--seed", "1"))) as made:
        (first, _, told), (second, *silence) = ended(made)
    assert (first, second, silence) == (2, 2, ["", ""])
    assert "train different things" in told and told.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--out", "."], "is not empty"),
        (["--batch-size", "4"], "the last batch of an epoch has 1 images, not one for each of 2"),
        (["--resume", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_said_by_one(arguments, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("kept").touch()
    (first, said, told), (second, *others) = trained(*arguments)
    assert first == second == 2
    assert problem in told and told.count("\n") == 1, told + said
    if "nowhere" not in arguments:  # what an option alone says, each of them reads
        assert others == ["", ""]
    assert os.listdir() == ["kept"]
