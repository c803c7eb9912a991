"""What the processes that `torchrun` started agree on while they train together."""

import sys
from collections.abc import Callable
from typing import TypeVar

import jax_impl.errors
import torch_ref.errors
from parity.shell.cli import BAD_INPUT
from parity.shell.run_directory import RunDirectory
from parity.shell.saving import way_on
from torch_ref.distributed import Processes
from torch_ref.errors import InputError

T = TypeVar("T")


def agreed(processes: Processes, work: Callable[[], T]) -> T:
    """What `work` gives, once it has succeeded in every process.

    Raises:
        InputError: that of the first process in which it did not; the others exit in silence.
    """
    if processes.count == 1:
        return work()
    found, problem = None, None
    try:
        found = work()
    except (torch_ref.errors.InputError, jax_impl.errors.InputError) as error:
        problem = error
    failed = [rank for rank, bad in enumerate(processes.gathered(problem is not None)) if bad]
    if not failed:
        return found  # pyright: ignore[reportReturnType]
    if problem is None or failed[0] != processes.rank:
        raise SystemExit(BAD_INPUT)
    raise problem


def check_alike(processes: Processes, of: str) -> None:
    """Whether all of them were asked for the same training, which `of` tells from others.

    Raises:
        InputError: in the first one. The others exit in silence.
    """
    found = processes.gathered(of)

    def work() -> None:
        if len({*found}) > 1:
            raise InputError(
                "the processes of torchrun train different things: give all of them the same "
                "options and data"
            )

    agreed(processes, work)


def lost_another(processes: Processes, directory: RunDirectory | None = None) -> int:
    """Says, in every process that is left, that another is gone; the exit status.

    The first one may be the one that is gone.
    """
    way = "train anew" if directory is None else way_on(directory)
    print(
        f"process {processes.rank} STOPPED: another process of this training is gone; {way} "
        "(with torchrun, as before)",
        file=sys.stderr,
    )
    return 1
