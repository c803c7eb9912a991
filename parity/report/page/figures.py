"""The sections of report.html that have plots, each plot with its numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

from parity.report.page import parts, plots
from parity.report.page.markup import Markup, tag
from parity.report.page.parts import Content, Section

OFF_SCALE = "Zero has a line of its own below the scale, and what is not finite one above it."


def depth(results: Sequence[Content]) -> Section | None:
    """Error by module, for each result that has it."""
    figures = []
    for name, title, result in _distinct(results, "modules"):
        modules = result["modules"]
        blamed = (result["diagnosis"] or {}).get("module")
        plot = plots.depth(f"depth-{name}", modules, _float64_limit(result), blamed)
        columns = {
            "module": "name",
            "float64 difference": "difference",
            "float32 difference": "float32_difference",
            "JAX float32 noise": "our_noise",
            "PyTorch float32 noise": "their_noise",
        }
        fault = f", goes wrong at {blamed}" if blamed else ""
        figures.append(figure(title + fault, plot, columns, modules))
    note = (
        "Relative error of each module's output, in the order of execution. Noise is a "
        f"framework's float32 result against its own float64 result. {OFF_SCALE}"
    )
    if any(result["modules"] and result["diagnosis"] for result in results):
        note += " A vertical bar marks the module where it goes wrong."
    return _section("depth", "Error against depth", note, figures)


def trajectory(results: Sequence[Content]) -> Section | None:
    """The frameworks' distance by training step, for each result that has it."""
    figures = []
    for name, title, result in _distinct(results, "steps"):
        plot = plots.divergence(f"trajectory-{name}", result["steps"], _float64_limit(result))
        columns = {
            "step": "step",
            "float64": "float64",
            "float32": "float32",
            "JAX against itself": "our_own",
            "PyTorch against itself": "their_own",
        }
        figures.append(figure(title, plot, columns, result["steps"]))
    note = (
        "Both frameworks train from the same weights on the same batches. Relative difference of "
        f"all parameters after each step. A band is how far a framework in float32 is from itself, "
        f"trained from weights moved by one rounding, on batches in another order. {OFF_SCALE}"
    )
    return _section("trajectory", "Divergence in training", note, figures)


def losses(results: Sequence[Content]) -> Section | None:
    """Both frameworks' losses by step."""
    figures = []
    for name, title, result in _distinct(results, "steps"):
        steps, labels = result["steps"], ("training step", "loss, nats")
        x, ours, theirs = ([s[key] for s in steps] for key in ("step", "our_loss", "their_loss"))
        plot = plots.curves(f"step-losses-{name}", labels, x, ours, theirs, plots.WIDE)
        columns = {"step": "step", "JAX": "our_loss", "PyTorch": "their_loss"}
        figures.append(figure(f"{title}, by step", plot, columns, steps))
    note = "Mean cross entropy of a step's images, in float64."
    return _section("losses", "Losses of both frameworks", note, figures)


def _section(name: str, title: str, note: str, figures: Sequence[Markup]) -> Section | None:
    if not figures:
        return None
    return Section(name, title, [parts.note(note), tag("div", *figures, class_="plots")])


def figure(
    title: str, plot: plots.Plot, columns: dict[str, str], points: Sequence[Content]
) -> Markup:
    """A plot and its points as a table; `columns` gives each column's key in the points."""
    # A phone scrolls a wide plot rather than shrink its text; a large screen does not blow it up.
    size = f"min-width: {0.95 * plot.width:.0f}px; max-width: {1.3 * plot.width:.0f}px"
    svg = plot.svg.replace("<svg", f'<svg role="img" aria-label="plot" style="{size}"', 1)
    rows = [
        tag("tr", *(tag("td", _point(point[key]), class_="number") for key in columns.values()))
        for point in points
    ]
    return tag(
        "figure",
        tag("figcaption", tag("b", title)),
        parts.scroll(Markup(svg), title, class_="plot"),
        tag(
            "details",
            tag("summary", f"The {len(points)} points as numbers"),
            parts.table(columns, rows, f"Numbers of {title}", numbers=columns),
        ),
        class_="wide" if plot.wide else None,
    )


def _point(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else parts.number(value)


def _distinct(results: Sequence[Content], key: str) -> Iterator[tuple[int, str, Content]]:
    """Number, title and result for those with such data, once where several have the same."""
    seen = []
    for number, result in enumerate(results):
        if result[key] and (result["model"], result[key]) not in seen:
            seen.append((result["model"], result[key]))
            yield number, f"{result['model']}, {result['rung']}", result


def _float64_limit(result: Content) -> float | None:
    """The tolerance, if it is one of the relative error in float64 that the plots show."""
    comparable = result["dtype"] == "float64" and result["unit"].startswith("relative")
    return result["tolerance"] if comparable else None
