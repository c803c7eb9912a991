"""The section of report.html on what failed: the first failure, the others, and what follows."""

from collections.abc import Sequence

from parity.report.page import parts
from parity.report.page.markup import Markup, tag
from parity.report.page.parts import Content, Section


def section(results: Sequence[Content]) -> Section | None:
    """A card for each failure of its own, a line for each that follows; None without any."""
    failed = [item for item in enumerate(results) if item[1]["passed"] is False]
    if not failed:
        return None
    own = [(number, result) for number, result in failed if not _follows(result)]
    cards = [_card(number, result) for number, result in own]
    body = [tag("div", *cards, class_="cards" if len(cards) > 1 else "cards only")]
    if len(own) < len(failed):
        lines = [_line(number, result, own) for number, result in failed if _follows(result)]
        body.append(tag("ul", *lines, class_="followers"))
    return Section("failures", "What failed, and where", body)


def _follows(result: Content) -> bool:
    return bool(result["diagnosis"] and result["diagnosis"]["follows"])


def _card(number: int, result: Content) -> Markup:
    title = f" {result['model']} · {result['rung']} · {result['dtype']}"
    link = tag("a", "In the table", href=f"#result-{number}")
    return tag(
        "article",
        tag("h3", tag("span", "✗ failed", class_="fail"), title),
        *(_diagnosis(result["diagnosis"]) if result["diagnosis"] else ()),
        tag("p", parts.measured(result), ". ", link),
        tag("p", result["detail"], class_="note"),
        class_="card",
    )


def _line(number: int, result: Content, own: Sequence[tuple[int, Content]]) -> Markup:
    """One that follows from the first failure of its model, as far as that is among its own."""
    before = [r for n, r in own if n < number and r["model"] == result["model"]]
    first = f"{before[0]['rung']} {before[0]['dtype']}" if before else "an earlier failure"
    name = f"{result['model']} · {result['rung']} · {result['dtype']}"
    link = tag("a", name, href=f"#result-{number}")
    return tag("li", link, f" follows from {first}: {parts.measured(result)}")


def _diagnosis(diagnosis: Content) -> list[Markup]:
    before, cause = diagnosis["before"], diagnosis["cause"]
    # What stands above is not told again; of several causes the text has the others, too.
    text, mark, told = diagnosis["text"].partition(f" Cause: {cause}." if cause else " Cause: ")
    others = told.strip() if cause and mark else ""
    text = text if cause else diagnosis["text"]
    said = [cause, *([tag("span", f". {others.removesuffix('.')}")] if others else [])]
    why = [tag("p", tag("b", "Cause: "), *said, class_="cause")] if cause else []
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
    found = [path] if diagnosis["module"] else []
    return [*why, *found, tag("p", text)]


def _error(value: float | None) -> str:
    return f"relative error {parts.number(value)}"
