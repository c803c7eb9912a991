"""Signs of life: what a pipe is told while nothing else is."""

import io
import re
import time
from typing import Any

import pytest
import rich.console

from parity.shell import console as consoles
from parity.shell.console import Console


@pytest.fixture
def impatient(monkeypatch):
    """A console that is quiet for a fifth of a second at most."""
    monkeypatch.setattr(consoles, "QUIET", 0.2)
    return Console()


def test_a_pipe_is_told_what_is_done_and_for_how_long(impatient, capsys):
    began = time.monotonic()
    with impatient.status("first") as tell:
        time.sleep(1.5)
        told = time.monotonic()
        tell("second")
        time.sleep(0.5)
    took = time.monotonic() - told
    lines = capsys.readouterr().out.splitlines()
    said = [re.fullmatch(r"(first|second): (\d+) s so far", line) for line in lines]
    assert len(lines) >= 2 and all(said)
    assert said[0] and said[0][1] == "first" and int(said[0][2]) <= told - began + 0.5
    # counted from its own start: a second that went on from the first would say 2 s or more
    assert said[-1] and said[-1][1] == "second" and int(said[-1][2]) <= took + 0.5


def test_a_pipe_is_told_how_far_a_bar_is(impatient, capsys):
    with impatient.bar("compiling", 1000) as show:
        time.sleep(0.5)
        show(500, "epoch 1")
        time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling (0 of 1,000)" and lines[-1] == "epoch 1 (500 of 1,000)"


def test_who_is_told_something_is_not_told_more(impatient, capsys):
    with impatient.status("quiet"):
        for _ in range(10):
            impatient.line("a result")
            time.sleep(0.05)
    assert set(capsys.readouterr().out.splitlines()) == {"a result"}


def test_a_terminal_shows_what_is_done_and_the_seconds():
    shown, screen = Console(), io.StringIO()
    terminal: Any = rich.console.Console(file=screen, force_terminal=True, width=80)
    shown._rich = terminal
    with shown.status("simple_cnn: forward") as tell:
        tell("simple_cnn: [loss]")
        time.sleep(0.3)
    assert "simple_cnn: forward" in screen.getvalue() and "0:00:00" in screen.getvalue()
    assert "simple_cnn: [loss]" in screen.getvalue()


def shown_by(width: int, tell: Any) -> list[str]:
    shown, screen = Console(), io.StringIO()
    terminal: Any = rich.console.Console(
        file=screen, force_terminal=True, width=width, highlight=False
    )
    shown._rich = terminal
    tell(shown)
    return screen.getvalue().splitlines()


def test_a_result_is_one_line_of_a_terminal_and_its_name_is_whole(capsys):
    text = "ok   simple_cnn forward float32: 1.4, at most 16 x the quieter framework's noise"
    cut = "ok   simple_cnn forward float32: 1.4, at most 16 x the…"
    assert shown_by(60, lambda shown: shown.result(text, text[:33])) == [cut]
    assert shown_by(20, lambda shown: shown.result(text, text[:33])) == [text]
    assert shown_by(80, lambda shown: shown.result(text, text[:33])) == [text]
    Console().result(text * 9)
    assert capsys.readouterr().out == f"{text * 9}\n"


def test_a_paragraph_is_broken_between_words(capsys):
    text = "     first departs: output of act; pwconv1, just before it, 1.5e-16."
    lines = shown_by(30, lambda shown: shown.paragraph(text))
    assert " ".join(line.strip() for line in lines) == text.strip()
    assert all(line.startswith("     ") and len(line) <= 30 for line in lines)
    Console().paragraph(text * 9)
    assert capsys.readouterr().out == f"{text * 9}\n"
