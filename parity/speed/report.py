"""A run as tables on the terminal, as speed.json, speed.md and plots."""

import dataclasses
from pathlib import Path
from typing import Any

from jax_impl.errors import InputError
from parity.report import markdown
from parity.shell import files
from parity.shell.console import Console
from parity.speed import plots, terminal
from parity.speed.results import (
    BASELINE,
    FRAMEWORKS,
    SpeedReport,
    TaskResult,
    compile_overhead,
    throughput,
)
from parity.speed.rounds import Timing
from parity.speed.saved import JSON
from parity.speed.statistics import Estimate
from parity.speed.tables import (
    WORDS,
    Table,
    cost_table,
    notebook_table,
    ratio_table,
    roofline_table,
    throughput_table,
)

SCHEMA = 1
MARKDOWN = "speed.md"


def check_free(directory: Path) -> None:
    """Raises InputError if `directory` holds something: a run must not be lost to the next one."""
    try:
        if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
            raise InputError(f"{directory} exists: pass another --out, or remove it")
        if directory.exists() and any(directory.iterdir()):
            raise InputError(f"{directory} is not empty: pass another --out, or remove it")
    except OSError as error:
        raise files.cannot_write(directory, error) from error
    files.check_place(directory)


def write(report: SpeedReport, directory: Path) -> None:
    """Writes all files, each of them whole, in the place of those of the run so far.

    Raises:
        InputError: they cannot be written.
    """
    write_samples(report, directory)
    for name, image in plots.images(report).items():
        files.write_whole(directory / name, image)
    # Last: it shows the plots.
    files.write_whole(directory / MARKDOWN, to_markdown(report).encode())


def write_samples(report: SpeedReport, directory: Path) -> None:
    """Writes the JSON file alone, which has all that was measured.

    Raises:
        InputError: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.cannot_write(directory, error) from error
    text = files.to_json(content(report), indent=2) + "\n"
    files.write_whole(directory / JSON, text.encode())


def content(report: SpeedReport) -> dict[str, Any]:
    """Schema 1: environment, options, load, and for each task every sample and its summary."""
    return {
        "schema": SCHEMA,
        "passed": report.passed,
        "unfinished": report.unfinished,
        "environment": report.environment,
        "data": report.data,
        "options": report.options,
        "warnings": report.warnings,
        "other_cores_before": report.busy_before,
        "other_cores_during": report.other_cores,
        "left_out": report.left_out,
        "tasks": [_task(report, result) for result in report.results],
        "notebook": [
            {**dataclasses.asdict(training), "invalid": training.invalid}
            for training in report.notebook
        ],
    }


def _task(report: SpeedReport, result: TaskResult) -> dict[str, Any]:
    """Every sample; what follows from them only where it is not withheld."""
    floor, held = result.floor, report.withheld(result)
    found = {
        **dataclasses.asdict(result.task),
        "invalid": result.invalid,
        "other_cores": result.other_cores,
        "reference": result.reference and result.reference._asdict(),
        "work": result.work and dataclasses.asdict(result.work),
        "ceilings": result.ceilings and dataclasses.asdict(result.ceilings),
        "floor_seconds": floor and dataclasses.asdict(floor),
        "timings": [_timing(timing, shown=held is None) for timing in result.timings],
    }
    if held:
        return found
    best = {name: result.best(name) for name in FRAMEWORKS}
    return found | {
        "best": {name: timing and timing.variant for name, timing in best.items()},
        "share_of_floor": {name: result.nearness(name) for name in FRAMEWORKS},
        "jax_to_best": _estimate(result.ratio()),
        "jax_to_eager": _estimate(result.ratio(BASELINE)),
    }


def _timing(timing: Timing, shown: bool) -> dict[str, Any]:
    fields = dataclasses.asdict(timing)
    del fields["task"]
    if timing.blocks and shown:
        fields["images_per_second"] = _estimate(throughput(timing))
        fields["compile_overhead_seconds"] = compile_overhead(timing)
    return fields


def _estimate(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate._asdict()


def show(report: SpeedReport, console: Console) -> None:
    """Prints the tables, the warnings and the ratios."""
    for line in terminal.lines(report):
        console.line(line)
    for line in (*report.warnings, verdict(report)):
        console.paragraph(line)


def verdict(report: SpeedReport) -> str:
    """A line: whether everything was timed, alone on the machine, and computed the right loss."""
    problems = [f"{t.task} {t.name}: {t.status}" for t in report.wrong]
    problems += [f"{what}: every variant failed" for what in report.unmeasured]
    if problems:
        return f"FAILED: {'; '.join(problems)}"
    if report.unfinished:
        return f"UNFINISHED: {report.unfinished}"
    if report.invalid:
        return f"FAILED: {'; '.join(report.invalid)}; run it again with nothing beside it"
    count = sum(1 for timing in report.timings if timing.good and timing.blocks)
    if not count:
        return "FAILED: nothing was timed"
    return f"{count} timings, all of the right loss"


def to_markdown(report: SpeedReport) -> str:
    """The same as Markdown, with what was not timed and why."""
    environment, options = report.environment, report.options
    among = f" among those tried, without {', '.join(report.left_out)}" if report.left_out else ""
    during, drawn = report.other_cores, plots.drawn(report)
    lines = [
        "# Speed, JAX against PyTorch",
        "",
        f"**{verdict(report)}**",
        "",
        *markdown.heading(environment, report.data),
        f"- other work on the machine: {report.busy_before:.2f} cores before the start, "
        f"{'unknown' if during is None else f'at most {during:.2f} cores'} while the blocks of a "
        "task were timed",
        f"- {options['rounds']} rounds of blocks of about {options['seconds']:g} s, one process "
        "for each variant, in turns; seed "
        f"{options['seed']}",
        *[f"- {name}={value}" for name, value in environment.get("variables", {}).items()],
        *[f"- {line}" for line in report.warnings],
        "",
        "## JAX against PyTorch",
        "",
        "Throughput of JAX's best variant over that of PyTorch's best, and over PyTorch's eager "
        "code: the median over rounds, with a bootstrap interval of 95 %. Above 1 JAX is faster. "
        f"The best are chosen by the same samples{among}.",
        "",
        *_markdown(ratio_table(report)),
        "",
        *([f"![Which is faster]({plots.FASTER}.png)", ""] if plots.FASTER in drawn else []),
        "## Throughput",
        "",
        *_markdown(throughput_table(report)),
        "",
        f"![Throughput]({plots.THROUGHPUT}.png)",
        "",
        "## Compilation, first call, memory",
        "",
        "The first call holds compilation; caches on disk are empty. Seconds of an epoch hold its "
        "share of compilation, when one epoch is trained and when 100 are. Peak memory is of the "
        "variant's whole process.",
        "",
        *_markdown(cost_table(report)),
    ]
    if plots.AMORTISED in drawn:
        lines += ["", f"![Seconds of an epoch with compilation]({plots.AMORTISED}.png)"]
    if report.options["roofline"]:
        lines += [
            "",
            "## Distance from the hardware's limits",
            "",
            "By hand: the products of convolutions and linear layers without those with padding; "
            "parameters that meet a pixel, their gradients and moments once in and out, outputs "
            "of these layers once out and in training once in. The floor is the longer of the two "
            "times at the ceilings, which were measured in this run: the best matrix product of "
            "either framework, and a copy. What fits the caches can be faster than a copy.",
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
            f"![Time to the notebook's accuracy]({plots.NOTEBOOK}.png)",
        ]
    missing = [f"- {t.task}: {t.name}: {t.status}" for t in report.timings if not t.good]
    if missing:
        lines += ["", "## Not timed", "", *missing]
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> list[str]:
    columns, rows = table
    return markdown.table(columns, rows, set(columns) - WORDS)
