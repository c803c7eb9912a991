"""Logs of libraries, which are silent while anybody wants it."""

import logging
import threading

from jax_impl import errors

ABSL = logging.getLogger("absl")


def test_logs_are_silent_until_the_last_one_wants_them():
    """Two threads that overlap: neither ends the other's silence, and both leave it as it was."""
    before = ABSL.level
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with errors.silent_logs():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    with errors.silent_logs():
        thread.start()
        assert entered.wait(10)
    assert not ABSL.isEnabledFor(logging.CRITICAL)  # the other's
    left.set()
    thread.join()
    assert ABSL.level == before


def test_silence_for_good_outlasts_who_asked_for_it(monkeypatch):
    """As after a save that failed, of which Orbax's threads go on to tell."""
    before = ABSL.level
    monkeypatch.setattr(errors, "_LOGGERS", errors._Loggers())
    with errors.silent_logs():
        errors.silence_logs()
    assert not ABSL.isEnabledFor(logging.CRITICAL)
    errors._LOGGERS.restore()
    assert ABSL.level == before
