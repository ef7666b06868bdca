"""What `criu-lazy report` has made, read as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta"}


class Page(HTMLParser):
    """`words`: its text; `pictures`: what its SVGs say that they are. Fails if it is not whole, or needs more."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.pictures: list[str] = []
        self.feed(html)
        self.close()
        assert html.startswith("<!DOCTYPE html>") and not self.open, self.open
        assert "url(" not in html and "@import" not in html

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        assert tag not in ("script", "link", "iframe", "img") and not {"src", "href"} & set(named), tag
        assert not [value for value in named.values() if value and ("nan" in value or "inf" in value)], named
        if tag not in VOID:
            self.open.append(tag)
        if tag == "svg":
            self.pictures.append(named["aria-label"] or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data
