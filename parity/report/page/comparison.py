"""The section of report.html on the models beside each other: their accuracy, cost and curves."""

import itertools
from collections.abc import Iterator, Sequence

from parity.report.page import parts, plots
from parity.report.page.figures import figure
from parity.report.page.markup import Markup, tag
from parity.report.page.parts import Content, Section

TITLE = "Conventional CNN against ResNet"
NUMBERS = "test accuracy", "seconds an epoch", "parameters", "forward, MFLOPs an image"
COLUMNS = "model", "framework", "test accuracy", "trained", *NUMBERS[1:]
NOTE = (
    "MFLOPs: forward pass of one image as each framework counts it (PyTorch: products of "
    "convolutions and linear layers; XLA: every operation, without products with padding). "
    "Seconds an epoch: a step's median time in this run, times the steps of an epoch; the runs "
    "follow one another, each alone. Equal trainings of both kinds of model, by several seeds, are "
    "compared by `parity study cnn-vs-resnet`."
)
CURVES = (
    "Test accuracy after each epoch or part is that of the first 2,000 test images at most; the "
    "table's, of all of them, is that of the trained model."
)


def section(rows: Sequence[Content]) -> Section | None:
    """The table, and both frameworks' accuracy and loss by epoch; None without trainings."""
    if not rows:
        return None
    table = parts.table(COLUMNS, [_row(row) for row in rows], TITLE, NUMBERS, "stacked")
    drawn = tag("div", *_figures(rows), class_="plots")
    return Section("comparison", TITLE, [table, drawn, parts.note(f"{CURVES} {NOTE}")])


def _row(row: Content) -> Markup:
    flops, accuracy = (
        None if row[key] is None else factor * row[key]
        for key, factor in (("forward_flops", 1e-6), ("accuracy", 100))
    )
    cells = (
        row["model"],
        row["framework"],
        f"{parts.number(accuracy, '.2f')} %",
        row["extent"],
        parts.number(row["epoch_seconds"], ".1f"),
        parts.number(row["parameters"], ","),
        parts.number(flops, ".1f"),
    )
    return parts.row(COLUMNS, cells, dict.fromkeys(NUMBERS, "number"))


def _figures(rows: Sequence[Content]) -> Iterator[Markup]:
    """Of accuracy, then of loss, for each model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    for key, label, factor in (
        ("accuracies", "test accuracy, %", 100),
        ("losses", "loss, nats", 1),
    ):
        for number, model in enumerate(models):
            mine = [row for row in rows if row["model"] == model]
            values = {
                row["framework"]: [None if v is None else factor * v for v in row[key]]
                for row in mine
            }
            ours, theirs = (values.get(framework, []) for framework in ("JAX", "PyTorch"))
            pairs = list(itertools.zip_longest(ours, theirs, fillvalue="–"))
            if not pairs:
                continue
            extent = mine[0]["extent"]
            unit = "epoch" if mine[0]["unit"] == "epoch" else "part of the training"
            x = range(1, len(pairs) + 1)
            plot = plots.curves(f"{key}-{number}", (unit, label), x, ours, theirs, plots.NARROW)
            points = [{"x": at, "a": a, "b": b} for at, (a, b) in zip(x, pairs, strict=True)]
            columns = {unit: "x", "JAX": "a", "PyTorch": "b"}
            yield figure(f"{model}, {label.partition(',')[0]}, {extent}", plot, columns, points)
