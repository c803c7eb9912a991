"""HTML whose texts are escaped: a tag takes its children for text unless they are tags."""

import html
from collections.abc import Iterable


class Markup(str):
    """HTML as it stands; any other string is text, and is escaped when a tag takes it."""


def tag(name: str, *children: str, **attributes: str | int | None) -> Markup:
    """`<name attributes>children</name>`; `class_` stands for class, and None leaves it out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[str], separator: str = "") -> Markup:
    """One after another, texts escaped."""
    return Markup(escaped(separator).join(escaped(child) for child in children))


def escaped(text: str) -> Markup:
    """The text as HTML; what is HTML already stays."""
    return text if isinstance(text, Markup) else Markup(html.escape(text))
