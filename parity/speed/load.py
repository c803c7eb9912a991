"""How busy the machine is with other work than ours."""

import os
import time
from pathlib import Path

BUSY = 0.1
"""Cores' worth of other work from which on the run warns."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_IDLE = (3, 4)  # idle and iowait among a line's numbers
_GUESTS = 8  # from here on the numbers are held by earlier ones


def machine_seconds(stat: str | None = None) -> float | None:
    """CPU seconds that all processes used since boot, with what a hypervisor took; None where
    /proc/stat does not tell.

    Args:
      stat: text in place of /proc/stat.
    """
    try:
        first = (stat or Path("/proc/stat").read_text()).splitlines()[0].split()
        numbers = [int(number) for number in first[1 : 1 + _GUESTS]]
    except (OSError, ValueError, IndexError):
        return None
    if first[0] != "cpu" or not any(numbers):
        return None
    return sum(n for i, n in enumerate(numbers) if i not in _IDLE) / _TICKS


def process_seconds(pid: int) -> float | None:
    """CPU seconds of a process and its ended children; None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def other_cores(seconds: float = 1.0) -> float:
    """Cores' worth of work in the next `seconds`, while we wait; else the load average."""
    before, started = machine_seconds(), time.perf_counter()
    time.sleep(seconds)
    after, wall = machine_seconds(), time.perf_counter() - started
    if before is None or after is None:
        return os.getloadavg()[0]
    return (after - before) / wall


def warning(before: float, during: float | None) -> str | None:
    """The line that says that the machine was busy, or None.

    Args:
      before: cores' worth of work before the start.
      during: the same of others while blocks were timed; None where it is not known.
    """
    parts = []
    if before > BUSY:
        parts.append(f"{before:.2f} cores before the start")
    if during is not None and during > BUSY:
        parts.append(f"{during:.2f} cores while blocks were timed")
    if not parts:
        return None
    return f"WARNING: the machine was busy with other work: {' and '.join(parts)}"
