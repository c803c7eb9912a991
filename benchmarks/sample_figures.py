"""What the commands print, as the pages show it: from benchmarks/samples.json."""

from collections.abc import Callable
from functools import partial

from benchmarks.speed_figures import indented, load

FIRST = {"evaluate": 7, "predict": 5, "export": 0, "compare": 0, "summary": 0}
"""Lines of each command that are shown; 0 shows all."""


def shown(name: str) -> str:
    """What a command printed, or its first lines and that there are more."""
    lines, first = load("samples")["samples"][name]["lines"], FIRST[name]
    return indented([*lines[:first], "..."] if first else lines).replace("    \n", "\n")


SECTIONS: dict[str, Callable[[], str]] = {name: partial(shown, name) for name in FIRST}
