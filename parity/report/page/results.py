"""The sections of report.html on results one by one, and on the models beside each other."""

from collections.abc import Sequence

from parity.report.page import parts
from parity.report.page.markup import Markup, tag
from parity.report.page.parts import Content, Section

RESULT_COLUMNS = (
    "model", "passed", "rung", "dtype", "measured", "tolerance", "unit", "detail",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "model", "framework", "parameters", "forward, MFLOPs an image", "seconds an epoch", "trained",
    "losses, nats", "test accuracy",
)  # fmt: skip
NUMBERS = (
    "measured", "tolerance", "parameters", "forward, MFLOPs an image", "seconds an epoch",
    "test accuracy",
)  # fmt: skip
VERDICTS = {True: "yes", False: "NO", None: "not compared"}
"""What a result's `passed` is called."""

COMPARISON_NOTE = (
    "MFLOPs: forward pass of one image as each framework counts it (PyTorch: products of "
    "convolutions and linear layers; XLA: every operation, without products with padding). "
    "Seconds an epoch: a step's median time in this run, times the steps of an epoch; the runs "
    "follow one another, each alone. Equal trainings of both kinds of model, by several seeds, are "
    "compared by `parity study cnn-vs-resnet`."
)


def failures(results: Sequence[Content]) -> Section | None:
    """A card for each failure, with its diagnosis where there is one."""
    cards = [
        _card(number, result) for number, result in enumerate(results) if result["passed"] is False
    ]
    if not cards:
        return None
    return "failures", "What failed, and where", [tag("div", *cards, class_="cards")]


def table(results: Sequence[Content]) -> Section | None:
    """All of them, with every detail."""
    if not results:
        return None
    rows = [_row(number, result) for number, result in enumerate(results)]
    whole = parts.table(RESULT_COLUMNS, rows, "All results", numbers=NUMBERS)
    return "results", "All results", [whole]


def comparison(rows: Sequence[Content]) -> Section | None:
    """The models' cost and accuracy in each framework."""
    if not rows:
        return None
    title = "Conventional CNN against ResNet"
    cells = [_comparison_row(row) for row in rows]
    whole = parts.table(COMPARISON_COLUMNS, cells, title, numbers=NUMBERS)
    return "comparison", title, [whole, parts.note(COMPARISON_NOTE)]


def _card(number: int, result: Content) -> Markup:
    title = f" {result['model']} · {result['rung']} · {result['dtype']}"
    link = tag("a", "In the table", href=f"#result-{number}")
    return tag(
        "article",
        tag("h3", tag("span", "✗ failed", class_="fail"), title),
        tag("p", parts.measured(result), ". ", link),
        *(_diagnosis(result["diagnosis"]) if result["diagnosis"] else ()),
        tag("p", result["detail"], class_="note"),
        class_="card",
    )


def _diagnosis(diagnosis: Content) -> list[Markup]:
    before, cause = diagnosis["before"], diagnosis["cause"]
    path = tag(
        "div",
        tag(
            "div",
            tag("span", "just before it", class_="what"),
            tag("b", before or "nothing"),
            tag("div", _error(diagnosis["before_error"]) if before else "it comes first"),
        ),
        tag("div", "→", class_="arrow", aria_hidden="true"),
        tag(
            "div",
            tag("span", "✗ goes wrong here", class_="what"),
            tag("b", diagnosis["module"] or "no module"),
            tag("div", _error(diagnosis["error"])),
            class_="fail",
        ),
        class_="path",
    )
    why = [tag("p", tag("b", "Cause: "), cause)] if cause else []
    return [path, *why, tag("p", diagnosis["text"])]


def _error(value: float | None) -> str:
    return f"relative error {parts.number(value)}"


def _row(number: int, result: Content) -> Markup:
    return tag(
        "tr",
        tag("th", result["model"], scope="row"),
        tag("td", parts.mark(result["passed"], VERDICTS[result["passed"]])),
        tag("td", result["rung"]),
        tag("td", result["dtype"]),
        tag("td", parts.number(result["measured"]), class_="number"),
        tag("td", parts.number(result["tolerance"]), class_="number"),
        tag("td", result["unit"], class_="medium"),
        tag("td", ". ".join((result["detail"], *result["remarks"])), class_="long"),
        id=f"result-{number}",
    )


def _comparison_row(row: Content) -> Markup:
    flops, accuracy = (
        None if row[key] is None else factor * row[key]
        for key, factor in (("forward_flops", 1e-6), ("accuracy", 100))
    )
    return tag(
        "tr",
        tag("th", row["model"], scope="row"),
        tag("td", row["framework"]),
        tag("td", parts.number(row["parameters"], ","), class_="number"),
        tag("td", parts.number(flops, ".1f"), class_="number"),
        tag("td", parts.number(row["epoch_seconds"], ".1f"), class_="number"),
        tag("td", row["extent"]),
        tag("td", " ".join(parts.number(loss, ".3f") for loss in row["losses"]), class_="medium"),
        tag("td", f"{parts.number(accuracy, '.2f')} %", class_="number"),
    )
