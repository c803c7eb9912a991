"""A test of a trained model as pictures: the confusion matrix and its surest errors."""

import io
from collections.abc import Callable

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from jax_impl.errors import shown
from parity.report.evaluation import Evaluation
from parity.report.picture import drawable

CONFUSION, ERRORS = "confusion.png", "errors.png"

_DPI = 150
_COLUMNS = 5
_CELL = 0.52
"""Inches of a field of the matrix."""
_TITLE = 95
_RC = {
    "font.size": 9,
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so the layout is the same anywhere
    "axes.titlesize": 10,
    "text.parse_math": False,
}


def pictures(evaluation: Evaluation, images: np.ndarray, title: str) -> dict[str, bytes]:
    """The content of two PNG files, by name.

    Args:
        evaluation: what is drawn.
        images: those evaluated, uint8 [n, h, w, 3].
        title: what was evaluated, on one line.
    """
    title = _printable(title, _TITLE)
    drawn: dict[str, Callable[[], Figure]] = {
        CONFUSION: lambda: confusion_figure(evaluation, title),
        ERRORS: lambda: errors_figure(evaluation, images, title),
    }
    found = {}
    with matplotlib.style.context(["default", _RC]):
        for name, draw in drawn.items():
            buffer = io.BytesIO()
            draw().savefig(buffer, format="png", dpi=_DPI)
            found[name] = buffer.getvalue()
    return found


def confusion_figure(evaluation: Evaluation, title: str) -> Figure:
    """Each row's shares as shades of one hue, from light to dark, with the images' number."""
    counts, sizes = evaluation.confusion, np.maximum(evaluation.sizes, 1)
    shares = 100 * counts / sizes[:, None]
    names = [_printable(name, 16) for name in evaluation.classes]
    side = _CELL * len(names)
    figure = Figure((side + 2.6, side + 1.3), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(
                column,
                row,
                f"{count:,}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[row, column] > 55 else "#222222",
            )
    places = range(len(names))
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, [f"{n}  {shares[i, i]:.1f} %" for i, n in enumerate(names)])
    axes.set_xticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.grid(which="minor", color="#e4e4e4", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class, and the share of it that is right")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label("% of the class's images")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    figure.suptitle(_wrapped(title, int(13 * (side + 2.6))), fontsize=10)
    return figure


def errors_figure(evaluation: Evaluation, images: np.ndarray, title: str) -> Figure:
    """A sheet of the errors with the largest probability, the largest first."""
    errors = evaluation.errors()
    rows = max(1, -(-len(errors) // _COLUMNS))
    figure = Figure((2.0 * _COLUMNS, 0.5 + 2.6 * rows), layout="constrained")
    heading = "no errors"
    if errors:
        heading = f"the {len(errors)} errors it was surest of" if errors[1:] else "its only error"
    figure.suptitle(f"{title}: {heading}", fontsize=10)
    for place, error in enumerate(errors, 1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        axes.imshow(images[error.image], interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"test image {error.image}", fontsize=8, color="#666666")
        true = _printable(evaluation.classes[error.true], 16)
        predicted = _printable(evaluation.classes[error.predicted], 16)
        axes.set_xlabel(f"is: {true}\nsaid: {predicted}, {_percent(error.probability)}", fontsize=9)
    return figure


def _percent(share: float) -> str:
    """Never 100 % of what is less."""
    return f"{min(99.99, 100 * share):.2f} %"


def _wrapped(text: str, most: int) -> str:
    """At spaces, in lines of at most so many letters where that can be."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], joined] if len(joined) <= most else [*lines, word]
    return "\n".join(line for line in lines if line)


def _printable(text: str, most: int) -> str:
    """As the font can draw it, shortened."""
    return shown(drawable(text), most)
