"""What processes that train together agree on: those of `torchrun`, or JAX's on many hosts."""

import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax_impl.errors
import torch_ref.errors
from parity.shell.cli import BAD_INPUT
from parity.shell.run_directory import RunDirectory
from parity.shell.saving import way_on
from parity.shell.watched import another_gone

T = TypeVar("T")


class Processes(Protocol):
    """How many train together, which of them this one is, from 0, and what they tell each other."""

    @property
    def count(self) -> int:
        """So many."""
        ...

    @property
    def rank(self) -> int:
        """From 0."""
        ...

    def gathered(self, value: Any) -> list[Any]:
        """What each of them gives, by rank."""
        ...


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
            raise jax_impl.errors.InputError(
                "the processes train different things: give all of them the same options and data"
            )

    agreed(processes, work)


def lost_another(processes: Processes, directory: RunDirectory | None = None, how: str = "") -> int:
    """Says, in every process that is left, that another is gone; the exit status.

    The first one may be the one that is gone. `how` is added to what goes on with the training.
    """
    way = "train anew" if directory is None else way_on(directory)
    print(f"{another_gone(processes.rank, way)}{how}", file=sys.stderr)
    return 1
