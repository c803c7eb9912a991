"""Runs that are killed at random times, and go on as if nothing had been; `make proof` kills."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_support import assert_same

KILLS = 20
RUN = [
    *(
        "train",
        "--model",
        "simple_cnn:channels=4,4:hidden=64",
        "--data",
        "digits",
        "--epochs",
        "60",
    ),
    *("--batch-size", "16", "--augment", "crop", "flip", "cutout", "--ema", "0.99"),
    *("--schedule", "cosine", "--checkpoint-every", "0.2", "--keep", "2", "--device", "cpu"),
]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "parity", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("framework", "number"),
    [("jax", signal.SIGKILL), ("torch", signal.SIGKILL), ("jax", signal.SIGTERM)],
)
def test_a_run_that_is_killed_again_and_again(framework, number, tmp_path):
    """The weights and the metrics are bit for bit those of the run that nothing happened to."""
    given = [*RUN, "--framework", framework]
    if framework == "jax":
        given += ["--random", "jax"]
    began = time.monotonic()
    whole = start(*given, "--out", str(tmp_path / "whole"))
    assert whole.wait() == 0
    rng, out, kills = random.Random(0), tmp_path / "run", 0
    each = 1.5 * (time.monotonic() - began) / KILLS
    arguments = [*given, "--out", str(out)]
    while kills < KILLS:
        process = start(*arguments)
        # Not before it has begun to train, or it would be started for ever.
        while "run directory" not in (line := process.stdout.readline() if process.stdout else ""):
            assert line, process.wait()
        time.sleep(rng.uniform(0, 2 * each))
        process.send_signal(number)
        text, _ = process.communicate()
        if process.returncode == 0:
            break  # it was over before
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), text
        kills += 1
        if any(saved(out)):
            arguments = ["train", "--resume", str(out)]
        else:
            shutil.rmtree(out)
    done = start("train", "--resume", str(out))
    assert done.wait() == 0
    assert kills >= 10
    assert_same(out, tmp_path / "whole")


def saved(out: Path) -> list[Path]:
    return [p for p in (*out.glob("checkpoints/*"), out / "checkpoint.pt")
            if p.name.isdecimal() or p.is_file()]  # fmt: skip
