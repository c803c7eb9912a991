"""Runs that are killed at random times, and go on as if nothing had been; `make proof` kills."""

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from training_support import assert_same

from hostile.processes import ended, saved, start

KILLS = 20
RUN = [
    *("train", "--model", "simple_cnn:channels=4,4:hidden=64", "--data", "digits"),
    *("--epochs", "90"),
    *("--batch-size", "16", "--augment", "crop", "flip", "cutout", "--ema", "0.99"),
    *("--schedule", "cosine", "--checkpoint-every", "0.2", "--keep", "2", "--device", "cpu"),
]


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
    ended(start(*given, "--out", str(tmp_path / "whole")))
    rng, out = random.Random(0), tmp_path / "run"
    arguments = [*given, "--out", str(out)]
    for _ in range(KILLS):
        process = start(*arguments)
        killed_at_random(process, out, number, rng)
        text, _ = process.communicate()
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), text
        if any(saved(out)):
            arguments = ["train", "--resume", str(out)]
        else:
            shutil.rmtree(out)
    ended(start("train", "--resume", str(out)))
    assert_same(out, tmp_path / "whole")


def killed_at_random(
    process: subprocess.Popen[str], out: Path, number: int, rng: random.Random
) -> None:
    """Within an epoch after up to two more, or in the second after the training has begun."""
    while "run directory" not in (line := process.stdout.readline() if process.stdout else ""):
        assert line, process.wait()
    began, more = epochs(out), rng.randrange(3)
    while more and epochs(out) < began + more and process.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.2 if more else 1))
    process.send_signal(number)


def epochs(out: Path) -> int:
    """So many are over."""
    path = out / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0
