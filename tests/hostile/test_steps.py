"""Work that is killed, failed, interrupted or out of space at each of its steps in turn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.subjects import SUBJECTS

ROOT = Path(__file__).resolve().parents[2]


GROUPS = ("pth", "safetensors", "report", "run", "written"), ("orbax",), ("prepared",)


def test_every_subject_is_in_a_group():
    assert sorted(sum(GROUPS, ())) == sorted(SUBJECTS)


@pytest.mark.parametrize("names", GROUPS, ids=["files", "orbax", "prepared"])
def test_the_old_or_the_new_is_whole(names):
    if "prepared" in names:
        pytest.importorskip("tensorflow_datasets")
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    command = [sys.executable, "-m", "hostile.steps", *names]
    env = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    problems = [line for line in lines if "problem" in line]
    assert not problems, f"{len(problems)} problems, the first {problems[0]}"
    assert (done.returncode, done.stderr) == (0, "")
    assert tuple(line["subject"] for line in lines) == names
    assert all(line["stops"] > 15 for line in lines)
