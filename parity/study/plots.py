"""The pictures of a study: what every one has, and which are drawn. Imports no framework."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from parity.report.picture import STYLE, hues, image
from parity.study.description import Study
from parity.study.groups import Group, Result, grouped
from parity.study.judge import named
from parity.study.plots_grid import heat_maps, one_at_a_time
from parity.study.plots_pairs import pairs

_RC = {**STYLE, "axes.grid": True, "legend.fontsize": 8}
KINDS: tuple[Literal["png", "svg"], ...] = ("png", "svg")
NAMED = 12
"""So many points have their names beside them; more have numbers."""
Draw = Callable[[Study, Sequence[Result], Sequence[Group]], Figure | None]


def draw(study: Study, results: Sequence[Result]) -> dict[str, dict[str, bytes]]:
    """Every picture that there is something to draw for, by name: PNG and SVG by suffix."""
    groups = grouped(results, [case.group for case in study.cases])
    found = {}
    with matplotlib.style.context(["default", _RC]):
        for name, make in _PICTURES[study.judgement].items():
            figure = make(study, results, groups) if groups else None
            if figure is not None:
                found[name] = {kind: image(figure, kind) for kind in KINDS}
    return found


def by_epoch(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> Figure:
    """Loss, and accuracy on held-out images, with the seeds' interval; training dashed."""
    figure, (left, right) = _two(groups)
    for group, hue in zip(groups, hues(len(groups)), strict=True):
        label = named(group, groups)
        _band(left, group, "loss", hue, scale=1, label=label)
        _band(right, group, f"{group.held_out}_accuracy", hue, label=label)
        _band(right, group, "train_accuracy", hue, dashes="--")
    held_out = " or ".join(sorted({group.held_out for group in groups}))
    left.set(title="training loss", xlabel="epoch")
    right.set(title=f"accuracy, %: {held_out}, and training dashed", xlabel="epoch")
    _positive_log(left)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def by_seconds(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> Figure | None:
    """Held-out accuracy by seconds of training."""
    figure = Figure((10, 4.4 + 0.19 * -(-len(groups) // 2)))
    axes = figure.subplots()
    drawn = False
    for group, hue in zip(groups, hues(len(groups)), strict=True):
        curve, each = group.curve(f"{group.held_out}_accuracy"), group.curve("seconds")
        epochs = [epoch for epoch in curve if epoch in each]
        spent = [sum(each[e].mean for e in each if e <= epoch) for epoch in epochs]
        axes.plot(spent, [100 * curve[e].mean for e in epochs], "o-", color=hue, markersize=3,
                  label=named(group, groups))  # fmt: skip
        drawn |= bool(epochs)
    if not drawn:
        return None
    axes.set(xscale="log", xlabel="seconds of training", title="accuracy on held-out images, %")
    plain_log(axes.xaxis)
    _legend(figure, axes)
    return figure


def by_size(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> Figure | None:
    """Test accuracy by FLOPs of an image and by parameters; names, or numbers of the legend."""
    tested = [(group, mean) for group in groups if (mean := group.test())]
    if not tested:
        return None
    few = len(tested) <= NAMED
    figure, panels = _two([group for group, _ in tested])
    titles = ("flops", "MFLOPs of an image, forward", 1e6), ("parameters", "parameters", 1)
    for axes, (key, title, unit) in zip(panels, titles, strict=True):
        points = []
        for number, (group, mean) in enumerate(tested, 1):
            x, y, reach = group.first[key] / unit, 100 * mean.mean, 100 * (mean.high - mean.mean)
            name = named(group, groups)
            axes.errorbar(x, y, None if math.isnan(reach) else reach, fmt="o", markersize=5,
                          color=hues(len(tested))[number - 1],
                          label=name if few else f"{number}: {name}")  # fmt: skip
            points.append((x, y, group.name if few else str(number)))
        axes.set(xscale="log", xlabel=title, title="test accuracy, %")
        plain_log(axes.xaxis)
        axes.margins(0.12, 0.08)
        name_points(axes, points)
    return figure


def name_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Names beside points, on the side with more room, moved down where they would touch."""
    axes.autoscale_view()
    place = [axes.transAxes.inverted().transform(axes.transData.transform(p[:2])) for p in points]
    taken: list[tuple[float, float, float]] = []
    for (x, y), (*point, text) in sorted(zip(place, points, strict=True), key=lambda p: -p[0][1]):
        left, width = x > 0.5, 0.0125 * len(text)
        start, level = x - 0.02 - width if left else x + 0.02, y
        while any(start < end and begin < start + width and abs(level - other) < 0.042
                  for begin, end, other in taken):  # fmt: skip
            level -= 0.01
        taken.append((start, start + width, level))
        axes.annotate(text, (point[0], point[1]), (x - 0.02 if left else x + 0.02, level),
                      textcoords="axes fraction", ha="right" if left else "left", va="center",
                      fontsize=7, arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#888888"},
                      annotation_clip=False)  # fmt: skip


def gradient_norms(
    study: Study, results: Sequence[Result], groups: Sequence[Group]
) -> Figure | None:
    """The norm of the loss's gradient by each layer's weights, at the start and at the end."""
    measured = [group for group in groups if group.first.get("gradients")]
    if not measured:
        return None
    figure, pair = _two(measured)
    for axes, when, title in zip(pair, (0, -1), ("at the start", "after training"), strict=True):
        for group, hue in zip(measured, hues(len(measured)), strict=True):
            norms = list(group.first["gradients"][when]["norms"].values())
            places = [i / max(1, len(norms) - 1) for i in range(len(norms))]
            dashes = "--" if group.name.startswith("plain") else "-"
            axes.plot(places, norms, dashes, marker=".", color=hue, label=named(group, groups))
        axes.set(yscale="log", xlabel="depth of the layer, of the whole net's",
                 title=f"norm of the gradient by a layer's weights, {title}")  # fmt: skip
        plain_log(axes.yaxis)
    return figure


def plain_log(axis: Any) -> None:
    """Numbers without exponents' markup: at 1, 2 and 5 of each decade, at 1 alone of many."""
    low, high = axis.get_view_interval()
    many = high > 300 * low > 0
    axis.set_major_locator(LogLocator(subs=(1,) if many else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: in_short(x)))
    axis.set_minor_formatter(NullFormatter())


def in_short(number: float) -> str:
    """As 200, 20 k or 2 M."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def _two(groups: Sequence[Group]) -> tuple[Figure, tuple[Axes, Axes]]:
    """Two panels, with the legend of the left one below both."""
    figure = _Legended((10, 4.2 + 0.19 * -(-len(groups) // 2)))
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


class _Legended(Figure):
    """Puts the legend below when it is drawn, once the axes have their curves."""

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        if not self.legends:
            _legend(self, self.axes[0])
        super().savefig(*args, **kwargs)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    lines = -(-len(labels) // 2)
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.07, right=0.98, top=1 - 0.35 / height,
                           bottom=(0.65 + 0.19 * lines) / height, wspace=0.17)  # fmt: skip
    figure.legend(handles, labels, loc="lower left", ncols=2)


def _band(
    axes: Axes, group: Group, key: str, hue: Any, *, scale: float = 100, dashes: str = "-",
    label: str | None = None,
) -> None:  # fmt: skip
    curve = group.curve(key)
    epochs = sorted(curve)
    axes.plot(epochs, [scale * curve[e].mean for e in epochs], dashes, color=hue, marker="o",
              markersize=2.5, label=label)  # fmt: skip
    spread = [e for e in epochs if not math.isnan(curve[e].low)]
    if spread and dashes == "-":
        low, high = ([scale * getattr(curve[e], end) for e in spread] for end in ("low", "high"))
        axes.fill_between(spread, low, high, color=hue, alpha=0.15, linewidth=0)


def _positive_log(axes: Axes) -> None:
    values = [y for line in axes.get_lines() for y in line.get_ydata()]  # pyright: ignore
    if values and min(values) > 0 and max(values) > 50 * min(values):
        axes.set_yscale("log")
        plain_log(axes.yaxis)


_PICTURES: Mapping[str, Mapping[str, Draw]] = {
    "curves": {"by-epoch": by_epoch, "by-seconds": by_seconds, "by-size": by_size},
    "pairs": {"pairs": pairs, "by-epoch": by_epoch},
    "grid": {"heat-maps": heat_maps, "one-at-a-time": one_at_a_time, "by-size": by_size},
    "gradients": {"by-epoch": by_epoch, "gradients": gradient_norms},
}
