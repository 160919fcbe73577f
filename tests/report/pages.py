"""Reads a page as a browser would as far as the tests need it: elements, the text in them, and the table's rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "input", "img", "br"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    parent: Element | None
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, with single spaces, and one between cells."""
        return " ".join(self._spaced().split())

    def _spaced(self) -> str:
        gap = " " if self.tag in ("td", "th") else ""
        return gap + "".join(child if isinstance(child, str) else child._spaced() for child in self.children) + gap

    @property
    def raw(self) -> str:
        return "".join(child if isinstance(child, str) else child.raw for child in self.children)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def all(self, tag: str) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag:
                    yield child
                yield from child.all(tag)

    def __getitem__(self, identity: str) -> Element:
        return next(element for element in self.everything() if element.attributes.get("id") == identity)

    def everything(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.everything()


@dataclass
class Page:
    source: str
    root: Element

    @property
    def rows(self) -> dict[str, dict[str, Element]]:
        """The leaderboard's cells, by system and by the heading with its group."""
        board = self.root["board"]
        heads = board_heads(board)
        rows = (row for row in board.all("tr") if "data-method" in row.attributes)
        found = {}
        for row in rows:
            cells = [child for child in row.children if isinstance(child, Element)]
            name = next(span for span in cells[1].all("span") if "name" in span.classes).text
            found[name] = dict(zip(heads, cells, strict=True))
        return found

    @property
    def charts(self) -> dict[str, Any]:
        return dict(json.loads(self.root["charts"].raw))


def board_heads(board: Element) -> list[str]:
    groups, heads = [list(filter(is_cell, row.children)) for row in next(board.all("thead")).all("tr")]
    names = ["" for _ in range(2)]
    for group in groups[1:]:
        names += [group.text] * int(group.attributes["colspan"])
    return [f"{group}: {head.text}" if group else head.text for group, head in zip(names, heads, strict=True)]


def is_cell(node: Element | str) -> bool:
    return isinstance(node, Element)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.at = self.root = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th", "tr"):  # their end tags may be left out
            while self.at.tag in (("td", "th", "tr") if tag == "tr" else ("td", "th")):
                assert self.at.parent is not None
                self.at = self.at.parent
        element = Element(tag, dict(attrs), self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_endtag(self, tag: str) -> None:
        at: Element | None = self.at
        while at is not None and at.tag != tag:
            at = at.parent
        if at is not None and at.parent is not None:
            self.at = at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def read_page(source: str) -> Page:
    reader = _Reader()
    reader.feed(source)
    reader.close()
    return Page(source, reader.root)
