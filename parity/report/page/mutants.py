"""The section of report.html on planted bugs: which were caught, where, and what was blamed."""

from collections.abc import Callable, Iterable, Sequence

from parity.report.page import parts
from parity.report.page.markup import Markup, join, tag
from parity.report.page.parts import Content, Section

COLUMNS = ("planted bug", "caught", "rung expected", "rung found", "module", "cause")


def section(mutants: Sequence[Content]) -> Section | None:
    """The tally and a row for each bug; None without bugs."""
    if not mutants:
        return None
    groups = [
        _group(name, [mutant for mutant in mutants if mutant["group"] == name])
        for name in dict.fromkeys(mutant["group"] for mutant in mutants)
    ]
    note = (
        "Each bug was planted in one of the frameworks, and the ladder was climbed. Caught: a rung "
        "failed. A dash: nothing was expected there, and it does not count."
    )
    table = tag("table", parts.head(COLUMNS), *groups)
    body = [parts.note(note), _tally(mutants), parts.scroll(table, "Planted bugs")]
    return Section("mutants", "Planted bugs", body, folded=True)


def caught(mutants: Iterable[Content]) -> str:
    """How many were, of how many."""
    return _count(mutants, lambda mutant: mutant["caught"])


def _tally(mutants: Sequence[Content]) -> Markup:
    counts = {
        "caught": caught(mutants),
        "at the expected rung": _count(mutants, _right("rung")),
        "module named right": _count(mutants, _right("module")),
        "cause named right": _count(mutants, _right("cause")),
    }
    items = (tag("li", tag("b", count), label) for label, count in counts.items())
    return tag("ul", *items, class_="tally")


def _group(name: str, mutants: Sequence[Content]) -> Markup:
    title = tag("span", name, tag("small", f" caught {caught(mutants)}"))
    head = tag("th", title, colspan=len(COLUMNS), scope="rowgroup")
    return tag("tbody", tag("tr", head, class_="group"), *(_row(mutant) for mutant in mutants))


def _row(mutant: Content) -> Markup:
    return tag(
        "tr",
        tag("th", mutant["name"], scope="row"),
        tag("td", parts.mark(mutant["caught"], "caught" if mutant["caught"] else "missed")),
        tag("td", mutant["rung"] or "–"),
        *(tag("td", _found(mutant, key)) for key in ("rung", "module", "cause")),
    )


def _found(mutant: Content, key: str) -> Markup:
    """What was found and, where that is wrong, what should have been."""
    right = _right(key)(mutant)
    expected, found = mutant[key], mutant[f"found_{key}"]
    if right is None:
        return tag("span", found or "–", class_="none")
    mark = parts.mark(right, found or "none")
    if right or key == "rung":  # the expected rung has its own column
        return mark
    return join((mark, tag("div", f"expected {expected}", class_="note")))


def _right(key: str) -> Callable[[Content], bool | None]:
    """Whether a bug's finding is the expected one; None where none was expected."""
    return lambda mutant: None if mutant[key] is None else mutant[key] == mutant[f"found_{key}"]


def _count(mutants: Iterable[Content], test: Callable[[Content], bool | None]) -> str:
    answers = [answer for answer in map(test, mutants) if answer is not None]
    return f"{sum(answers)} of {len(answers)}"
