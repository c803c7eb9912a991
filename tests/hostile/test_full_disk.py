"""A disk that fills up during training costs no checkpoint; `make proof` fills it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_support import assert_same

from hostile.full_disk import RUN
from hostile.processes import start

ROOT = Path(__file__).resolve().parents[2]


def own_mounts() -> bool:
    """Whether a process here may mount a disk of its own, in memory."""
    try:
        return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module", params=["jax", "torch"])
def whole(request, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(*RUN, "--framework", request.param, "--out", str(out))
    assert process.communicate()[1] == "" and process.returncode == 0
    return request.param, out


@pytest.mark.proof
@pytest.mark.skipif(not own_mounts(), reason="a process may not mount a disk of its own here")
@pytest.mark.parametrize("free", [0, 4096, 16_384, 65_536, 150_000, 300_000, 600_000])
def test_a_full_disk_costs_no_checkpoint(free, whole, tmp_path):
    """The run says so in one line, and goes on to the same bits when there is room again."""
    framework, kept = whole
    (tmp_path / "disk").mkdir()
    command = ["unshare", "-rm", sys.executable, "-m", "hostile.full_disk"]
    done = subprocess.run(
        [*command, str(tmp_path / "disk"), str(free), framework],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (status, output, errors), (again, more, other) = json.loads(done.stdout)
    assert status in (0, 2) and errors.count("\n") == (status == 2), done.stdout
    assert errors == "" or errors.startswith("error: "), errors
    assert free > 300_000 or "No space left on device" in output + errors, done.stdout
    assert (again, other) == (0, "") and "of no use" not in more, done.stdout
    assert_same(tmp_path / "disk-kept", kept)
