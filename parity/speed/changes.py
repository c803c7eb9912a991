"""What changed between two runs of `parity speed`. Imports no framework."""

from collections.abc import Iterator

from jax_impl.errors import shown
from parity.report.columns import columns
from parity.speed import statistics
from parity.speed.results import FRAMEWORKS, SpeedReport, TaskResult, throughput
from parity.speed.statistics import Estimate
from parity.speed.workloads import Task

FACTS = ("commit", "date", "cpu", "cores", "device", "python", "precision")
HEADER = "framework", "best before, images/s", "after", "after / before, 95 %", ""


def lines(before: SpeedReport, after: SpeedReport) -> list[str]:
    """The environments' differences, and for each task that both timed its throughputs' ratio.

    A change is told as one where the ratio's 95 % interval leaves out 1. Samples of two runs are
    not of the same rounds: the interval is that of the quotient of two medians.
    """
    found = [*_environment(before, after)]
    olds, news = ({r.task: r for r in report.results} for report in (before, after))
    for task in dict.fromkeys((*olds, *news)):
        found += ["", *_task(task, before, olds.get(task), after, news.get(task))]
    return found


def _environment(before: SpeedReport, after: SpeedReport) -> Iterator[str]:
    old, new = before.environment, after.environment
    changed = False
    for name in FACTS:
        if old.get(name) != new.get(name):
            changed = True
            yield f"{name}: {_said(old.get(name))} -> {_said(new.get(name))}"
    for what, missing in (("packages", None), ("variables", "not set")):
        first, second = (side[what] for side in (old, new))
        for name in dict.fromkeys((*first, *second)):
            one, other = first.get(name, missing), second.get(name, missing)
            if one != other:
                changed = True
                yield f"{name}: {_said(one)} -> {_said(other)}"
    for which, side in (("first", before), ("second", after)):
        if side.unfinished:
            yield f"the {which} run is unfinished: {shown(side.unfinished)}"
    if not changed:
        yield "the same commit, machine and versions"


def _said(value: object) -> str:
    return "unknown" if value is None else shown(str(value))


def _task(
    task: Task,
    before: SpeedReport,
    old: TaskResult | None,
    after: SpeedReport,
    new: TaskResult | None,
) -> Iterator[str]:
    yield str(task)
    if old is None or new is None:
        yield f"  timed in the {'second' if old is None else 'first'} run alone"
        return
    for report, result in ((before, old), (after, new)):
        if (held := report.withheld(result)) is not None:
            yield f"  {held}"
            return
    for which, result in (("first", old), ("second", new)):
        if result.invalid:
            yield f"  the {which} is {result.invalid}"
    rows, names = [], []
    for framework in FRAMEWORKS:
        first, second = old.best(framework), new.best(framework)
        if first is None or second is None:
            rows.append(
                (framework, *("none" if t is None else "" for t in (first, second)), "", "")
            )
            names.append("")
            continue
        ratio = statistics.quotient(second.throughputs, first.throughputs)
        sizes = (f"{throughput(timing).median:,.0f}" for timing in (first, second))
        rows.append((framework, *sizes, ratio.told, _verdict(ratio)))
        same = first.variant == second.variant
        names.append(first.variant if same else f"{first.variant} -> {second.variant}")
    yield from columns(HEADER, rows, {"framework", ""}, below=names)
    one, other = old.ratio(), new.ratio()
    if one is not None and other is not None:
        yield f"JAX / PyTorch: {one.told} -> {other.told}"


def _verdict(ratio: Estimate) -> str:
    if ratio.low > 1:
        return "faster"
    return "slower" if ratio.high < 1 else "no change"
