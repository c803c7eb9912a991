"""Time for a search that may take forever."""

import time


class Budget:
    """Seconds of work of this thread's own until nothing further is tried.

    Not of the clock: what is found must not depend on what else the machine does.
    """

    def __init__(self, seconds: float):
        self._end = time.thread_time() + seconds

    @property
    def left(self) -> bool:
        """Whether there is time."""
        return time.thread_time() < self._end
