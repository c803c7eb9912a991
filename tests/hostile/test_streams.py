"""Standard streams that are closed or full."""

import os
import signal
import subprocess
import sys

import pytest

PARITY = f"{sys.executable} -m parity"


def told(command: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a shell's command."""
    # As on most machines: unbuffered, a stream fails at another place.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    shell = ["sh", "-c", command]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=120, env=env)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "command, status, lines",
    [
        ("list >&-", 0, 0),
        ("list >/dev/full", 2, 1),
        ("--help >/dev/full", 2, 1),
        ("convert --nope", 2, 1),
        ("convert --nope 2>&-", 2, 0),
        ("convert --nope 2>/dev/full", 2, 0),
        ("convert a b --model resnet20 2>/dev/full", 2, 0),
        ("convert a b --model resnet20 >&- 2>&-", 2, 0),
    ],
)
def test_the_status_is_right_and_one_line_is_told(command, status, lines):
    code, out, error = told(f"{PARITY} {command}")
    assert (code, error.count("\n")) == (status, lines), error
    assert "error:" not in out and "Traceback" not in error


def test_an_unexpected_error_is_one_line_and_a_file(tmp_path):
    code = (
        "import sys; from parity.shell import cli; from parity.shell.options import ListOptions\n"
        "def work(options): raise KeyError('a\\nb\\x1b')\n"
        "sys.argv[1:] = []; cli.run(work, ListOptions)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"TMPDIR": str(tmp_path)}
    )
    (file,) = tmp_path.iterdir()
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr
    assert "KeyError" in done.stderr and str(file) in done.stderr
    assert "in work" in file.read_text()


def test_ctrl_c_while_modules_are_loaded_ends_the_process_without_a_word():
    code = (
        "import os, signal, sys, time, types\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job may ignore it
        "import parity\n"
        "parity.program = sys.modules['parity.program'] = types.ModuleType('parity.program')\n"
        "parity.program.run = lambda _: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60))\n"
        "from parity.__main__ import entry\n"
        "entry()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
