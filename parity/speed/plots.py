"""The plots, as PNG files."""

from collections.abc import Callable, Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from parity.report.picture import STYLE, image
from parity.speed.notebook import Training
from parity.speed.results import (
    BASELINE,
    SpeedReport,
    TaskResult,
    epoch_seconds,
    shown,
    throughput,
)
from parity.speed.rounds import Timing

THROUGHPUT, AMORTISED, NOTEBOOK = "throughput.png", "amortised.png", "notebook.png"

COLOURS = {"JAX": "#2563b0", "PyTorch": "#d9661f"}
COLUMNS = 2
EPOCHS = np.geomspace(1, 100, 60)
STYLES = ("-", "--", ":", "-.")


def drawn(report: SpeedReport) -> dict[str, Callable[[SpeedReport], Figure]]:
    """The plots that a report has something for, by file name."""
    found: dict[str, Callable[[SpeedReport], Figure]] = {THROUGHPUT: throughput_plot}
    if _trained(report):
        found[AMORTISED] = amortised_plot
    if report.notebook:
        found[NOTEBOOK] = notebook_plot
    return found


def images(report: SpeedReport) -> dict[str, bytes]:
    """The plots that a report has something for, as PNG files' content by name."""
    found = {}
    with matplotlib.style.context(["default", STYLE]):
        for name, draw in drawn(report).items():
            found[name] = image(draw(report), "png")
    return found


def throughput_plot(report: SpeedReport) -> Figure:
    """A panel for each task: a bar for each variant, with its interval."""

    def draw(axes: Axes, result: TaskResult) -> None:
        if (held := report.withheld(result)) is not None:
            _say(axes, result, held)
            return
        timings = shown(result)
        for place, timing in enumerate(timings):
            found = throughput(timing)
            reach = [[found.median - found.low], [found.high - found.median]]
            axes.barh(place, found.median, color=COLOURS[timing.framework], height=0.72)
            axes.errorbar(found.median, place, xerr=reach, color="black", linewidth=1, capsize=2.5)
            axes.annotate(
                f"{found.median:,.0f}",
                (found.high, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(timings)), [t.name for t in timings])
        axes.set_ylim(max(len(timings), 1) - 0.4, -0.6)
        highest = max((throughput(timing).high for timing in timings), default=1.0)
        axes.set_xlim(0, 1.18 * highest)
        axes.grid(axis="x")
        axes.set_title(_title(result))
        axes.set_xlabel("images/s, median and 95 % interval")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))

    rows = max((len(shown(result)) for result in report.results), default=1)
    return _panels(report.results, draw, 1.1 + 0.26 * rows)


def amortised_plot(report: SpeedReport) -> Figure:
    """A panel for each training task: seconds of an epoch by the number of epochs trained."""

    def draw(axes: Axes, result: TaskResult) -> None:
        if (held := report.withheld(result)) is not None:
            _say(axes, result, held)
            return
        seen: dict[str, int] = {}
        for timing in _contenders(result):
            style = STYLES[seen.setdefault(timing.framework, 0) % len(STYLES)]
            seen[timing.framework] += 1
            axes.plot(
                EPOCHS,
                [epoch_seconds(timing, epochs) for epochs in EPOCHS],
                style,
                color=COLOURS[timing.framework],
                label=timing.name,
            )
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid()
        axes.set_title(_title(result))
        axes.set_xlabel("epochs trained")
        axes.set_ylabel("s an epoch, with compilation")
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))

    return _panels(_trained(report), draw, 3.0)


def _title(result: TaskResult) -> str:
    """The task, and that its timings are not valid where they are shown all the same."""
    return f"{result.task}\n{result.invalid}" if result.invalid else str(result.task)


def _say(axes: Axes, result: TaskResult, line: str) -> None:
    """A panel without figures."""
    axes.set_title(str(result.task))
    axes.set_axis_off()
    axes.annotate("\n(".join(line.split(" (")), (0, 0.8), xycoords="axes fraction", va="top")


def _trained(report: SpeedReport) -> list[TaskResult]:
    return [r for r in report.results if r.task.mode == "train" and shown(r)]


def _contenders(result: TaskResult) -> list[Timing]:
    """The best of each framework, PyTorch's fastest that compiles and its eager code."""
    timings = shown(result)
    compiled = [t for t in timings if t.compile_seconds is not None]
    wanted = [
        *(result.best(framework) for framework in ("JAX", "PyTorch")),
        next((t for t in compiled if t.framework == "PyTorch"), None),
        next((t for t in timings if t.name == f"PyTorch {BASELINE}"), None),
    ]
    return list({t.name: t for t in wanted if t is not None}.values())


def notebook_plot(report: SpeedReport) -> Figure:
    """Test accuracy by seconds since the start of the work, a line for each training."""
    figure = Figure((6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    seen: dict[str, list[str]] = {}
    valid = [training for training in report.notebook if report.withheld(training) is None]
    for training in valid:
        names = seen.setdefault(training.framework, [])
        first = training.variant not in names
        if first:
            names.append(training.variant)
        axes.plot(
            [epoch.seconds for epoch in training.epochs],
            [100 * epoch.accuracy for epoch in training.epochs],
            STYLES[names.index(training.variant) % len(STYLES)],
            color=COLOURS[training.framework],
            marker="o",
            markersize=3.5,
            label=_label(training) if first else None,
        )
    for training in report.notebook:
        if training not in valid:
            axes.plot([], [], " ", label=f"{_label(training)}\n{training.invalid}")
    axes.set_xlim(left=0)
    axes.grid()
    axes.set_title("Time to the notebook's accuracy: a mark for each epoch")
    axes.set_xlabel("seconds of training, with compilation and without imports")
    axes.set_ylabel("test accuracy, %")
    axes.legend()
    return figure


def _label(training: Training) -> str:
    return f"{training.framework} {training.variant}"


def _panels(
    results: Sequence[TaskResult], draw: Callable[[Axes, TaskResult], None], height: float
) -> Figure:
    """`COLUMNS` panels of `height` inches in a row."""
    columns = min(COLUMNS, max(1, len(results)))
    rows = -(-max(1, len(results)) // columns)
    figure = Figure((5.6 * columns, height * rows), layout="constrained")
    for place, result in enumerate(results, 1):
        draw(figure.add_subplot(rows, columns, place), result)
    return figure
