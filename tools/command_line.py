"""The whole command line as one argparse parser, of the very parsers that the subcommands use.

The manual page is made of it, and shtab makes the shells' completion: `PYTHONPATH=tools:. python -m shtab
--prog criu-lazy command_line.whole`. What completes names of migrations, hosts and so on is in completion.bash.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from criu_lazy_ext import cli
from criu_lazy_ext.criu import options as criu_options

# shtab's word for it: bash completes names of files, and zsh.
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
# Of a subcommand's argument.
NAMES = {
    ("migrate", "profile"): FILES | {"bash": "_criu_lazy_yaml"},
    ("explain", "profile"): FILES | {"bash": "_criu_lazy_yaml"},
    ("evacuate", "plan"): FILES | {"bash": "_criu_lazy_yaml"},
    ("check", "where"): FILES | {"bash": "_criu_lazy_profiles_and_hosts"},
    ("init", "destination"): {"bash": "_criu_lazy_hosts", "zsh": "_hosts"},
    ("check", "container"): {"bash": "_criu_lazy_containers"},
    ("init", "container"): {"bash": "_criu_lazy_containers"},
    ("cancel", "migration"): FILES | {"bash": "_criu_lazy_under_way"},
    ("report", "run"): FILES | {"bash": "_criu_lazy_runs"},
}
# An option in lazy-pages' own help: its names, or more than fit there, and from the next column on what it does.
HELP_COLUMN = 24
HELP_ENTRY = re.compile(rf"^  (-.{{{HELP_COLUMN - 4}}} |-.*$)(.*(?:\n {{{HELP_COLUMN}}}.*)*)", re.MULTILINE)


def whole() -> argparse.ArgumentParser:
    """What `criu-lazy --help` lists, each with what its own --help lists."""
    parser = argparse.ArgumentParser(prog="criu-lazy")
    parser.add_argument("-V", "--version", action="store_true", help="print the version")
    subcommands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND")
    for name, (module, line) in cli.SUBCOMMANDS.items():
        own = lazy_pages() if name == "lazy-pages" else importlib.import_module(module, cli.__package__).arguments()
        added = subcommands.add_parser(name, help=line, parents=[own], add_help=False, description=own.description)
        added.epilog = own.epilog
        for action in added._actions:
            if action.type is Path or (name, action.dest) in NAMES:
                action.complete = NAMES.get((name, action.dest), FILES)  # type: ignore[attr-defined]
    return parser


def lazy_pages() -> argparse.ArgumentParser:
    """Of `criu-lazy lazy-pages`, which reads its options as criu does: what its help, a text, lists."""
    description, *_ = criu_options.HELP.split("\n\n")[1:]
    parser = argparse.ArgumentParser(prog="criu-lazy lazy-pages", description=description, add_help=False)
    for heads, text in HELP_ENTRY.findall(criu_options.HELP):
        for names, nargs, metavar in _options(heads):
            action = parser.add_argument(*names, metavar=metavar, help=" ".join(text.split()).replace("%", "%%"))
            action.nargs = nargs
            action.type = Path if metavar in ("DIR", "FILE") else None
    parser.epilog = "criu's other options are accepted, as criu does, and ignored."
    return parser


def _options(heads: str) -> Iterator[tuple[list[str], int | str | None, str]]:
    """`-o|--log-file FILE, --push[=STREAMS]`: each option's names, how many values argparse is to say, their name."""
    for head in re.split(r",\s*", heads.strip()):
        names, _, metavar = head.partition(" ")
        optional = re.search(r"\[=(\w+)\]", names)
        bare = [re.sub(r"\[.*\]$|NUM$", "", name) for name in names.split("|")]  # -v[v...]|-vNUM
        nargs = "?" if optional else None if metavar else 0
        yield list(dict.fromkeys(bare)), nargs, optional[1] if optional else metavar
