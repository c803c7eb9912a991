"""A run as tables. Imports no framework."""

from collections.abc import Sequence

from parity.speed.notebook import Training
from parity.speed.results import (
    BASELINE,
    EPOCH,
    FRAMEWORKS,
    SpeedReport,
    TaskResult,
    epoch_seconds,
    shown,
    step_seconds,
    throughput,
)
from parity.speed.statistics import Estimate

MEBI = 2**20

Table = tuple[Sequence[str], list[tuple[str, ...]]]
"""Columns and rows."""

WORDS = {
    "task", "variant", "status", "JAX's best", "PyTorch's best", "JAX's best tried",
    "PyTorch's best tried", "best", "95 %", "epoch losses",
}  # fmt: skip


def throughput_table(report: SpeedReport) -> Table:
    """A row for each timing of each task, the fastest first."""
    columns = ("task", "variant", "images/s", "95 %", "ms a step", "first call, s", "peak MiB")
    rows = []
    for result in report.results:
        if (held := report.withheld(result)) is not None:
            rows.append((str(result.task), held, *[""] * (len(columns) - 2)))
            continue
        for timing in shown(result):
            found = throughput(timing)
            rows.append(
                (
                    f"{result.task}{_busy(result)}",
                    timing.name,
                    f"{found.median:,.0f}",
                    f"{found.low:,.0f} to {found.high:,.0f}",
                    _milliseconds(step_seconds(timing)),
                    _number(timing.first_seconds),
                    _mebi(timing.peak_bytes),
                )
            )
    return columns, rows


def ratio_table(report: SpeedReport) -> Table:
    """A row for each task: the headline."""
    # Where variants were left out nobody knows which is the best.
    best_of = [
        f"{framework}'s best{' tried' if _left_out(report, framework) else ''}"
        for framework in FRAMEWORKS
    ]
    columns = ("task", *best_of, "JAX / PyTorch", "95 %", "JAX / eager", "95 % of it")
    rows = []
    for result in report.results:
        if (held := report.withheld(result)) is not None:
            rows.append((str(result.task), held, *[""] * (len(columns) - 2)))
            continue
        best = [result.best(framework) for framework in FRAMEWORKS]
        rows.append(
            (
                f"{result.task}{_busy(result)}",
                *(timing.variant if timing else "none" for timing in best),
                *_ratio_cells(result.ratio()),
                *_ratio_cells(result.ratio(BASELINE)),
            )
        )
    return columns, rows


def _left_out(report: SpeedReport, framework: str) -> list[str]:
    return [name for name in report.left_out if name.startswith(framework)]


def _busy(timed: TaskResult | Training) -> str:
    """What stands beside a figure that is shown all the same."""
    return f" ({timed.invalid})" if timed.invalid else ""


def _ratio_cells(found: Estimate | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    return f"{found.median:.2f}", f"{found.low:.2f} to {found.high:.2f}"


def cost_table(report: SpeedReport) -> Table:
    """A row for each timing: what it costs before its steady state, and in memory."""
    columns = (
        "task", "variant", "import, s", "build, s", "first call, s", "of that compiler's count, s",
        "ms a step", f"s an epoch of {EPOCH:,}, first", "s an epoch, 100", "peak MiB",
        "of that before it was built", "device peak MiB", "threads",
    )  # fmt: skip
    rows = []
    for result in report.results:
        for timing in [] if report.withheld(result) else shown(result):
            rows.append(
                (
                    f"{result.task}{_busy(result)}",
                    timing.name,
                    _number(timing.import_seconds),
                    _number(timing.build_seconds),
                    _number(timing.first_seconds),
                    _number(timing.compile_seconds),
                    _milliseconds(step_seconds(timing)),
                    f"{epoch_seconds(timing, 1):.1f}",
                    f"{epoch_seconds(timing, 100):.1f}",
                    _mebi(timing.peak_bytes),
                    _mebi(timing.base_bytes),
                    _mebi(timing.device_peak_bytes),
                    "" if timing.threads is None else str(timing.threads),
                )
            )
    return columns, rows


def roofline_table(report: SpeedReport) -> Table:
    """A row for each task whose work was counted."""
    columns = (
        "task", "GFLOP", "with padding", "XLA's count", "MB", "XLA's count of MB",
        "ceiling GFLOP/s", "ceiling GB/s", "floor, ms", "one after the other, ms",
        *(f"{framework}'s best, % of floor" for framework in FRAMEWORKS),
    )  # fmt: skip
    rows = []
    for result in report.results:
        work, floor, ceilings = result.work, result.floor, result.ceilings
        if work is None or floor is None or ceilings is None:
            continue
        held = report.withheld(result)
        near = [None if held else result.nearness(framework) for framework in FRAMEWORKS]
        rows.append(
            (
                str(result.task),
                f"{work.flops / 1e9:.3g}",
                f"{work.dense_flops / 1e9:.3g}",
                f"{work.xla_flops / 1e9:.3g}",
                f"{work.bytes / 1e6:.3g}",
                f"{work.xla_bytes / 1e6:.3g}",
                f"{ceilings.flops / 1e9:,.0f}",
                f"{ceilings.bytes / 1e9:,.1f}",
                _milliseconds(floor.overlapped),
                _milliseconds(floor.added),
                *("" if share is None else f"{100 * share:.0f} %" for share in near),
            )
        )
    return columns, rows


def notebook_table(report: SpeedReport) -> Table:
    """A row for each training from start to end."""
    columns = ("variant", "repeat", "import, s", "s to the end", "epoch losses", "accuracy")
    rows = [
        (
            f"{t.framework} {t.variant}",
            str(t.repeat + 1),
            f"{t.import_seconds:.1f}",
            report.withheld(t) or f"{t.seconds:.1f}{_busy(t)}",
            " ".join(f"{epoch.loss:.3f}" for epoch in t.epochs),
            f"{100 * t.epochs[-1].accuracy:.2f} %",
        )
        for t in report.notebook
    ]
    return columns, rows


def _milliseconds(seconds: float) -> str:
    """Three digits, without an exponent."""
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _mebi(value: int | None) -> str:
    return "" if value is None else f"{value / MEBI:,.0f}"
