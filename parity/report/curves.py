"""The curves of trainings as a picture: loss and accuracy by epoch. Imports no framework."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from jax_impl.errors import InputError, shown
from parity.report.picture import STYLE, drawable, hues, image
from parity.shell.files import write_whole

SUFFIXES = (".png", ".svg")
FRAMEWORKS = {"jax": "JAX", "torch": "PyTorch"}

_FEW = 30
"""So many epochs have a mark each; where marks would touch, the line alone says more."""
_SPREAD = 100.0
"""Losses that differ by more have a logarithmic axis."""
_WIDTH, _PANEL = 10.0, 3.2
_ABOVE, _BELOW, _ROW = 0.65, 0.65, 0.19
"""Inches over the panels, for their axes below, and of a legend's line."""
_NAME, _MODEL, _LINE = 60, 50, 125
"""Letters of a run and of a model, and of a legend's line."""
_GREY = "#555555"
_RC = {**STYLE, "axes.titlepad": 9, "axes.grid": True, "legend.fontsize": 8.5}


@dataclasses.dataclass(frozen=True)
class Run:
    """A training's curves.

    Args:
        name: of the run, as its directory.
        rows: the lines of its metrics.jsonl. Each has its `epoch`, a whole number from 1, and any
            of `loss`, `train_accuracy`, `validation_accuracy` and `test_accuracy`, the accuracies
            in [0, 1]. None stands for infinity and NaN.
        model: as config.json names it.
        framework: "jax" or "torch".
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    model: str = ""
    framework: str = ""

    def curve(self, key: str) -> dict[int, float | None]:
        """`key` by epoch, of the rows that have it; of two rows of one epoch the later."""
        return {row["epoch"]: row[key] for row in self.rows if key in row}

    @property
    def held_out(self) -> str:
        """Which accuracy is that of images it was not trained on, epoch by epoch."""
        validated = any("validation_accuracy" in row for row in self.rows)
        return "validation_accuracy" if validated else "test_accuracy"


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draws the loss and the accuracy by epoch of one or more trainings.

    Args:
        runs: the trainings; each has a hue of its own.
        path: the picture, a .png or an .svg; it appears whole or not at all, in the place of what
            was there.

    Raises:
        InputError: another suffix, or it cannot be written.
    """
    check_suffix(path)
    kind: Any = path.suffix.lower().removeprefix(".")
    with matplotlib.style.context(["default", _RC]):
        content = image(figure(runs), kind)
    write_whole(path, content)


def check_suffix(path: Path) -> None:
    """Raises InputError for a picture that is no .png or .svg file."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{shown(str(path))} is no name of a picture: give a .png or .svg file")


def figure(runs: Sequence[Run]) -> Figure:
    """The drawing itself: losses on the left, accuracies on the right, a legend below."""
    handles = [
        Line2D([], [], color=hue, linewidth=2, label=_label(label))
        for label, hue in zip(_labels(runs), hues(len(runs)), strict=True)
    ]
    handles += _styles(runs)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), 5, _LINE // (longest + 8)))
    below = _BELOW + _ROW * -(-len(handles) // columns)
    height = _ABOVE + _PANEL + below
    drawn = Figure((_WIDTH, height))
    left, right = drawn.subplots(1, 2)
    drawn.subplots_adjust(
        left=0.065, right=0.985, wspace=0.15, bottom=below / height, top=1 - _ABOVE / height
    )
    _losses(left, runs)
    _accuracies(right, runs)
    epochs = [row["epoch"] for run in runs for row in run.rows] or [1]
    space = 0.04 * (max(epochs) - min(epochs)) or 0.5
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(
            MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
        axes.set_xlim(min(epochs) - space, max(epochs) + space)
    drawn.suptitle(_label(_title(runs)), x=0.01, y=1 - 0.1 / height, ha="left", fontsize=11)
    drawn.legend(handles=handles, loc="lower left", ncols=columns)
    return drawn


def _losses(axes: Axes, runs: Sequence[Run]) -> None:
    axes.set_title("training loss")
    curves = [run.curve("loss") for run in runs]
    for curve, hue in zip(curves, hues(len(runs)), strict=True):
        _line(axes, curve, hue)
        bad = [epoch for epoch, loss in curve.items() if _finite(loss) is None]
        place = axes.get_xaxis_transform()  # the top edge, whatever the losses are
        axes.plot(bad, [1.0] * len(bad), "x", color=hue, transform=place, clip_on=False)
    values = [v for curve in curves for loss in curve.values() if (v := _finite(loss)) is not None]
    if not values:
        _say(axes, "no loss that is a number" if any(curves) else "no epoch yet")
    elif min(values) > 0 and max(values) > _SPREAD * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _accuracies(axes: Axes, runs: Sequence[Run]) -> None:
    axes.set_title("accuracy, %")
    drawn = False
    for run, hue in zip(runs, hues(len(runs)), strict=True):
        for key, dashes, filling in (("train_accuracy", "--", "white"), (run.held_out, "-", hue)):
            curve = run.curve(key)
            percent = {e: None if v is None else 100 * v for e, v in curve.items()}
            _line(axes, percent, hue, dashes, filling)
            drawn |= bool(curve)
        if run.held_out == "validation_accuracy":
            test = run.curve("test_accuracy")
            values = [math.nan if v is None else 100 * v for v in test.values()]
            axes.plot(list(test), values, "D", color=hue, markersize=5, markerfacecolor="none")
    if not drawn:
        _say(axes, "none measured yet")


def _line(
    axes: Axes, curve: Mapping[int, float | None], hue: Any, dashes: str = "-", filling: Any = None
) -> None:
    """A gap where there is no number; a mark where a point has no neighbour to be joined with."""
    epochs = sorted(curve)
    values = [_finite(curve[epoch]) for epoch in epochs]
    there = [False, *(value is not None for value in values), False]
    alone = [i for i in range(len(values)) if there[i + 1] and not (there[i] or there[i + 2])]
    axes.plot(
        epochs,
        [math.nan if value is None else value for value in values],
        dashes,
        color=hue,
        linewidth=1.5,
        marker="o",
        markersize=3.5,
        markerfacecolor=hue if filling is None else filling,
        markevery=None if len(epochs) <= _FEW else alone,
    )


def _finite(value: float | None) -> float | None:
    """None for what is no number; matplotlib has no axis for what is nearly infinite or zero."""
    if value is None or not math.isfinite(value):
        return None
    return math.copysign(min(max(abs(value), 1e-100), 1e100), value) if value else 0.0


def _say(axes: Axes, text: str) -> None:
    axes.annotate(text, (0.5, 0.5), xycoords="axes fraction", ha="center", color=_GREY)
    axes.set_yticks([])


def _styles(runs: Sequence[Run]) -> list[Line2D]:
    """What dashes and marks mean, of those that are drawn."""
    validated = [run for run in runs if run.held_out == "validation_accuracy"]
    tested = [r for r in runs if r not in validated and r.curve("test_accuracy")]
    kinds = [name for name, some in (("test", tested), ("validation", validated)) if some]
    found = []
    if kinds:
        found.append(_style(f"{' or '.join(kinds)} accuracy", marker="o"))
    if any(run.curve("train_accuracy") for run in runs):
        look = {"linestyle": "--", "marker": "o", "markerfacecolor": "white"}
        found.append(_style("training accuracy", **look))
    if any(run.curve("test_accuracy") for run in validated):
        found.append(
            _style("final test accuracy", linestyle="", marker="D", markerfacecolor="none")
        )
    if any(_finite(loss) is None for run in runs for loss in run.curve("loss").values()):
        found.append(_style("loss infinite or NaN", linestyle="", marker="x"))
    return found


def _style(label: str, **look: Any) -> Line2D:
    return Line2D([], [], color=_GREY, label=label, **{"markersize": 5, **look})


def _title(runs: Sequence[Run]) -> str:
    """What all runs share; the legend tells the rest."""
    models = {run.model for run in runs}
    frameworks = {run.framework for run in runs}
    what = shown(models.pop(), _MODEL) if len(models) == 1 else f"{len(runs)} trainings"
    if len(frameworks) > 1 or not (framework := frameworks.pop()):
        return what
    return f"{what} in {_framework(framework)}"


def _labels(runs: Sequence[Run]) -> list[str]:
    """Each run's name, with the model and the framework where they are not the same for all."""
    models = len({run.model for run in runs}) > 1
    frameworks = len({run.framework for run in runs}) > 1
    found = []
    for run in runs:
        name = shown(run.name, 10_000)
        name = name if len(name) <= _NAME else f"...{name[3 - _NAME :]}"  # its end tells more
        more = [shown(run.model, _MODEL)] if models else []
        more += [_framework(run.framework)] if frameworks else []
        found.append(f"{name}: {' in '.join(more)}" if more else name)
    return found


def _framework(name: str) -> str:
    return FRAMEWORKS.get(name, shown(name, 20))


def _label(text: str) -> str:
    """As the font can draw it, and as no legend leaves it out."""
    text = drawable(text)
    return f" {text}" if text.startswith("_") else text  # a legend leaves such a label out
