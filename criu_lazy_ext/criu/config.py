"""criu's configuration files.

They are read in criu's order, later ones win: /etc/criu/default.conf, $HOME/.criu/default.conf,
$CRIU_CONFIG_FILE, --config FILE, and then the command line. One option a line: NAME [VALUE] or NAME=VALUE, a
value with spaces in double quotes (\\" for a quote in it), # starts a comment. A file that can't be opened is
passed over.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from criu_lazy_ext.criu.getopt_long import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GLOBAL_CONFIG = "/etc/criu/default.conf"
USER_CONFIG = ".criu/default.conf"


def config_files(argv: Sequence[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Configuration files to read, in order. Abbreviated, --config and --no-default-config don't count."""
    defaults = True
    chosen: str | None = None
    for index, word in enumerate(argv):
        if word == "--no-default-config":
            defaults = False
        elif word == "--config":
            chosen = argv[index + 1] if index + 1 < len(argv) else None
            defaults = False
        elif word.startswith("--config="):
            chosen = word.partition("=")[2]
            defaults = False
    if defaults:
        yield GLOBAL_CONFIG
        if environ.get("HOME"):
            yield f"{environ['HOME']}/{USER_CONFIG}"
    for path in (environ.get("CRIU_CONFIG_FILE"), chosen):
        if path:
            yield path


def config_words(path: str) -> list[str]:
    """A configuration file as command line words; [] if it can't be opened; raises OptionError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    with os.fdopen(fd, encoding="utf-8", errors="surrogateescape") as file:
        try:
            lines = file.read().splitlines()
        except OSError as error:
            raise OptionError(f"can't read configuration file {path}: {error.strerror}") from error
    words: list[str] = []
    for number, line in enumerate(lines, 1):
        words += line_words(line, f"{path}:{number}")
    return words


def line_words(line: str, where: str) -> list[str]:
    """One line of a configuration file as words: [], ["--NAME"] or ["--NAME", VALUE]; raises OptionError."""
    name, _, rest = line.strip().replace("\t", " ").partition(" ")
    if "#" in name:
        name, rest = name.partition("#")[0], ""
    if not name:
        return []
    rest = rest.strip()
    if not rest or rest.startswith("#"):
        return [f"--{name}"]
    if rest.startswith('"'):
        end = 1
        while end < len(rest) and (rest[end] != '"' or rest[end - 1] == "\\"):
            end += 1
        if end == len(rest):
            raise OptionError(f"{where}: the quotation mark is not closed")
        value, rest = rest[1:end], rest[end + 1 :].partition("#")[0]
        rest = rest.partition(" ")[2]
    else:
        value, _, rest = rest.partition("#")[0].partition(" ")
    if rest.strip():
        raise OptionError(f"{where}: one option and one value are expected, but {rest.strip()!r} follows")
    # criu ends a value at '#', quoted or not.
    return [f"--{name}", value.partition("#")[0].replace('\\"', '"')]
