"""The picture of trainings in pairs, one in each framework. Imports no framework."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from parity.report.picture import hues
from parity.study.description import Study
from parity.study.groups import Group, Result, paired
from parity.study.judge import NOTEBOOK
from parity.study.statistics import equality


def pairs(study: Study, results: Sequence[Result], groups: Sequence[Group]) -> Figure | None:
    """A line for each seed from PyTorch's to JAX's accuracy; below, the mean difference."""
    names = [case.group for case in study.cases if paired(results, case.group)]
    if not names:
        return None
    figure = Figure((10, 5.2))
    panels = figure.subplots(2, len(names), squeeze=False, height_ratios=[3, 1])
    for (above, below), name, hue in zip(panels.T, names, hues(len(names)), strict=True):
        both = [
            (100 * b["test_accuracy"], 100 * a["test_accuracy"])
            for _, a, b in paired(results, name)
            if None not in (a["test_accuracy"], b["test_accuracy"])
        ]
        for pair in both:
            above.plot((0, 1), pair, "o-", color=hue, alpha=0.6, linewidth=0.8, markersize=4)
        if name in NOTEBOOK:
            above.axhline(100 * NOTEBOOK[name], color="#555555", linestyle=":")
            above.annotate("the notebook's own", (0.5, 100 * NOTEBOOK[name]), (0, 3),
                           textcoords="offset points", ha="center", fontsize=7.5)  # fmt: skip
        above.set_title(f"{name}: test accuracy, %", fontsize=9)
        above.set(xticks=(0, 1), xlim=(-0.3, 1.3),
                  xticklabels=("PyTorch", "JAX"))  # fmt: skip
        margin = 100 * dict(study.margin)[name]
        below.axvspan(-margin, margin, color=hue, alpha=0.12, linewidth=0)
        below.axvline(0, color="#555555", linewidth=0.8)
        if len(both) > 1:
            told = equality([jax - torch for torch, jax in both], margin)
            below.plot((told.low, told.high), (0, 0), color=hue, linewidth=2.5)
            below.plot(told.mean, 0, "o", color=hue)
        below.set(yticks=(), xlabel=f"JAX - PyTorch, points: 90 % interval, n = {len(both)}")
    figure.subplots_adjust(left=0.06, right=0.98, top=0.93, bottom=0.1, hspace=0.35)
    return figure
