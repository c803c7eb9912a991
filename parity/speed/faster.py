"""One picture that says which framework is faster: a row a workload, a dot a machine."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from parity.report.picture import DASHES, FRAMEWORKS, drawable
from parity.speed.results import SpeedReport, TaskResult
from parity.speed.saved import machine, run
from parity.speed.statistics import Estimate, figures
from parity.speed.workloads import Task

MARKERS = "osD^vPX*"
LEVEL = "#6b7280"
"""Of an interval that holds 1."""
PRECISIONS = {"float32": "float32", "tf32": "float32", "bf16": "bfloat16"}
"""Whose dash an interval has."""
WIDTH, ROW, STAMP = 8.0, 0.34, 140
SPREAD, LABEL = 0.7, 48
"""Of a row, for the dots of several machines; letters of a task's name."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """Runs of one machine and its software, and the ratio of each of its tasks."""

    name: str
    runs: tuple[str, ...]
    """the commit and date of each"""
    ratios: Mapping[Task, Estimate]
    doubts: Mapping[Task, str] = dataclasses.field(default_factory=dict)
    """of a ratio that is shown though it is not valid, why it is not"""
    left_out: tuple[str, ...] = ()
    """timings in whose place a later one of the same task stands, a line each"""

    @property
    def stamp(self) -> str:
        """What a plot says below it."""
        return "; ".join([self.name, *dict.fromkeys(text for text in self.runs if text)])


def machines(reports: Sequence[SpeedReport]) -> list[Machine]:
    """The runs by machine, in the order of their dates; of two timings of one task the later."""
    by_name: dict[str, list[SpeedReport]] = {}
    for report in reports:
        by_name.setdefault(machine(report), []).append(report)
    return [_machine(name, runs) for name, runs in by_name.items()]


def _machine(name: str, reports: Sequence[SpeedReport]) -> Machine:
    # Of one day the last that is named.
    ordered = sorted(reports, key=lambda report: str(report.environment.get("date") or ""))
    shown: dict[Task, tuple[Estimate, str | None, str]] = {}
    left_out = []
    for report in ordered:
        of = run(report) or "a run without a commit or a date"
        for result in report.results:
            if (ratio := _ratio(report, result)) is None:
                continue
            if result.task in shown and shown[result.task][2] != of:
                left_out.append(f"{result.task}: left out is that of {shown[result.task][2]}")
            shown[result.task] = ratio, result.invalid, of
    return Machine(
        name,
        tuple(run(report) for report in ordered),
        {task: ratio for task, (ratio, _, _) in shown.items()},
        {task: why for task, (_, why, _) in shown.items() if why},
        tuple(left_out),
    )


def _ratio(report: SpeedReport, result: TaskResult) -> Estimate | None:
    """JAX's best over PyTorch's; None where it is withheld or there is none."""
    return None if report.withheld(result) else result.ratio()


def figure(found: Sequence[Machine]) -> Figure:
    """A dot with its 95 % interval at JAX's throughput over PyTorch's, and a line at 1.

    At least one of the machines has a ratio.
    """
    tasks = list(dict.fromkeys(task for each in found for task in each.ratios))
    height = 1.5 + ROW * len(tasks) * (1 + 0.45 * (len(found) - 1)) + 0.2 * len(found)
    drawing = Figure((WIDTH, height), layout="constrained")
    axes = drawing.add_subplot()
    for number, each in enumerate(found):
        shift = 0.0 if len(found) == 1 else SPREAD * (number / (len(found) - 1) - 0.5)
        for row, task in enumerate(tasks):
            if task in each.ratios:
                _dot(axes, row + shift, each, task, MARKERS[number % len(MARKERS)])
    axes.axvline(1, color="black", linewidth=1, zorder=1)
    axes.set_yticks(range(len(tasks)), [drawable(_name(task)) for task in tasks])
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    _scale(axes, [value for each in found for e in each.ratios.values() for value in e])
    axes.grid(axis="x")
    axes.set_xlabel("JAX's throughput / PyTorch's, the best of each, with its 95 % interval")
    axes.set_title("Which is faster?   ← PyTorch | JAX →")
    handles = [_handle(f"{f} faster", colour) for f, colour in FRAMEWORKS.items()]
    handles.append(_handle("level within the interval", LEVEL))
    if len(found) > 1:
        handles += [
            _handle(drawable(_short(each.name)), "black", MARKERS[number % len(MARKERS)])
            for number, each in enumerate(found)
        ]
    drawing.legend(handles=handles, loc="outside upper left", ncols=3 if len(found) == 1 else 1)
    sign(drawing, [each.stamp for each in found])
    return drawing


def sign(drawing: Figure, stamps: Sequence[str]) -> None:
    """Writes below a figure what it was measured with."""
    lines = [line for text in stamps for line in textwrap.wrap(drawable(text), STAMP)]
    drawing.supxlabel("\n".join(lines), fontsize=6.5, color="#555555", x=0.01, ha="left")


def _dot(axes: Axes, at: float, of: Machine, task: Task, marker: str) -> None:
    ratio, doubt = of.ratios[task], "" if task not in of.doubts else ", not valid: busy"
    colour = LEVEL
    if ratio.low > 1:
        colour = FRAMEWORKS["JAX"]
    elif ratio.high < 1:
        colour = FRAMEWORKS["PyTorch"]
    dash = DASHES[PRECISIONS[task.precision]]
    axes.plot([ratio.low, ratio.high], [at, at], dash, color=colour, linewidth=1.8)
    axes.plot([ratio.median], [at], marker, color=colour, markersize=6)
    axes.annotate(
        figures(ratio.median) + doubt, (ratio.high, at), xytext=(5, 0), textcoords="offset points",
        va="center", fontsize=7.5, color=colour,
    )  # fmt: skip


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis that has 1, and so many ticks as can be read."""
    low, high = min([*values, 0.9]), max([*values, 1.1])
    axes.set_xscale("log")
    axes.set_xlim(low / 1.08, high * 1.18)
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 30 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    if high / low < 3:
        step = 0.1 if high - low < 0.8 else 0.25
        first, last = math.ceil(low / step), math.floor(high * 1.1 / step)
        axes.set_xticks([step * number for number in range(first, last + 1)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name(task: Task) -> str:
    precision = "" if task.precision == "float32" else f", {PRECISIONS[task.precision]}"
    if task.precision == "tf32":
        precision = ", TF32"
    name = f"{task.mode} {task.model}, batch {task.batch_size}{precision}"
    if len(name) <= LABEL:
        return name
    half = LABEL // 2
    return f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[1 - half :]}"


def _short(name: str) -> str:
    return name.partition(";")[0]


def _handle(label: str, colour: str, marker: str = "o") -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=label)
