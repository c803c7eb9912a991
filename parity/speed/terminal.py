"""A run on a terminal of 80 columns: a line a timing, and no name cut. Imports no framework."""

from collections.abc import Iterator

from parity.report.columns import columns
from parity.speed.results import BASELINE, FRAMEWORKS, SpeedReport, shown, step_seconds, throughput

HEADER = "variant", "images/s", "95 %", "ms a step", "first call, s"


def lines(report: SpeedReport) -> Iterator[str]:
    """Each task with its variants, the fastest first, and JAX's best over PyTorch's."""
    for result in report.results:
        yield from ("", str(result.task))
        if (held := report.withheld(result)) is not None:
            yield held
            continue
        if result.invalid:
            yield result.invalid
        rows = [
            (
                timing.name,
                f"{found.median:,.0f}",
                f"{found.low:,.0f} to {found.high:,.0f}",
                f"{1e3 * step_seconds(timing):.3g}",
                "" if timing.first_seconds is None else f"{timing.first_seconds:.1f}",
            )
            for timing in shown(result)
            for found in (throughput(timing),)
        ]
        if rows:
            yield from columns(HEADER, rows, {"variant"})
        best = [result.best(framework) for framework in FRAMEWORKS]
        names = " / ".join(timing.name for timing in best if timing)
        if (ratio := result.ratio()) is not None:
            yield f"{names}: {ratio.told}"
        if (eager := result.ratio(BASELINE)) is not None:
            yield f"to PyTorch's {BASELINE} code: {eager.told}"
    yield ""
