"""A page as a test reads it."""

from html.parser import HTMLParser
from typing import Any

VOID = {"meta"}


class Page(HTMLParser):
    """Tags in order with their attributes, and the text below each; fails if one is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.tags: list[dict[str, Any]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        assert len(dict(attrs)) == len(attrs), attrs
        element = {"tag": tag, "text": "", "in": [e["tag"] for e in self.open], **dict(attrs)}
        self.tags.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data: str):
        for element in self.open:
            element["text"] += data

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, Any]]:
        found = [element for element in self.tags if element["tag"] == tag]
        return [e for e in found if class_ is None or class_ in e.get("class", "").split()]

    def section(self, name: str) -> str:
        (found,) = [element for element in self.all("section") if element["id"] == name]
        return found["text"]
