"""`parity train --coordinator`: one training by several processes, as on many hosts."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from speed_support import gone
from training_support import rows

from jax_impl.errors import InputError
from jax_impl.training import hosts
from parity.ladder.workers.task import free_port
from parity.program import _options, main
from parity.shell import cli
from parity.shell.run_directory import CHECKPOINTS, WEIGHTS

NET = "--model", "simple_cnn:channels=2,2:hidden=8", "--data", "digits", "--batch-size", "100"
WITHIN = 60
"""Seconds in which the others have to stop."""


@contextlib.contextmanager
def heard():
    """What is started inside answers Ctrl-C, also where tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def processes(*arguments, count=2, devices=1, each=((), ())):
    """The processes, which are killed at the end; `each` has more options of its own."""
    where = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "parity", "train", *map(str, (*NET, *arguments))]
    command += ["--coordinator", where, "--num-processes", str(count), "--process-id"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with heard():
        made = [
            subprocess.Popen([*command, str(n), *map(str, each[n])], env=environment, **pipes)
            for n in range(count)
        ]
    try:
        yield made
    finally:
        for process in made:
            end(process)
            process.communicate()


def children(process):
    """The process that is watched, if it is there."""
    with contextlib.suppress(OSError):
        return [
            *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        ]
    return []


def end(process):
    """As when a host is switched off."""
    for pid in [*children(process), process.pid]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def ended(made):
    """Of each process its status, and what it printed to both."""
    texts = [process.communicate(timeout=240) for process in made]
    return [(process.returncode, *text) for process, text in zip(made, texts, strict=True)]


def trained(*arguments, **how):
    with processes(*arguments, **how) as made:
        return ended(made)


def wait_for(folder, process, count=1):
    """Until so many checkpoints are there."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if sum(path.name.isdecimal() for path in folder.iterdir()) >= count:
                return
        time.sleep(0.01)


def same_weights(one, other):
    a, b = (safetensors.numpy.load_file(run / WEIGHTS) for run in (one, other))
    assert all(np.array_equal(value, b[name]) for name, value in a.items())


def test_one_that_is_killed_ends_the_other_and_the_training_goes_on(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    how = "--epochs", 3, "--checkpoint-every", 0.2
    (first, said, bad), (second, *silence) = trained(*how, "--out", whole)
    assert (first, bad) == (0, "") and "on 2 of cpu, 2 processes" in said, (said, bad)
    assert second == 0 and silence == ["", ""], "the second one says nothing"
    assert json.loads((whole / "config.json").read_text())["processes"] == 2
    with processes(*how, "--out", cut) as made:
        wait_for(cut / CHECKPOINTS, made[0])
        end(made[1])
        began = time.monotonic()
        status, _, told = ended(made)[0]
        assert time.monotonic() - began < WITHIN
    assert status == 1 and not (cut / WEIGHTS).exists()
    assert told.count("\n") == 1, told
    assert "process 0 STOPPED: another process of this training is gone; go on from its" in told
    assert told.endswith(f"by: parity train --resume {cut}\n")
    (status, said, bad), _ = trained("--resume", cut)
    assert (status, bad) == (0, ""), bad
    assert "going on at step" in said
    same_weights(whole, cut)
    assert [r for r in rows(cut) if "loss" in r][-1]["loss"] == rows(whole)[-2]["loss"]


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(10))
def test_a_host_that_is_lost_at_any_time(seed, tmp_path):
    """Either one, after some checkpoint and a moment; then on one process, with both devices."""
    rng = random.Random(seed)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    how = "--epochs", 12, "--checkpoint-every", 0.2  # not over before it is lost
    trained(*how, "--out", whole)
    lost = rng.randrange(2)
    with processes(*how, "--out", cut) as made:
        wait_for(cut / CHECKPOINTS, made[0], rng.randrange(1, 3))
        time.sleep(rng.uniform(0, 0.5))
        end(made[lost])
        began = time.monotonic()
        status, _, told = ended(made)[1 - lost]
        assert time.monotonic() - began < WITHIN
    assert status == 1 and told.count("\n") == 1, (status, told)
    assert f"process {1 - lost} STOPPED: another process of this training is gone" in told
    done = trained("--resume", cut)
    assert [status for status, *_ in done] == [0, 0], done
    same_weights(whole, cut)


@pytest.mark.proof
def test_a_checkpoint_of_two_processes_goes_on_on_other_numbers_of_devices(tmp_path):
    run = tmp_path / "run"
    trained("--epochs", 2, "--keep", 2, "--out", run, devices=4)
    first, last = sorted((run / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    for devices in (1, 2, 4):
        copy = tmp_path / f"on-{devices}"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns(last.name, WEIGHTS))
        line = [sys.executable, "-m", "parity", "train", "--resume", str(copy)]
        subprocess.run(
            [*line, "--mesh", f"data={devices}"],
            check=True,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        )
        assert rows(copy)[-2]["loss"] == pytest.approx(rows(run)[-2]["loss"], rel=1e-5)


def test_ctrl_c_of_one_stops_and_saves_all(tmp_path):
    with processes("--epochs", 500, "--out", tmp_path / "run") as made:
        wait_for(tmp_path / "run" / CHECKPOINTS, made[0])
        made[1].send_signal(signal.SIGINT)
        (first, _, told), (second, *silence) = ended(made)
    assert (first, second) == (130, 130)
    assert re.fullmatch(
        r"interrupted: saved at step [\d,]+; go on by: parity train --res.*\n", told
    )
    assert silence[1].count("\n") <= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_waits_for_the_others_says_so_and_can_be_stopped(number, tmp_path):
    where = f"127.0.0.1:{free_port()}"
    line = [sys.executable, "-m", "parity", "train", *NET, "--out", str(tmp_path / "run")]
    line += ["--coordinator", where, "--num-processes", "2", "--process-id", "0"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with heard():
        process = subprocess.Popen(line, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "process 0 waits for the others\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    by = ": by SIGTERM" if number == signal.SIGTERM else ""
    assert (process.returncode, told) == (130, f"interrupted{by}\n")
    assert not (tmp_path / "run").exists()


def test_nobody_is_left_when_the_watcher_is_killed(tmp_path):
    """Nor is there anything on stderr but a line."""
    with processes("--epochs", 500, "--out", tmp_path / "run") as made:
        wait_for(tmp_path / "run" / CHECKPOINTS, made[0])
        (worker,) = children(made[0])
        made[0].kill()
        (_, _, told), (second, *silence) = ended(made)
        assert told.startswith("interrupted: by SIGTERM; saved at") and told.count("\n") == 1
        assert second == 130 and silence == ["", ""]
        assert gone(worker)


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        where = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match="cannot listen at that port .*give all of them anoth"):
            hosts.join(where, 2, 0)


@pytest.mark.parametrize("host", ["nosuch.invalid", "a b"])
def test_no_such_host(host):
    with pytest.raises(InputError, match=f"--coordinator {host}:2345: no such host"):
        hosts.join(f"{host}:2345", 2, 1)


def test_a_process_that_is_told_something_else(tmp_path):
    each = ("--lr", 0.1), ("--lr", 0.2)
    done = trained("--out", tmp_path / "run", each=each)
    assert [status for status, *_ in done] == [2, 2]
    told = "".join(bad for *_, bad in done)
    assert "train different things" in told and told.count("\n") == 1, told
    assert not (tmp_path / "run").exists()


def test_a_mesh_of_some_of_the_devices(tmp_path):
    done = trained("--mesh", "data=1", "--out", tmp_path / "run")
    assert [status for status, *_ in done] == [2, 2]
    told = "".join(bad for *_, bad in done)
    assert "2 processes train on all of their 2 devices" in told and told.count("\n") == 1, told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--coordinator", "here"), "give HOST:PORT, or auto"),
        (("--coordinator", "here:0"), "give HOST:PORT, or auto"),
        (("--coordinator", "here:1234"), "give --num-processes, 1 or more"),
        (("--coordinator", "here:1234", "--num-processes", "2"), "give --process-id, 0 to 1"),
        (
            ("--coordinator", "here:1234", "--num-processes", "2", "--process-id", "2"),
            "give --process-id, 0 to 1",
        ),
        (("--process-id", "1"), "--process-id: it goes with --coordinator HOST:PORT"),
        (("--coordinator", "auto", "--num-processes", "2"), "--num-processes: it goes with"),
        (("--coordinator", "auto", "--framework", "torch"), "PyTorch's processes are torchrun's"),
        (("--coordinator", "auto", "--at-once", "2"), "on many hosts trainings go one at a time"),
    ],
)
def test_what_cannot_be_asked(given, told, tmp_path):
    line = ["train", *NET, *given, "--out", str(tmp_path / "run")]
    with pytest.raises(InputError, match=re.escape(told)):
        main(cli.parse(_options(line), line, prog="parity"), line)
    assert not (tmp_path / "run").exists()


def test_no_cluster_says_who_is_who(tmp_path):
    line = [sys.executable, "-m", "parity", "train", *NET, "--coordinator", "auto"]
    done = subprocess.run([*line, "--out", str(tmp_path / "r")], capture_output=True, text=True)
    assert done.returncode == 2 and "did not meet by what a cluster says" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "r").exists()


def test_slurm_says_who_is_who(tmp_path):
    """By its variables, of which the job's number makes the port."""
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost"}
    slurm |= {"SLURM_NTASKS": "2", "JAX_NUM_CPU_DEVICES": "1"}
    line = [sys.executable, "-m", "parity", "train", *NET, "--epochs", "1"]
    line += ["--coordinator", "auto", "--out", str(tmp_path / "run")]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    made = [
        subprocess.Popen(
            line,
            env=os.environ | slurm | {"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)},
            **pipes,
        )
        for n in range(2)
    ]
    (first, said, bad), (second, *silence) = ended(made)
    assert (first, second) == (0, 0), bad
    assert "2 processes" in said and silence == ["", ""]
