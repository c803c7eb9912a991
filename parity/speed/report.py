"""A run as tables on the terminal, as speed.json, speed.md and plots."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.table

from jax_impl.errors import InputError
from parity import files, markdown
from parity.console import Console
from parity.speed import plots
from parity.speed.results import (
    BASELINE,
    EPOCH,
    FRAMEWORKS,
    SpeedReport,
    TaskResult,
    compile_overhead,
    epoch_seconds,
    shown,
    step_seconds,
    throughput,
)
from parity.speed.rounds import Timing
from parity.speed.statistics import Estimate

SCHEMA = 1
JSON, MARKDOWN = "speed.json", "speed.md"
MEBI = 2**20

Table = tuple[Sequence[str], list[tuple[str, ...]]]
"""Columns and rows."""


def check_free(directory: Path) -> None:
    """Raises InputError if `directory` holds something: a run must not be lost to the next one."""
    try:
        if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
            raise InputError(f"{directory} exists: pass another --out, or remove it")
        if directory.exists() and any(directory.iterdir()):
            raise InputError(f"{directory} is not empty: pass another --out, or remove it")
    except OSError as error:
        raise files.cannot_write(directory, error) from error


def write(report: SpeedReport, directory: Path) -> None:
    """Writes all files; `directory` must not exist or be empty, and appears complete.

    Raises:
      InputError: it holds something, or cannot be written.
    """
    check_free(directory)
    with files.whole_directory(directory) as staging:
        (staging / JSON).write_text(files.to_json(content(report), indent=2) + "\n")
        (staging / MARKDOWN).write_text(to_markdown(report))
        plots.write(report, staging)


def content(report: SpeedReport) -> dict[str, Any]:
    """Schema 1: environment, options, load, and for each task every sample and its summary."""
    return {
        "schema": SCHEMA,
        "passed": report.passed,
        "environment": report.environment,
        "data": report.data,
        "options": report.options,
        "warnings": report.warnings,
        "other_cores_before": report.busy_before,
        "other_cores_during": report.busy_during,
        "tasks": [_task(result) for result in report.results],
        "notebook": [dataclasses.asdict(training) for training in report.notebook],
    }


def _task(result: TaskResult) -> dict[str, Any]:
    floor, best = result.floor, {name: result.best(name) for name in FRAMEWORKS}
    return {
        **dataclasses.asdict(result.task),
        "reference": result.reference and result.reference._asdict(),
        "work": result.work and dataclasses.asdict(result.work),
        "ceilings": result.ceilings and dataclasses.asdict(result.ceilings),
        "floor_seconds": floor and dataclasses.asdict(floor),
        "best": {name: timing and timing.variant for name, timing in best.items()},
        "share_of_floor": {name: result.nearness(name) for name in FRAMEWORKS},
        "jax_to_best": _estimate(result.ratio()),
        "jax_to_eager": _estimate(result.ratio(BASELINE)),
        "timings": [_timing(timing) for timing in result.timings],
    }


def _timing(timing: Timing) -> dict[str, Any]:
    fields = dataclasses.asdict(timing)
    del fields["task"]
    if timing.blocks:
        fields["images_per_second"] = _estimate(throughput(timing))
        fields["compile_overhead_seconds"] = compile_overhead(timing)
    return fields


def _estimate(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate._asdict()


def show(report: SpeedReport, console: Console) -> None:
    """Prints the tables, the warnings and the ratios."""
    for title, (columns, rows) in (
        ("Throughput", throughput_table(report)),
        ("JAX against PyTorch", ratio_table(report)),
    ):
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=title)
        for column in columns:
            table.add_column(column, justify="left" if column in WORDS else "right")
        for row in rows:
            table.add_row(*row)
        console.table(table)
    for line in report.warnings:
        console.line(line)
    console.line(verdict(report))


def verdict(report: SpeedReport) -> str:
    """A line: whether everything that was timed computed the right loss."""
    problems = [f"{t.task} {t.name}: {t.status}" for t in report.wrong]
    problems += [f"{what}: every variant failed" for what in report.unmeasured]
    if problems:
        return f"FAILED: {'; '.join(problems)}"
    count = sum(1 for timing in report.timings if timing.good and timing.blocks)
    if not count:
        return "FAILED: nothing was timed"
    return f"{count} timings, all of the right loss"


WORDS = {
    "task", "variant", "status", "JAX's best", "PyTorch's best", "best", "95 %", "epoch losses",
}  # fmt: skip


def throughput_table(report: SpeedReport) -> Table:
    """A row for each timing of each task, the fastest first."""
    columns = ("task", "variant", "images/s", "95 %", "ms a step", "first call, s", "peak MiB")
    rows = []
    for result in report.results:
        for timing in shown(result):
            found = throughput(timing)
            rows.append(
                (
                    str(result.task),
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
    columns = (
        "task", "JAX's best", "PyTorch's best", "JAX / PyTorch", "95 %", "JAX / eager",
        "95 % of it",
    )  # fmt: skip
    rows = []
    for result in report.results:
        best = [result.best(framework) for framework in FRAMEWORKS]
        rows.append(
            (
                str(result.task),
                *(timing.variant if timing else "none" for timing in best),
                *_ratio_cells(result.ratio()),
                *_ratio_cells(result.ratio(BASELINE)),
            )
        )
    return columns, rows


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
        for timing in shown(result):
            rows.append(
                (
                    str(result.task),
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
        near = [result.nearness(framework) for framework in FRAMEWORKS]
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
            f"{t.seconds:.1f}",
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


def to_markdown(report: SpeedReport) -> str:
    """The same as Markdown, with what was not timed and why."""
    environment, options = report.environment, report.options
    during = report.busy_during
    lines = [
        "# Speed, JAX against PyTorch",
        "",
        f"**{verdict(report)}**",
        "",
        *markdown.heading(environment, report.data),
        f"- other work on the machine: {report.busy_before:.2f} cores before the start, "
        f"{'unknown' if during is None else f'{during:.2f} cores'} while blocks were timed",
        f"- {options['rounds']} rounds of blocks of about {options['seconds']:g} s, one process "
        "for each variant, in turns; seed "
        f"{options['seed']}",
        *[f"- {name}={value}" for name, value in environment["variables"].items()],
        *[f"- {line}" for line in report.warnings],
        "",
        "## JAX against PyTorch",
        "",
        "Throughput of JAX's best variant over that of PyTorch's best, and over PyTorch's eager "
        "code: the median over rounds, with a bootstrap interval of 95 %. Above 1 JAX is faster. "
        "The best are chosen by the same samples.",
        "",
        *_markdown(ratio_table(report)),
        "",
        "## Throughput",
        "",
        *_markdown(throughput_table(report)),
        "",
        f"![Throughput]({plots.THROUGHPUT})",
        "",
        "## Compilation, first call, memory",
        "",
        "The first call holds compilation; caches on disk are empty. Seconds of an epoch hold its "
        "share of compilation, when one epoch is trained and when 100 are. Peak memory is of the "
        "variant's whole process.",
        "",
        *_markdown(cost_table(report)),
    ]
    if (drawn := plots.AMORTISED) in plots.drawn(report):
        lines += ["", f"![Seconds of an epoch with compilation]({drawn})"]
    lines += [
        "",
        "## Distance from the hardware's limits",
        "",
        "By hand: the products of convolutions and linear layers without those with padding; "
        "parameters that meet a pixel, their gradients and moments once in and out, outputs of "
        "these layers once out and in training once in. The floor is the longer of the two times "
        "at the ceilings, which were measured in this run: the best matrix product of either "
        "framework, and a copy. "
        "What fits the caches can be faster than a copy.",
        "",
        *_markdown(roofline_table(report)),
    ]
    if report.notebook:
        lines += [
            "",
            "## The notebook from start to end",
            "",
            "Seconds hold compilation, five epochs and one test, and not the imports. The data "
            "lies in memory for both; the notebook's own loader is slower.",
            "",
            *_markdown(notebook_table(report)),
            "",
            f"![Time to the notebook's accuracy]({plots.NOTEBOOK})",
        ]
    missing = [f"- {t.task}: {t.name}: {t.status}" for t in report.timings if not t.good]
    if missing:
        lines += ["", "## Not timed", "", *missing]
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> list[str]:
    columns, rows = table
    return markdown.table(columns, rows, set(columns) - WORDS)
