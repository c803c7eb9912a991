"""What the commands print, as the pages show it: from benchmarks/samples.json."""

from collections.abc import Callable

from benchmarks.speed_figures import indented, load

MORE = "..."


def shown(name: str, first: int = 0) -> str:
    """What a command printed; with `first` only so many lines, and that there are more."""
    lines = load("samples")["samples"][name]["lines"]
    return indented([*lines[:first], MORE] if first else lines).replace("    \n", "\n")


def errors_of_evaluation() -> str:
    """The table to its second class."""
    return shown("evaluate", 7)


def prediction() -> str:
    """The name of the image, and its three likeliest classes."""
    return shown("predict", 5)


def export() -> str:
    """The file, and what it takes and gives."""
    return shown("export")


def comparison() -> str:
    """All of it."""
    return shown("compare")


def summary() -> str:
    """All of it."""
    return shown("summary")


SECTIONS: dict[str, Callable[[], str]] = {
    "evaluate": errors_of_evaluation,
    "predict": prediction,
    "export": export,
    "compare": comparison,
    "summary": summary,
}
