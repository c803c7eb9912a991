"""A study in words: its table, study.md, and the same as a page. Imports no framework."""

from collections.abc import Mapping, Sequence
from typing import Any

from parity.report.curves import FRAMEWORKS
from parity.report.markdown import table as markdown_table
from parity.report.page.markup import Markup, tag
from parity.report.page.parts import document, note
from parity.report.page.parts import table as html_table
from parity.study.description import Study
from parity.study.groups import Group, grouped
from parity.study.judge import answers
from parity.study.statistics import Mean

COLUMNS = (
    "trained", "in", "n", "epochs", "parameters", "MFLOPs", "field", "loss", "training, %",
    "held out, %", "test, %", "seconds",
)  # fmt: skip
NUMBERS = COLUMNS[2:]
LEGEND = (
    "n: trainings, by the seeds 0, 1 ...; MFLOPs: of an image's forward pass, a multiplication and "
    "an addition being two; field: pixels of the image that a pixel of the last map depends on, on "
    "each axis; loss and training accuracy: of the last epoch, while it trained; held out: of the "
    "images named, after the last epoch; test: of the test images, at the end. Mean, and after ± "
    "half its interval of 95 % by Student's t."
)


def rows(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """A row of `COLUMNS` for each group."""
    return [_row(group) for group in groups]


def _row(group: Group) -> tuple[str, ...]:
    first = group.first
    held_out = group.last(f"{group.held_out}_accuracy")
    return (
        group.name,
        FRAMEWORKS[group.framework],
        str(len(group.results)) + (f" ({group.stopped} stopped)" if group.stopped else ""),
        str(first["epochs"]),
        f"{first['parameters']:,}",
        f"{first['flops'] / 1e6:,.1f}",
        str(first["field"]),
        _cell(group.last("loss"), 1, 3),
        _cell(group.last("train_accuracy")),
        _cell(held_out) + (" validation" if group.held_out == "validation" and held_out else ""),
        _cell(group.test()),
        _cell(group.seconds(), 1, 0),
    )


def _cell(mean: Mean | None, scale: float = 100, digits: int = 2) -> str:
    if mean is None:
        return "-"
    text = f"{scale * mean.mean:,.{digits}f}"
    return text if mean.n == 1 else f"{text} ± {scale * (mean.high - mean.mean):,.{digits}f}"


def markdown(study: Study, told: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """study.md.

    Args:
        study: what it is.
        told: what study.json holds.
        pictures: names of its plots, without their suffix.
    """
    results = told["trainings"]
    groups = grouped(results, [case.group for case in study.cases])
    lines = [f"# {study.question}", "", extent(told), ""]
    lines += [f"- {sentence}" for sentence in answers(study, results)]
    for name in pictures:
        lines += ["", f"![{_title(name)}]({name}.svg)"]
    lines += ["", *markdown_table(COLUMNS, rows(groups), NUMBERS), "", LEGEND, ""]
    for label, evaluation in told.get("evaluated", {}).items():
        lines += [f"{label}, by class: {_classes(evaluation)}.", ""]
        lines += [f"![Confusion matrix of {label}](evaluation-{label}/confusion.png)", ""]
    lines += [f"    {told['command']}", ""]
    failed = [f"- {label} could not be trained: {why}" for label, why in told["failed"].items()]
    lines += [*failed, ""] if failed else []
    lines += [f"- {name}: {value}" for name, value in _environment(results)]
    return "\n".join(lines).rstrip() + "\n"


def _classes(evaluation: Mapping[str, Any]) -> str:
    """The accuracy of each class, the largest first."""
    told = [(one.get("accuracy", 0.0), one["name"]) for one in evaluation["classes"]]
    return ", ".join(f"{name} {100 * share:.1f} %" for share, name in sorted(told, reverse=True))


def _confused(evaluation: Mapping[str, Any]) -> Markup:
    """Images by class and predicted class."""
    names = [one["name"] for one in evaluation["classes"]]
    cells = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", str(n), class_="number") for n in row))
        for name, row in zip(names, evaluation["confusion"], strict=True)
    ]
    label = "images by class and predicted class"
    return html_table([label, *names], cells, label, numbers=names)


def extent(told: Mapping[str, Any]) -> str:
    """How much of a study is done, of what study.json holds."""
    done, planned = len(told["trainings"]), told["planned"]
    text = f"{done} of {planned} trainings are over" if done < planned else f"{done} trainings"
    given_up = sum(bool(result.get("given_up")) for result in told["trainings"])
    text += f", {given_up} of them given up before their end" if given_up else ""
    spent = sum(result["seconds"] or 0 for result in told["trainings"])
    return f"{text}, {spent / 3600:.1f} hours of training in all. Data: {told['data']}."


def _environment(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """On what, and by which code, the trainings ran."""
    found = []
    for name in ("device", "cpu", "cores", "commit", "python"):
        values = sorted({str(result.get(name)) for result in results})
        if values:
            found.append((name, ", ".join(values)))
    return found


def html(study: Study, told: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """study.html: one page, without scripts or anything from elsewhere.

    Args:
        study: what it is.
        told: what study.json holds.
        pictures: the plots as SVG, by name.
    """
    results = told["trainings"]
    groups = grouped(results, [case.group for case in study.cases])
    cells = [tag("tr", tag("th", row[0], scope="row"), *map(_td, row[1:])) for row in rows(groups)]
    sentences = [tag("li", sentence) for sentence in answers(study, results)]
    failed = [tag("li", f"{label}: {why}") for label, why in told["failed"].items()]
    figures = [
        tag(
            "figure",
            tag("figcaption", _title(name)),
            tag("div", Markup(svg[svg.index("<svg") :]), class_="plot"),
            class_="wide",
        )
        for name, svg in pictures.items()
    ]
    facts = [
        part
        for name, value in (*_environment(results), ("command", told["command"]))
        for part in (tag("dt", name), tag("dd", value))
    ]
    body = [
        tag("header", tag("h1", f"Study: {study.name}"), tag("h2", study.question)),
        tag("p", extent(told)),
        tag("ul", *sentences),
        *([tag("h2", "What could not be trained"), tag("ul", *failed)] if failed else []),
        tag("h2", "Curves"),
        tag("div", *figures, class_="plots"),
        tag("h2", "All trainings"),
        html_table(COLUMNS, cells, "All trainings", numbers=NUMBERS),
        note(LEGEND),
        *(
            part
            for label, evaluation in told.get("evaluated", {}).items()
            for part in (
                tag("h2", f"{label}, class by class"),
                tag("p", _classes(evaluation)),
                _confused(evaluation),
            )
        ),
        tag("dl", *facts, class_="facts"),
    ]
    return document(f"Study: {study.name}", *body)


def _td(cell: str) -> Markup:
    return tag("td", cell, class_="number" if cell[:1].isdigit() else None)


def _title(name: str) -> str:
    return name.replace("-", " ")
