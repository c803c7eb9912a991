"""How busy the machine is with other work than ours."""

import math
import os
import time
from pathlib import Path

BUSY = 0.1
"""Cores' worth of other work above which timings are not valid: two threads that wait for each
other at every operator have become ten times slower beside one busy core."""

TICKS_OFF = 3
"""Standard errors, of a tick each, that a reading of the kernel's clocks may be off by."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_IDLE = (3, 4)  # idle and iowait among a line's numbers
_GUESTS = 8  # from here on the numbers are held by earlier ones


def machine_seconds(stat: str | None = None) -> float | None:
    """CPU seconds that all processes used since boot, with what a hypervisor took.

    None where /proc/stat does not tell.

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


def warning(before: float) -> str | None:
    """The line that says that the machine was busy with `before` cores' worth of work, or None."""
    if before <= BUSY:
        return None
    return f"WARNING: the machine was busy with other work: {before:.2f} cores before the start"


def invalid(other_cores: float | None, seconds: float, readings: int) -> str | None:
    """Why timings are not valid; None if they are, or if nobody can tell.

    Args:
        other_cores: cores' worth of work of others meanwhile; None where it is not known.
        seconds: that it is the mean of.
        readings: of the kernel's clocks, each off by about a tick.
    """
    if other_cores is None or not seconds:
        return None
    unsure = TICKS_OFF * math.sqrt(readings) / (_TICKS * seconds)
    if other_cores <= BUSY + unsure:
        return None
    return f"not valid: the machine was busy ({other_cores:.2f} cores of other work)"
