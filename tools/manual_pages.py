"""Writes the manual pages: `python tools/manual_pages.py DIRECTORY`.

criu-lazy(1) is made of the parsers that read the command line, criu-lazy-profile(5) of the schema that is made of the
profile's model: neither can say what isn't so. SOURCE_DATE_EPOCH, if set, gives their date.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line

from criu_lazy_ext import __version__, cli, profile_schema
from criu_lazy_ext.profile import OTHER_NAMES

EXAMPLES = Path("/usr/share/doc/criu-lazy/examples")
TOLD_AT_LENGTH = Path("/usr/share/doc/criu-lazy/docs")
HOW_TO = (
    ("Say what keeps a container, or a process, from moving to the host dst:",
        ["criu-lazy check --container web dst", 'criu-lazy check --pid "$(pidof redis-server)" dst']),
    ("Write a profile that fits, say what it would do, and move it:",
        ["criu-lazy init --container web dst -o web.yaml", "criu-lazy explain web.yaml", "criu-lazy migrate web.yaml"]),
    ("Meanwhile, at either end, show how far it is; and afterwards what it did:",
        ["criu-lazy status --watch", "criu-lazy report --text web.yaml"]),
    ("One that stopped (exit status 4): say what there is, and what to type:", ["criu-lazy migrate --status web.yaml"]),
    ("Empty this host, of all containers that run here:",
        ["criu-lazy init --evacuate dst other -o plan.yaml", "criu-lazy evacuate --dry-run plan.yaml",
        "criu-lazy evacuate plan.yaml"]),
)  # fmt: skip
SAMPLE = Path(__file__).resolve().parent.parent / "configs/process.yaml"


def escaped(text: str) -> str:
    """As troff reads it; what stands in backquotes is bold."""
    text = text.replace("\\", "\\(rs").replace("-", "\\-").replace("'", "\\(aq").replace("~", "\\(ti")
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text).replace("^", "\\(ha")


def paragraph(text: str) -> str:
    """One line, which is never taken for a request."""
    return "\\&" + escaped(" ".join(text.split()))


def head(name: str, section: int, line: str) -> Iterator[str]:
    """The title, and what the page is of."""
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    yield f'.TH {escaped(name).upper()} {section} {date} "criu\\-lazy {__version__}"'
    yield f".SH NAME\n{escaped(name)} \\- {escaped(line)}"


def command_page() -> Iterator[str]:
    """criu-lazy(1)."""
    yield from head("criu-lazy", 1, "move running tasks and containers to other hosts with CRIU, memory last")
    yield ".SH SYNOPSIS\n.B criu\\-lazy\n.I SUBCOMMAND\n.RI [ ARGUMENTS ]"
    yield ".SH SUBCOMMANDS"
    [subcommands] = [action.choices for action in command_line.whole()._actions if isinstance(action.choices, dict)]
    for name, parser in subcommands.items():
        yield from _subcommand(name, parser)
    yield ".SH EXAMPLES"
    for what, commands in HOW_TO:
        yield f".TP\n{paragraph(what)}\n.nf"
        yield from map(paragraph, commands)
        yield ".fi"
    yield ".SH FILES\n.TP\n.I /var/lib/criu\\-lazy\nwhat is on record of migrations, and their run files, as a rule"
    yield f".TP\n.I {escaped(str(EXAMPLES))}\nprofiles, a plan, and alert rules for Prometheus"
    yield f".TP\n.I {escaped(str(TOLD_AT_LENGTH))}\nwhat is told at length, a page a subject"
    yield ".SH SEE ALSO\n.BR criu\\-lazy\\-profile (5),\n.BR criu (8)"


def _subcommand(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SS {escaped(name)}"
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield paragraph(usage)
    yield f".PP\n{paragraph(parser.description or '')}"
    formatter = argparse.HelpFormatter(parser.prog, width=1000)
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS and action.dest != "help":
            text = formatter._expand_help(action) if action.help else ""
            yield f".TP\n.B {paragraph(formatter._format_action_invocation(action))}\n{paragraph(text)}"
    if (ends := parser.epilog or exit_status(name)) is not None:
        yield f".PP\n{paragraph(ends)}"


def exit_status(name: str) -> str | None:
    """As the subcommand's own code has it in the comment of its main()."""
    text = inspect.getdoc(importlib.import_module(cli.SUBCOMMANDS[name][0], cli.__package__).main) or ""
    _, status, rest = text.partition("Exit status: ")
    return status + rest if status else None


def profile_page() -> Iterator[str]:
    """criu-lazy-profile(5)."""
    schema = json.loads(profile_schema.FILE.read_text())
    for other in OTHER_NAMES:
        del schema["properties"][other]
    yield from head("criu-lazy-profile", 5, "what criu-lazy migrate is to move, where to, and how")
    yield ".SH DESCRIPTION\nA YAML file. The name of the file names the migration.\n.B criu\\-lazy init"
    yield "writes one that fits a task;\n.B criu\\-lazy explain\nprints what it means."
    yield ".SH EXAMPLE\n.nf\n" + "\n".join("\\&" + escaped(line) for line in SAMPLE.read_text().splitlines()) + "\n.fi"
    yield ".SH KEYS"
    yield from _keys(schema, "")
    yield f".SH FILES\n.TP\n.I {escaped(str(EXAMPLES))}\nsamples"
    yield f".TP\n.I {escaped(str(TOLD_AT_LENGTH))}\nthe pages that are named here, as evacuate.md"
    yield ".TP\n.I profile.schema.json\nbeside the Python package: the same, as a JSON Schema, for editors"
    yield ".SH SEE ALSO\n.BR criu\\-lazy (1)"


def _keys(section: dict[str, Any], path: str) -> Iterator[str]:
    yield paragraph(section.get("description", "Commands that are run in its phases."))
    for name, value in section["properties"].items():
        if "properties" not in value:
            yield f".TP\n.B {paragraph(path + name)}\n{paragraph(kind(value))}"
            if "description" in value:
                yield f".br\n{paragraph(value['description'])}"
    for name, value in section["properties"].items():
        if "properties" in value:
            yield f".SS {escaped(path + name)}"
            yield from _keys(value, f"{path}{name}.")


def kind(value: dict[str, Any]) -> str:
    """Which values a key has."""
    default = f"; default: {str(value['default']).lower()}" if "default" in value else ""
    return _expected(value) + default


def _expected(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        return ", or ".join(_expected(each) for each in value["anyOf"])
    if "const" in value or "enum" in value:
        return ", ".join(value.get("enum", [value.get("const")]))
    if value["type"] == "array":
        items = value["items"]
        return f"a list, each: {_expected(items)}"
    if "properties" in value:
        return f"with {', '.join(value['properties'])}"
    if value.get("pattern") == "^/":
        return "an absolute path"
    if isinstance(value["type"], list):
        return "a number, which K, M or G may follow"
    return {"string": "a text", "boolean": "true or false", "integer": "a number", "number": "a number"}[value["type"]]


PAGES = {"criu-lazy.1": command_page, "criu-lazy-profile.5": profile_page}


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text("\n".join(page()) + "\n")


if __name__ == "__main__":
    main()
