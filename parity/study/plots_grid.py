"""The pictures of a grid of CNNs. Imports no framework."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from parity.report.picture import hues
from parity.study.description import Study
from parity.study.groups import Group, Result
from parity.study.judge import along
from parity.study.statistics import Mean

DOWN, ACROSS, PANEL = "pooling", "convolutions", "filter"
"""The axes of a heat map, and that of the panels."""


def heat_maps(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> Figure | None:
    """Held-out accuracy by depth and pooling, a panel for each filter."""
    axes_of = dict(study.axes)
    cells: dict[str, dict[tuple[str, str], tuple[Group, Mean]]] = {}
    for group in groups:
        point, mean = dict(group.first["point"]), group.last(f"{group.held_out}_accuracy")
        if mean and point.get("head") == axes_of["head"][0]:
            panel = cells.setdefault(point[PANEL], {})
            panel[point[DOWN], point[ACROSS]] = group, mean
    if not cells:
        return None
    means = [100 * mean.mean for panel in cells.values() for _, mean in panel.values()]
    low, high = min(means), max(max(means), min(means) + 1e-9)
    names = [name for name in axes_of[PANEL] if name in cells]
    widths = [len({across for _, across in cells[name]}) for name in names]
    figure = Figure((2.4 + 1.35 * sum(widths), 3.6))
    panels = figure.subplots(1, len(names), squeeze=False, width_ratios=widths)[0]
    for axes, name in zip(panels, names, strict=True):
        columns = [v for v in axes_of[ACROSS] if any(v == across for _, across in cells[name])]
        rows = axes_of[DOWN]
        shades = np.full((len(rows), len(columns)), np.nan)
        for (down, across), (group, mean) in cells[name].items():
            y, x = rows.index(down), columns.index(across)
            shades[y, x] = 100 * mean.mean
            reach = "" if math.isnan(mean.high) else f"\n± {100 * (mean.high - mean.mean):.2f}"
            size = group.first["parameters"]
            count = f"{size / 1e6:.2f} M" if size >= 1e6 else f"{size / 1e3:.0f} k"
            bright = (100 * mean.mean - low) / (high - low) > 0.6
            axes.text(x, y, f"{100 * mean.mean:.2f}{reach}\n{count}", ha="center", va="center",
                      fontsize=7.5, color="black" if bright else "white")  # fmt: skip
        axes.imshow(shades, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        axes.grid(False)
        axes.set(title=f"filter {name}", xticks=range(len(columns)), xticklabels=columns,
                 xlabel=ACROSS, yticks=range(len(rows)),
                 yticklabels=rows if axes is panels[0] else [])  # fmt: skip
    held_out = groups[0].held_out
    figure.suptitle(f"{held_out} accuracy, % (± of 95 %), and parameters", x=0.01, ha="left",
                    fontsize=10)  # fmt: skip
    figure.subplots_adjust(left=1.45 / figure.get_figwidth(), right=0.99, top=0.82, bottom=0.14,
                           wspace=0.06)  # fmt: skip
    return figure


def one_at_a_time(
    study: Study, results: Sequence[Result], groups: Sequence[Group]
) -> Figure | None:
    """The notebook's choice with another value on each axis."""
    lines = [(axis, values, along(study, groups, axis)) for axis, values in study.axes]
    lines = [(axis, values, points) for axis, values, points in lines if len(points) > 1]
    if not lines:
        return None
    figure = Figure((10, 3.6))
    panels = figure.subplots(1, len(lines), squeeze=False, sharey=True)[0]
    for panel, (axis, values, points) in zip(panels, lines, strict=True):
        there = [value for value in values if value in points]
        held_out = groups[0].held_out
        looks = ((held_out, *hues(2)[:1], "-"), ("training", *hues(2)[1:], "--"))
        for label, hue, dashes in looks:
            key = "train_accuracy" if label == "training" else f"{held_out}_accuracy"
            means = [points[v].last(key) for v in there]
            marks = [(i, mean) for i, mean in enumerate(means) if mean]
            reaches = [100 * (m.high - m.mean) if m.n > 1 else 0.0 for _, m in marks]
            panel.errorbar([i for i, _ in marks], [100 * m.mean for _, m in marks], reaches,
                           fmt=f"o{dashes}", color=hue, capsize=3, label=label)  # fmt: skip
        panel.set(title=axis, xticks=range(len(there)), xlim=(-0.4, len(there) - 0.6))
        panel.set_xticklabels([v.replace(" ", "\n", 1) for v in there], fontsize=7.5)
    panels[0].set_ylabel("accuracy, %")
    panels[0].legend()
    figure.subplots_adjust(left=0.06, right=0.99, top=0.9, bottom=0.2, wspace=0.06)
    return figure
