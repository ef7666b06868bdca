"""What the pages for users say to type, to write, and where to look: commands, YAML, links, of README.md and docs/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paths import CHECKOUT

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
CHANGES = CHECKOUT / "CHANGELOG.md"  # what was: its links alone have to be right

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ENDS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>"}  # of a command, in a line of the shell's


@dataclass(frozen=True)
class Piece:
    """Of a page: its place, and what stands there."""

    page: Path
    line: int
    text: str
    language: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}: {self.text}"


def blocks() -> Iterator[Piece]:
    """The fenced ones."""
    for page in PAGES:
        text = page.read_text()
        for found in FENCE.finditer(text):
            yield Piece(page, text.count("\n", 0, found.start(2)) + 1, found[2], found[1])


def inlines() -> Iterator[Piece]:
    """What stands in backquotes in the text."""
    for page in PAGES:
        # As long as before, for the lines' numbers.
        text = FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), page.read_text())
        for found in INLINE.finditer(text):
            code = " ".join(found[1].split()).replace("\\|", "|")
            yield Piece(page, text.count("\n", 0, found.start()) + 1, code)


def block_lines() -> Iterator[Piece]:
    """Lines of blocks as a shell reads them: without a prompt, one that goes on joined to the next."""
    for block in blocks():
        text = re.sub(r"\\\n\s*", lambda found: " " * len(found[0]), block.text)
        for number, line in enumerate(text.split("\n")):
            yield Piece(block.page, block.line + number, line.removeprefix("$ "), block.language)


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line of the shell's; its comment is none."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += "-=%@^,:+!"
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in ENDS or (set(word) <= set("<>&|;") and word):
            if words:
                yield words
            words = []
        else:
            words.append(word)


def comment(line: str) -> str:
    """The line's."""
    _, _, after = line.partition(" # ")
    return after.strip()


def links() -> Iterator[Piece]:
    """To other pages, files, and headings."""
    for page in [*PAGES, CHANGES]:
        text = FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), page.read_text())
        for found in LINK.finditer(text):
            if not found[1].startswith(("http://", "https://", "mailto:")):
                yield Piece(page, text.count("\n", 0, found.start()) + 1, found[1])


def headings(page: Path) -> list[str]:
    """Their text."""
    text = FENCE.sub("", page.read_text())
    return [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", found).replace("`", "") for found in HEADING.findall(text)]


def github_anchor(heading: str) -> str:
    """As GitHub names it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def site_anchor(heading: str) -> str:
    """As Python-Markdown's toc does, for mkdocs."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))
