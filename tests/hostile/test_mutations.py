"""Files that storage, tools or attackers have changed: read rightly, or refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.formats import FORMATS

ROOT = Path(__file__).resolve().parents[2]


GROUPS = (
    ("tar", "packed", "pickle", "prepared"),
    ("zip", "inside of zip", "legacy", "safetensors", "orbax"),
)
"""The formats, those of data and those of weights: a process loads what reads them."""


def check(names: tuple[str, ...], count: int, seed: int, seconds: int) -> None:
    """So many changes of each format end well."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    command = [sys.executable, "-m", "hostile.mutations", str(count), str(seed), *names]
    # Each thread of the C library's own heap would count as memory.
    env = os.environ | {"PYTHONPATH": paths, "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    problems = [line for line in lines if "problem" in line]
    assert not problems, f"{len(problems)} problems, the first {problems[0]}"
    assert (done.returncode, done.stderr) == (0, "")
    assert tuple(line["format"] for line in lines) == names
    for line in lines:
        assert sum(line["tally"].values()) >= count, line
        assert line["tally"]["refused"] > count / 10, line


def test_every_format_is_in_a_group():
    assert sorted(sum(GROUPS, ())) == sorted(FORMATS)


@pytest.mark.parametrize("names", GROUPS, ids=["data", "weights"])
def test_500_changes(names):
    check(names, 500, seed=0, seconds=600)


@pytest.mark.proof
@pytest.mark.parametrize("name", FORMATS)
def test_20_000_changes(name):
    check((name,), 20_000, seed=1, seconds=7200)
