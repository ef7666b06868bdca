"""Options of criu's that work against a lazy migration, in its configuration files or among those that a profile gives.

criu reads its files first and then its command line; of most options the last one counts. So a file may name a port, or
a directory: what criu-lazy says comes later. What a profile gives comes after that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from criu_lazy_ext.criu.config import config_files, line_words
from criu_lazy_ext.criu.getopt_long import OptionError, Positional, Table, parse_words
from criu_lazy_ext.criu.options import LONG_OPTIONS, OWN_OPTIONS, SHORT_OPTIONS

_TABLE = Table(LONG_OPTIONS, SHORT_OPTIONS, OWN_OPTIONS)
_NOTHING = "criu would only print that, and do nothing"
_REFUSES = "criu {} refuses it"
_OURS = "criu-lazy gives it itself"

# By what is run: what it must not be told, and why.
CONTRARY: dict[str, dict[str, str]] = {
    "dump": {
        "leave-running": "the source task would run on beside the restored one; leave it out",
        "leave-stopped": "the source task would stay, stopped, beside the restored one; leave it out",
        "page-server": "its memory would go to another page server",
        "prev-images-dir": "the destination doesn't have those images",
        "stream": "images have to be files",
        "tls": "criu-lazy's page server encrypts, and asks criu dump for pages in plain, on this host",
        "help": _NOTHING,
        "version": _NOTHING,
        **dict.fromkeys(("exec-cmd", "inherit-fd", "mntns-compat-mode", "restore-sibling"), _REFUSES.format("dump")),
    },
    "restore": {
        "restore-sibling": "the restored task could not be found, and removed, should the restore fail",
        "leave-stopped": "the restored task would stay stopped",
        "exec-cmd": "a command would run in place of the restored task's parent",
        "stream": "images have to be files",
        "help": _NOTHING,
        "version": _NOTHING,
    },
    "lazy-pages": {
        **dict.fromkeys(("daemon", "restore-detached"), "criu-lazy waits for its end"),
        "ps-socket": "it would not connect to the migration's page server",
        "tls": "the migration's page server has a key of its own; see source.encrypt",
        "help": _NOTHING,
        "version": _NOTHING,
        **dict.fromkeys(
            ("exec-cmd", "inherit-fd", "mntns-compat-mode", "restore-sibling", "stream"), _REFUSES.format("lazy-pages")
        ),
    },
}
# What a profile's options would override.
GIVEN: dict[str, tuple[str, ...]] = {
    "dump": ("tree", "images-dir", "work-dir", "log-file", "status-fd", "address", "port", "ps-socket"),
    "restore": ("images-dir", "work-dir", "log-file", "pidfile", "no-restore-detached", "no-daemon"),
    "lazy-pages": (
        "images-dir", "work-dir", "log-file", "status-fd", "stats-fd", "address", "port", "no-page-server", "resume",
        "precopied", "tls-psk",
    ),
}  # fmt: skip


class _Words(Iterator[str]):
    """An iterator that knows where it is."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = iter(words)
        self.taken = 0

    def __next__(self) -> str:
        word = next(self._words)
        self.taken += 1
        return word


class Given(NamedTuple):
    """An option: where it stands, its long name ("": a word that is no option's), as written, its value."""

    at: int  # which of the words
    name: str
    shown: str
    value: str | None


def options_in(words: Sequence[str]) -> Iterator[Given]:
    """All options. What criu may know, and this table doesn't, is left out, with what follows it."""
    rest = _Words(words)
    while rest.taken < len(words):
        begin = rest.taken
        try:
            for name, value, shown in parse_words(rest, _TABLE):
                begin = min(begin, rest.taken - 1)  # several may share a word
                yield Given(begin, name, shown, None if isinstance(value, Positional) else value)
                begin = rest.taken
        except OptionError:
            if rest.taken < len(words) and not words[rest.taken].startswith("-"):
                next(rest)  # its value, perhaps


def contrary_in(words: Sequence[str], program: str) -> tuple[int, str] | None:
    """The first of a profile's options for `program` ("dump", ...) that can't be: its index, and what is wrong."""
    for given in options_in(words):
        if not given.name:
            return given.at, f"{given.shown!r} is no option, and criu {program} takes no other words"
        reason = _OURS if given.name in GIVEN[program] else CONTRARY[program].get(given.name)
        if reason:
            return given.at, f"{given.shown}: {reason}"
    return None


def options_of_files(words: Sequence[str], environ: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    """FILE:LINE, and what stands there, for all that criu, run with `words`, reads in its configuration files.

    What is unknown comes with its name alone. Raises OptionError.
    """
    for path in config_files(words, environ):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            continue  # as criu does
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}"
            there = line_words(line, where)
            known = [given for given in options_in(there) if given.name]
            unknown = [Given(0, word.lstrip("-"), word, None) for word in there[:1]]
            yield from ((where, given) for given in known or unknown)


def value_of(name: str, words: Sequence[str]) -> str | None:
    """The value that an option has for criu, run with `words`; None if it has none. Raises OptionError."""
    read = [given for _, given in options_of_files(words, os.environ)]
    values = [given.value for given in (*read, *options_in(words)) if given.name == name]
    return values[-1] if values else None


def contrary_in_files(program: str, words: Sequence[str], key: str) -> str | None:
    """What criu's configuration files on this host say against a migration, and what to do; None if nothing does.

    `program`: what will be run here, and `words`: what it is given besides, by the profile's `key`.
    """
    try:
        for where, given in options_of_files(words, os.environ):
            if reason := CONTRARY[program].get(given.name):
                path = where.rpartition(":")[0]
                way = "" if path == os.environ.get("CRIU_CONFIG_FILE") else f"; or {key}: [--no-default-config]"
                return f"{where}: {given.name}: {reason}; remove it there{way}"
    except OptionError as error:
        return str(error)
    return None


def said_in_files(words: Sequence[str] = ()) -> str:
    """For the message of a criu that failed: what it was told by its configuration files, "" if nothing."""
    try:
        told = [f"{given.name} ({where})" for where, given in options_of_files(words, os.environ)]
    except OptionError as error:
        return f"; {error}"
    return f"; criu's configuration says {', '.join(told)}" if told else ""
