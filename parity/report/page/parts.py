"""What the sections of report.html are made of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from parity.report.page import style
from parity.report.page.markup import Markup, tag

Content = dict[str, Any]


class Section(NamedTuple):
    """Its id, its title, what is below the title, and whether that is shown only when asked for."""

    name: str
    title: str
    body: Sequence[str]
    folded: bool = False


def document(title: str, *body: str) -> str:
    """A whole page, of one file."""
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Markup(style.css())),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', *body), lang='en')}\n"


def table(
    columns: Iterable[str],
    rows: Iterable[str],
    label: str,
    numbers: Iterable[str] = (),
    class_: str | None = None,
) -> Markup:
    """A table that scrolls in its own box; `numbers` are the columns aligned to the right."""
    body = tag("tbody", *rows)
    return scroll(tag("table", head(columns, numbers), body, class_=class_), label)


def row(
    columns: Sequence[str], cells: Sequence[str], classes: Mapping[str, str], id: str | None = None
) -> Markup:
    """A row of a table of class `stacked`, whose cells a phone shows one below the other.

    `classes` has those of some columns' cells.
    """
    first, *others = zip(columns, cells, strict=True)
    made = [
        tag("td", cell, class_=classes.get(column), data_label=column) for column, cell in others
    ]
    return tag("tr", tag("th", first[1], scope="row"), *made, id=id)


def head(columns: Iterable[str], numbers: Iterable[str] = ()) -> Markup:
    """A table's first row."""
    right = set(numbers)
    cells = (
        tag("th", column, scope="col", class_="number" if column in right else None)
        for column in columns
    )
    return tag("thead", tag("tr", *cells))


def scroll(content: Markup, label: str, class_: str = "scroll") -> Markup:
    """A box that scrolls what is too wide for it, by keyboard too; `label` says what it is."""
    return tag("div", content, class_=class_, tabindex=0, role="region", aria_label=label)


def mark(good: bool | None, text: str) -> Markup:
    """Right, wrong or neither, by symbol and colour."""
    symbols = {True: ("✓", "mark pass"), False: ("✗", "mark fail"), None: ("–", "mark none")}
    symbol, class_ = symbols[good]
    return tag("span", f"{symbol} {text}", class_=class_)


def note(text: str) -> Markup:
    """A paragraph in small print."""
    return tag("p", text, class_="note")


def number(value: float | None, form: str = "") -> str:
    """Two or three digits, with an exponent where the number is very small or large."""
    if value is None:
        return "not finite"
    if form:
        return format(value, form)
    if value == 0:
        return "0"
    return f"{value:.1e}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.3g}"


def measured(result: Content) -> str:
    """What a result measured and what it may, in its unit."""
    found, limit = number(result["measured"]), number(result["tolerance"])
    return f"measured {found}, tolerance {limit} {result['unit']}"
