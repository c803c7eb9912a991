"""The plots, as PNG and SVG files.

A hue is a framework, a dash a precision, a mark a variant; below each stands what it ran on.
"""

from collections.abc import Callable, Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from parity.report.picture import DASHES, FRAMEWORKS, STYLE, image
from parity.speed.faster import PRECISIONS, machines, sign
from parity.speed.faster import figure as figure_of
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
from parity.speed.saved import stamp

FASTER, THROUGHPUT, AMORTISED, NOTEBOOK = "faster", "throughput", "amortised", "notebook"

COLUMNS = 2
EPOCHS = np.geomspace(1, 100, 60)
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")


def drawn(report: SpeedReport) -> dict[str, Callable[[SpeedReport], Figure]]:
    """The plots that a report has something for, by file name without its ending."""
    found: dict[str, Callable[[SpeedReport], Figure]] = {}
    if any(each.ratios for each in machines([report])):
        found[FASTER] = faster_plot
    found[THROUGHPUT] = throughput_plot
    if _trained(report):
        found[AMORTISED] = amortised_plot
    if report.notebook:
        found[NOTEBOOK] = notebook_plot
    return found


def images(report: SpeedReport) -> dict[str, bytes]:
    """The plots that a report has something for, as files' content by name, PNG and SVG."""
    found = {}
    with matplotlib.style.context(["default", STYLE]):
        for name, draw in drawn(report).items():
            figure = draw(report)
            found[f"{name}.png"] = image(figure, "png")
            found[f"{name}.svg"] = image(figure, "svg")
    return found


def faster_plot(report: SpeedReport) -> Figure:
    """A row a workload: which framework is faster, and by how much."""
    return figure_of(machines([report]))


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
            axes.barh(place, found.median, color=FRAMEWORKS[timing.framework], height=0.72)
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
    return _panels(report, report.results, draw, 1.1 + 0.26 * rows)


def amortised_plot(report: SpeedReport) -> Figure:
    """A panel for each training task: seconds of an epoch by the number of epochs trained."""

    def draw(axes: Axes, result: TaskResult) -> None:
        if (held := report.withheld(result)) is not None:
            _say(axes, result, held)
            return
        seen: dict[str, int] = {}
        for timing in _contenders(result):
            mark = MARKS[seen.setdefault(timing.framework, 0) % len(MARKS)]
            seen[timing.framework] += 1
            axes.plot(
                EPOCHS,
                [epoch_seconds(timing, epochs) for epochs in EPOCHS],
                DASHES[PRECISIONS[result.task.precision]],
                color=FRAMEWORKS[timing.framework],
                marker=mark,
                markevery=8,
                markersize=4,
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

    return _panels(report, _trained(report), draw, 3.0)


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
            color=FRAMEWORKS[training.framework],
            marker=MARKS[names.index(training.variant) % len(MARKS)],
            markersize=4,
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
    sign(figure, [stamp(report)])
    return figure


def _label(training: Training) -> str:
    return f"{training.framework} {training.variant}"


def _panels(
    report: SpeedReport,
    results: Sequence[TaskResult],
    draw: Callable[[Axes, TaskResult], None],
    height: float,
) -> Figure:
    """`COLUMNS` panels of `height` inches in a row."""
    columns = min(COLUMNS, max(1, len(results)))
    rows = -(-max(1, len(results)) // columns)
    figure = Figure((5.6 * columns, height * rows), layout="constrained")
    for place, result in enumerate(results, 1):
        draw(figure.add_subplot(rows, columns, place), result)
    sign(figure, [stamp(report)])
    return figure
