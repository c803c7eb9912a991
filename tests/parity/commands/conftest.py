"""A small trained net, for the commands that use one."""

import dataclasses
from pathlib import Path

import jax
import pytest

import parity.program
from parity.commands import train_torch
from parity.shell import cli
from parity.shell.options import TrainOptions

SMALL = "simple_cnn:channels=4,6:hidden=16"


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The run directory of a training in PyTorch on digits, whose net is mostly right."""
    out = tmp_path_factory.mktemp("trained") / "run"
    small = TrainOptions("torch", model=SMALL, data="digits", epochs=3, lr=5e-3, out=out)
    assert train_torch.run(dataclasses.replace(small, checkpoint_every=0.0)) == 0
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
