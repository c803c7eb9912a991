"""Memory that the C library holds though nothing uses it, given back to the system."""

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

SLACK = 256 << 20
"""Bytes by which the process may have grown since the last time."""
STATM = Path("/proc/self/statm")

_size = 0


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's; other C libraries have none, and give memory back by themselves."""
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None


def trim() -> None:
    """Gives unused memory back where the process has grown.

    Large arrays that come and go leave glibc's heap in pieces: without this the ladder of a model
    of 12 M parameters takes four times the memory that it holds at any time.
    """
    global _size
    give_back = _malloc_trim()
    if give_back is None or not STATM.exists():
        return
    if _resident() - _size > SLACK:
        give_back(0)
        _size = _resident()


def _resident() -> int:
    """Bytes of the process in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
