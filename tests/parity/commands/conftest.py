"""A small trained net, for the commands that use one."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

import parity.program
from parity.shell import cli

SMALL = "simple_cnn:channels=4,6:hidden=16"


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The run directory of a training on digits, whose net is mostly right."""
    out = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "-m", "parity", "train", "--model", SMALL, "--data", "digits"]
    command += ["--epochs", "3", "--lr", "0.005", "--checkpoint-every", "0", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture
def parity_command(capfd, monkeypatch):
    """`(arguments) -> (exit status, stdout, stderr)` of a command in this process.

    The precision of products, which commands pin, is put back.
    """
    before = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]

    def command(*arguments: object) -> tuple[object, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.run(
                parity.program.main,
                parity.program.Options,
                args=[str(argument) for argument in arguments],
                prog="parity",
            )
        return (stop.value.code, *capfd.readouterr())

    yield command
    jax.config.update("jax_default_matmul_precision", before)
