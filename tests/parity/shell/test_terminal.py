"""What is told on a terminal, where tyro colours what it says."""

import os
import pty
import subprocess
import sys

import pytest


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """The status, and what stdout and stderr show on one terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "parity", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color"},
        )
    finally:
        os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 10_000)
        except OSError:  # Linux says so that nobody has the other end any more
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["train", "--modle", "x"],
            "error: Unrecognized options: --modle, x; perhaps you meant --model or --mode",
        ),
        (
            ["train", "--framework", "trch"],
            "error: no 'trch' for --framework: choose one of jax, torch; perhaps you meant torch",
        ),
        (["trian"], "error: Unrecognized options: trian; "),
        (["train", f"--x{'c' * 300}\x1b[31m"], f"error: Unrecognized options: --x{'c' * 70}"),
    ],
    ids=["option", "choice", "command", "long and coloured"],
)
def test_a_mistake_on_a_terminal_is_one_plain_line(arguments, told):
    status, shown = on_a_terminal(*arguments)
    assert status == 2 and shown.count("\n") == 1 and shown[:-1].isprintable(), shown
    assert shown.startswith(told) and shown.endswith(" (--help lists the options)\n")
    assert len(shown) < 400 and "x1b" not in shown and not {"\u2502", "\u2500"} & {*shown}


@pytest.mark.parametrize("value", ["many", "\x1b[31m4"])
def test_a_terminal_and_a_pipe_are_told_the_same(value):
    _, shown = on_a_terminal("train", "--epochs", value)
    command = [sys.executable, "-m", "parity", "train", "--epochs", value]
    assert shown == subprocess.run(command, capture_output=True, text=True).stderr
