"""The arithmetic of the benchmarks' summaries; their runs are long and not repeated here."""

import runpy
import subprocess

import pytest

accuracy = runpy.run_path("benchmarks/accuracy.py", run_name="benchmark")


def runs(ours: list[float], theirs: list[float], loss: float = 0.5) -> list[dict]:
    found = []
    for seed, (first, second) in enumerate(zip(ours, theirs, strict=True)):
        found.append({"seed": seed, "framework": "JAX", "accuracy": first, "losses": [1.0, loss]})
        found.append(
            {"seed": seed, "framework": "PyTorch", "accuracy": second, "losses": [1.0, 0.5]}
        )
    return found


@pytest.mark.parametrize(
    "found, passed",
    [
        (runs([0.73, 0.75], [0.74, 0.74]), True),
        (runs([0.73, 0.75], [0.74, 0.74], loss=0.53), False),
        (runs([0.755, 0.755], [0.744, 0.744]), False),
        (runs([0.77, 0.77], [0.765, 0.765]), False),
    ],
)
def test_the_accuracy_bars(found, passed):
    summary = accuracy["summarise"](found)
    assert summary["passed"] is passed
    environment = {"command": "c", "commit": "a", "device": "cpu", "cpu": "x", "cores": 2}
    text = accuracy["to_markdown"](environment, summary, found)
    assert ("PASSED" if passed else "FAILED") in text
    assert text.count("| JAX |") == 2


def test_an_unknown_gpu_step_is_bad_input():
    command = ["bash", "benchmarks/gpu.sh", "tpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: no step named tpu: choose one of checks, cnn, resnet\n"
