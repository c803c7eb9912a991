"""Which data a run uses, and why. Imports no framework."""

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Literal

from jax_impl.data import datasets
from jax_impl.errors import InputError
from parity.shell import prepare


@dataclasses.dataclass(frozen=True)
class Choice:
    """The data set of a run, and in one line for the user why it is that one."""

    name: Literal["cifar10", "digits"]
    reason: str


def resolve(
    wanted: Literal["auto", "cifar10", "digits"],
    data_dir: Path | None = None,
    log: prepare.Log = print,
) -> Choice:
    """The data set to use, prepared if need be.

    "auto" and "cifar10" take CIFAR-10 as prepared in the data directory, else from the archive
    that $CIFAR10_ARCHIVE names, else by a download. Without any of them "auto" takes the digits.

    Raises:
        InputError: CIFAR-10 cannot be had though it was asked for, or what is there is unusable.
    """
    if wanted == "digits":
        return Choice("digits", "data: digits, as asked")
    directory = datasets.data_directory(data_dir)
    try:
        prepared = prepare.find(directory) or _prepare_for_run(directory, log)
    except prepare.NoNetwork as error:
        if wanted == "cifar10":
            raise
        return Choice("digits", f"data: digits; no CIFAR-10 in {directory}, and {error}")
    told = f"data: CIFAR-10, prepared in {directory} from {prepared.source}"
    if not prepared.official:
        told += ", whose checksum is not a published one"
    archive = os.environ.get("CIFAR10_ARCHIVE")
    if archive and os.path.abspath(archive) != os.path.abspath(prepared.source):
        way = f"parity prepare --overwrite --archive {shlex.quote(archive)}"
        told += f"; CIFAR10_ARCHIVE is another, and not read: {way} puts it in its place"
    return Choice("cifar10", told)


def _prepare_for_run(directory: Path, log: prepare.Log) -> prepare.Prepared:
    """Prepares from the archive that the environment names, or else by a download."""
    archive = os.environ.get("CIFAR10_ARCHIVE")
    if not archive:
        return prepare.prepare(directory, log=log)
    try:
        return prepare.prepare(directory, Path(archive), log=log)
    except InputError as error:
        raise InputError(f"CIFAR10_ARCHIVE: {error}") from error
