"""The plots of report.html, as SVG to be put into a page.

matplotlib draws; the page colours. Each colour of a plot is a placeholder that becomes a variable
of the page's style sheet, so that one drawing serves the light and the dark theme. Text stays
text, in the page's font.
"""

import dataclasses
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from parity.report.page.markup import Markup
from parity.report.picture import DASHES

Values = Sequence[float | None]

# Placeholders are colours that nothing else in a drawing has.
_COLOURS = ("ink", "muted", "line", "fail", "blue", "orange")
_PLACEHOLDERS = {name: f"#{i + 1:06x}" for i, name in enumerate(_COLOURS)}
PHONE = 360  # points; a phone has about as many pixels for it
WIDE, NARROW = DASHES["float64"], DASHES["float32"]
_NAMES = 60  # of modules that an axis shows at most
_RC = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so the layout is the same anywhere
    "text.parse_math": False,
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _PLACEHOLDERS["ink"],
    "axes.labelcolor": _PLACEHOLDERS["ink"],
    "axes.edgecolor": _PLACEHOLDERS["muted"],
    "xtick.color": _PLACEHOLDERS["muted"],
    "ytick.color": _PLACEHOLDERS["muted"],
    "xtick.labelcolor": _PLACEHOLDERS["ink"],
    "ytick.labelcolor": _PLACEHOLDERS["ink"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _PLACEHOLDERS["line"],
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


@dataclasses.dataclass(frozen=True)
class Plot:
    """A drawing, and its width in points."""

    svg: Markup
    width: float

    @property
    def wide(self) -> bool:
        """Whether it has more than 1.4 times the width of a narrow plot."""
        return self.width > 1.4 * PHONE


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a plot. None among its values stands for infinity and NaN."""

    label: str
    values: Values
    colour: str
    marker: str = ""
    dashes: str = "-"
    width: float = 1.6
    size: float = 3.2


def depth(
    name: str, modules: Sequence[dict[str, Any]], limit: float | None, mark: str | None
) -> Plot:
    """Error by module, in the order of execution; `mark` names the module to point at."""
    names = [module["name"] for module in modules]
    size = 3.2 if len(names) <= _NAMES else 0.0  # where marks would touch, lines say more
    series = [
        Series(label, [module[key] for module in modules], colour, marker, dashes, width, size)
        for label, key, colour, marker, dashes, width in (
            ("float64 difference", "difference", "ink", "o", WIDE, 2.0),
            ("float32 difference", "float32_difference", "ink", "s", NARROW, 2.0),
            ("JAX float32 noise", "our_noise", "blue", "^", NARROW, 1.2),
            ("PyTorch float32 noise", "their_noise", "orange", "D", NARROW, 1.2),
        )
    ]
    upright = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"}
    shown = range(0, len(names), math.ceil(len(names) / _NAMES))
    width = max(PHONE, 90 + 13.5 * len(shown))
    height = 290 + 5 * max(len(names[i]) for i in shown)

    def draw(axes: Axes) -> None:
        _log_axis(axes, range(len(names)), series, limit)
        axes.set_xticks(shown, [names[i] for i in shown], **upright)
        axes.set_xlim(-0.7, len(names) - 0.3)
        axes.set_ylabel("relative error")
        if mark in names:
            axes.axvline(names.index(mark), color=_PLACEHOLDERS["fail"], alpha=0.25, linewidth=8)

    return _plot(name, (width, height), draw, columns=2)


def divergence(name: str, steps: Sequence[dict[str, Any]], limit: float | None) -> Plot:
    """How far the parameters are apart after each step, and each framework from itself."""
    x = [step["step"] for step in steps]
    own = [
        Series(f"{framework} against itself", [step[key] for step in steps], colour, "", NARROW)
        for framework, key, colour in (
            ("JAX", "our_own", "blue"),
            ("PyTorch", "their_own", "orange"),
        )
        if any(step[key] is not None for step in steps)
    ]
    between = (
        Series("float64", [step["float64"] for step in steps], "ink", "o", WIDE, 1.8),
        Series("float32", [step["float32"] for step in steps], "ink", "s", NARROW, 1.6),
    )

    def draw(axes: Axes) -> None:
        _log_axis(axes, x, (*between, *own), limit)
        bottom = axes.get_ylim()[0]
        for band in own:
            y = [_drawn(value or None) for value in band.values]
            axes.fill_between(x, bottom, y, color=_PLACEHOLDERS[band.colour], alpha=0.14, lw=0)
        axes.set_xlabel("training step")
        axes.set_ylabel("relative difference")
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))

    return _plot(name, (PHONE, 290), draw, columns=2)


def curves(
    name: str, labels: tuple[str, str], x: Sequence[int], ours: Values, theirs: Values, dash: str
) -> Plot:
    """Both frameworks' curves, and below them JAX's less PyTorch's, which lie on each other.

    `labels` are those of the axes, `dash` is the precision's.
    """
    # Where both curves are one, the upper's thin line lets the lower be seen.
    series = (
        Series("PyTorch", theirs, "orange", dashes=dash, width=4.0),
        Series("JAX", ours, "blue", dashes=dash, width=1.6),
    )
    pairs = zip(ours, theirs, strict=False)
    apart = [math.nan if a is None or b is None else _drawn(a - b) for a, b in pairs]

    def draw(axes: Axes) -> None:
        for line in series:
            _line(axes, x, line, [_drawn(value) for value in line.values])
            _marks(axes, x, line, 1.0, "x", None, axes.get_xaxis_transform())
        if any(None in line.values for line in series):
            axes.plot([], [], label="infinite or NaN", **_look("ink", "x"))
        axes.set_ylabel(labels[1])

    def draw_difference(axes: Axes) -> None:
        _line(axes, x, Series("difference", apart, "ink", dashes=dash, width=1.4), apart)
        axes.axhline(0, color=_PLACEHOLDERS["muted"], linewidth=0.8)
        axes.set_xlabel(labels[0])
        axes.set_title("JAX - PyTorch", loc="left", fontsize=9.5)  # a label would be too long
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))

    return _plot(name, (PHONE, 330), draw, columns=3, below=draw_difference)


def _log_axis(axes: Axes, x: Sequence[int], series: Sequence[Series], limit: float | None) -> None:
    """A logarithmic axis has no place for zero and infinity: they get a line below and above."""
    values = [value for line in series for value in line.values]
    positive = [_drawn(value) for value in (*values, limit) if value] or [1.0]
    lowest, highest = math.log10(min(positive)), math.log10(max(positive))
    space = max(1, math.ceil((highest - lowest) / 7))
    low = math.floor(lowest / space) * space
    high = max(math.ceil(highest / space) * space, low + space)
    ticks = {10.0**power: f"1e{power}" for power in range(low, high + 1, space)}
    floor, top = 10.0 ** (low - space), 10.0 ** (high + space)
    axes.set_yscale("log")
    for line in series:
        _line(axes, x, line, [_drawn(value or None) for value in line.values])
        _marks(axes, x, line, floor, line.marker, 0)
        _marks(axes, x, line, top, "x", None)
    if limit:
        dashed = {"color": _PLACEHOLDERS["fail"], "linewidth": 1.2, "dashes": (6, 3)}
        axes.axhline(limit, label=f"float64 tolerance {limit:.1e}", **dashed)
    if 0 in values:
        ticks[floor] = "0"
    if None in values:
        ticks[top] = "∞ NaN"
    axes.set_yticks(list(ticks), list(ticks.values()), minor=False)
    axes.minorticks_off()
    reach = 10 ** (0.35 * space)
    axes.set_ylim(min(ticks) / reach, max(ticks) * reach)


def _line(axes: Axes, x: Sequence[int], line: Series, y: Sequence[float]) -> None:
    axes.plot(
        x[: len(y)],
        y,
        linestyle=line.dashes,
        linewidth=line.width,
        color=_PLACEHOLDERS[line.colour],
        marker=line.marker,
        markersize=line.size,
        label=line.label,
    )


def _drawn(value: float | None) -> float:
    """None leaves a gap; matplotlib overflows with what is nearly infinite."""
    if value is None:
        return math.nan
    if value == 0:
        return 0.0
    return math.copysign(min(max(abs(value), 1e-100), 1e100), value)


def _marks(
    axes: Axes, x: Sequence[int], line: Series, y: float, marker: str, of: float | None,
    at: Any = None,
) -> None:  # fmt: skip
    """Marks at height `y` where the line's value is `of`, and so has no place on the axis."""
    places = [place for place, value in zip(x, line.values, strict=False) if value == of]
    where = {"transform": at or axes.transData, "clip_on": False}
    if places:  # a line without points would be laid out all the same
        axes.plot(places, [y] * len(places), **_look(line.colour, marker), **where)


def _look(colour: str, marker: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": 6.5,
        "markeredgecolor": _PLACEHOLDERS[colour],
        "markerfacecolor": "none",
        "markeredgewidth": 1.5,
    }


def _plot(
    name: str,
    size: tuple[float, float],
    draw: Callable[[Axes], None],
    columns: int,
    below: Callable[[Axes], None] | None = None,
) -> Plot:
    """Draws on new axes, with the legend above them; `name` is the page's only plot of it.

    `below` draws on lower ones beneath them, of the same x.
    """
    width, height = size
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.style.context(["default", {**_RC, "svg.hashsalt": name}]):
        figure = Figure((width / 72, height / 72), layout="constrained")
        if below is None:
            upper = figure.add_subplot()
        else:
            upper, lower = figure.subplots(2, sharex=True, height_ratios=(5, 2))
            below(lower)
        draw(upper)
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper left", ncols=columns)
        with warnings.catch_warnings():  # the page's own fonts draw the letters
            warnings.filterwarnings("ignore", "Glyph ")
            figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Plot(_inline(buffer.getvalue()), width)


def _inline(text: str) -> Markup:
    """What an SVG file has, without what only a file needs, and in the page's colours and font."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box
    text = f"<svg {box[0]}>{rest}".replace("xlink:href", "href")
    text = re.sub(r"font-family: '[^\"]*'; ", "", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    for name, placeholder in _PLACEHOLDERS.items():
        text = text.replace(f": {placeholder}", f": var(--{name})")
    return Markup(text)
