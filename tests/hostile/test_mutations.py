"""Files that storage, tools or attackers have changed: read rightly, or refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.formats import FORMATS

ROOT = Path(__file__).resolve().parents[2]


def told(name: str, count: int, seed: int, seconds: int) -> dict[str, int]:
    """The tally of so many changes, all of them well."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    command = [sys.executable, "-m", "hostile.mutations", name, str(count), str(seed)]
    # Each thread of the C library's own heap would count as memory.
    env = os.environ | {"PYTHONPATH": paths, "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    problems = [line for line in lines if "problem" in line]
    assert not problems, f"{len(problems)} problems, the first {problems[0]}"
    assert (done.returncode, done.stderr) == (0, "")
    tally = lines[-1]["tally"]
    assert sum(tally.values()) >= count and tally["refused"] > count / 10
    return tally


@pytest.mark.parametrize("name", FORMATS)
def test_500_changes(name):
    told(name, 500, seed=0, seconds=300)


@pytest.mark.proof
@pytest.mark.parametrize("name", FORMATS)
def test_20_000_changes(name):
    told(name, 20_000, seed=1, seconds=7200)
