"""Processes of their own: the harnesses of this folder, which print JSON lines, and `parity`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def lines_of(module: str, *arguments: str, seconds: int) -> list[dict[str, Any]]:
    """What `python -m module` prints; a problem among it, a word on stderr or a failure fails."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    # Each thread of the C library's own heap would count as memory.
    env = os.environ | {"PYTHONPATH": paths, "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    problems = [line for line in lines if "problem" in line]
    assert not problems, f"{len(problems)} problems, the first {problems[0]}"
    assert (done.returncode, done.stderr) == (0, "")
    return lines


def start(*arguments: str) -> subprocess.Popen[str]:
    """`parity` with these arguments, and pipes to close."""
    command = [sys.executable, "-m", "parity", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> None:
    """As it should; its pipes are closed."""
    text = process.communicate()
    assert process.returncode == 0, text


def saved(out: Path) -> list[Path]:
    """The whole checkpoints of a run."""
    found = [*out.glob("checkpoints/*"), out / "checkpoint.pt"]
    return [path for path in found if path.name.isdecimal() or path.is_file()]
