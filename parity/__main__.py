"""The command: `python -m parity run`, `python -m parity list`."""

import importlib.util
from typing import Annotated

import tyro

from jax_impl.errors import InputError
from parity import cli
from parity.options import MODELS, RUNG_PURPOSES, ListOptions, RunOptions

Options = (
    Annotated[RunOptions, tyro.conf.subcommand("run")]
    | Annotated[ListOptions, tyro.conf.subcommand("list")]
)


def main(options: RunOptions | ListOptions) -> int:
    """Returns the exit status."""
    if isinstance(options, ListOptions):
        print("models:", *MODELS)
        print("rungs:")
        for rung, purpose in RUNG_PURPOSES.items():
            print(f"  {rung:12} {purpose}")
        return 0
    if not importlib.util.find_spec("torch"):
        raise InputError("PyTorch is not installed: pip install 'jax-torch-parity[torch]'")
    from parity.run import run  # here, so that a typo is told before the frameworks are loaded

    return run(options)


if __name__ == "__main__":
    cli.run(main, Options, prog="python -m parity")
