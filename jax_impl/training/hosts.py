"""Training on many hosts: a process on each, which JAX's distributed runtime joins to one.

Every process runs the same program on its own devices, and all of them together are the devices of
one mesh: https://docs.jax.dev/en/latest/multi_process.html
"""

import contextlib
import dataclasses
import json
import math
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jax_impl.errors import InputError, one_line, silent_logs

PATIENCE = 300
"""Seconds in which all processes have to come."""
HEARTBEAT = 30
"""Seconds without a sign of life after which a process counts as gone."""
WAIT = 3.0
"""Seconds after which it is told that others are waited for."""
LEAVE = 3.0
"""Seconds in which all leave together; who is there alone then is a process that is lost."""
_met = threading.Event()


@dataclasses.dataclass(frozen=True)
class Hosts:
    """How many processes train together, and which of them this one is, from 0."""

    count: int = 1
    rank: int = 0

    def any(self, flag: bool) -> bool:
        """Whether it is so in any of them; each has to ask."""
        return flag if self.count == 1 else bool(np.any(_gathered(np.array([flag]))))

    def gathered(self, value: Any) -> list[Any]:
        """What each of them gives, by rank; anything that JSON takes."""
        if self.count == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = _gathered(np.array([len(text)], np.int32))[:, 0]
        rows = _gathered(np.pad(text, (0, int(sizes.max()) - len(text))))
        return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


ALONE = Hosts()


def join(
    coordinator: str | None,
    count: int | None = None,
    rank: int | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Hosts:
    """Meets the other processes, before anything is computed.

    Args:
        coordinator: "HOST:PORT" at which the first process listens; "auto" where the cluster says
            it, and how many there are: Slurm, Open MPI, Kubernetes, or a TPU pod. None is alone.
        count: processes in all, by an address.
        rank: of this one, from 0, by an address.
        on_wait: is called if the others are not there after `WAIT` seconds.

    Raises:
        InputError: they cannot be met.
    """
    if coordinator is None:
        return ALONE
    # SIGTERM is for whoever trains to answer, and not for the runtime.
    jax.config.update("jax_enable_preemption_service", False)
    told: dict[str, Any] = {}
    if coordinator != "auto":
        _check_address(coordinator, rank == 0)
        told = {"coordinator_address": coordinator, "num_processes": count, "process_id": rank}
    problem = f"--coordinator {coordinator}: the processes did not meet"
    if coordinator == "auto":
        problem += " by what a cluster says; or give HOST:PORT, --num-processes, --process-id"
    try:
        with silent_logs():
            _in_a_thread(partial(_initialize, told), on_wait)
    # The runtime, and the readers of the clusters' variables, raise errors of many types.
    except Exception as error:
        raise InputError(f"{problem} ({one_line(error, 200)})") from error
    _met.set()
    return Hosts(jax.process_count(), jax.process_index())


def _initialize(told: dict[str, Any]) -> None:
    jax.distributed.initialize(
        **told,
        initialization_timeout=PATIENCE,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=PATIENCE,
    )


def _check_address(coordinator: str, first: bool) -> None:
    """The runtime waits for minutes for a host that is none, and says little of a port."""
    host, _, port = coordinator.rpartition(":")
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--coordinator {coordinator}: no such host ({one_line(error)})"
        ) from error
    if first:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("", int(port)))
            except OSError as error:
                raise InputError(
                    f"--coordinator {coordinator}: the first process cannot listen at that port "
                    f"({error.strerror}): give all of them another"
                ) from error


def _in_a_thread(work: Callable[[], None], on_wait: Callable[[], None]) -> None:
    """The runtime's own wait is deaf to Ctrl-C and SIGTERM."""
    problems: list[Exception] = []

    def noted() -> None:
        try:
            work()
        except Exception as error:
            problems.append(error)

    thread, began = threading.Thread(target=noted, daemon=True), time.monotonic()
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if time.monotonic() - began > WAIT:
            on_wait()
            began = math.inf
    if problems:
        raise problems[0]


def leave() -> None:
    """Leaves the others, who leave too; without a word if they do not."""
    if not _met.is_set():
        return
    _met.clear()
    thread = threading.Thread(target=_shutdown, daemon=True)
    thread.start()
    thread.join(LEAVE)


def _shutdown() -> None:
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()


def of_first(value: int) -> int:
    """The first process's value; each has to ask."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _gathered(array: np.ndarray) -> np.ndarray:
    """[processes, ...] of arrays of one shape."""
    found = np.asarray(multihost_utils.process_allgather(array))
    return found.reshape(jax.process_count(), *array.shape)
