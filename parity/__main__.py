"""The command: `python -m parity run`, `python -m parity speed`, `python -m parity list`."""

import dataclasses
import importlib.util
from typing import Annotated

import tyro

from jax_impl import registry
from jax_impl.errors import InputError
from parity import cli
from parity.options import RUNG_PURPOSES, ListOptions, RunOptions, SpeedOptions
from parity.recipes import chosen_model

Options = (
    Annotated[RunOptions, tyro.conf.subcommand("run")]
    | Annotated[SpeedOptions, tyro.conf.subcommand("speed")]
    | Annotated[ListOptions, tyro.conf.subcommand("list")]
)


def main(options: RunOptions | SpeedOptions | ListOptions) -> int:
    """Returns the exit status."""
    if isinstance(options, ListOptions) and not options.table:
        print("models, with their options:")
        for name, entry in registry.MODELS.items():
            print(f"  {name:16}", *(field.name for field in dataclasses.fields(entry.options)))
        print("rungs:")
        for rung, purpose in RUNG_PURPOSES.items():
            print(f"  {rung:12} {purpose}")
        return 0
    if not importlib.util.find_spec("torch"):
        raise InputError("PyTorch is not installed: pip install 'jax-torch-parity[torch]'")
    if isinstance(options, ListOptions):
        from parity.family import table

        print(table())
        return 0
    if isinstance(options, SpeedOptions):
        from parity.speed import command

        return command.run(options)
    for text in options.models:
        chosen_model(text)
    from parity.run import run  # here, so that a typo is told before the frameworks are loaded

    return run(options)


if __name__ == "__main__":
    cli.run(main, Options, prog="python -m parity")
