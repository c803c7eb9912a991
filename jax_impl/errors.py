"""Bad input, what its one line is made of, and a training without numbers."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping


class InputError(ValueError):
    """Bad input. The message is one line: what was wrong, where, and what to do."""


class NotFinite(Exception):
    """A training's loss is infinite or no number: at this step of this epoch, both from 1."""

    def __init__(self, loss: float, epoch: int, step: int):
        super().__init__(f"the loss is {loss} at step {step} of epoch {epoch}")
        self.loss, self.epoch, self.step = loss, epoch, step


def one_line(error: BaseException, most: int = 400) -> str:
    """What an exception of somebody else's says, or else its type, on one line, shortened."""
    return shown(" ".join(str(error).split()), most) or type(error).__name__


def shown(name: str, most: int = 80) -> str:
    """A name that comes from a file: escaped where it does not print, and shortened."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def listed(texts: list[str], most: int = 8) -> str:
    """The first of them, and how many there are more."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def mismatches(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """What is missing, unexpected or of another shape in `found`, shapes by name."""
    missing = [name for name in expected if name not in found]
    unexpected = [shown(name) for name in found if name not in expected]
    problems = [f"missing {', '.join(missing)}"] if missing else []
    problems += [f"unexpected {', '.join(unexpected)}"] if unexpected else []
    return problems + [
        f"{name} has shape {found[name]}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]


class _Loggers:
    """Those of Orbax and TFDS: silent while anybody wants it, of several threads."""

    def __init__(self) -> None:
        self._lock, self._wanted, self._levels = threading.Lock(), 0, {}

    def silence(self) -> None:
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
                self._levels = {logger: logger.level for logger in loggers}
                for logger in loggers:
                    logger.setLevel(logging.CRITICAL + 1)

    def restore(self) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                for logger, level in self._levels.items():
                    logger.setLevel(level)


_LOGGERS = _Loggers()


@contextlib.contextmanager
def silent_logs() -> Iterator[None]:
    """What Orbax and TFDS log of a file that they cannot use is told by the error alone."""
    _LOGGERS.silence()
    try:
        yield
    finally:
        _LOGGERS.restore()


def silence_logs() -> None:
    """The same from here on: Orbax's threads tell of a save that failed long after its end."""
    _LOGGERS.silence()
