"""Writes docs/preflight.md: the list of checks, as criu_lazy_ext/checks has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from criu_lazy_ext.checks import catalogue
from criu_lazy_ext.checks.check import Check

PAGE = Path(__file__).resolve().parent.parent / "docs/preflight.md"
INTRODUCTION = """\
# What keeps a task from moving

What can't move is said before anything is frozen. `criu-lazy migrate` runs these checks on both ends first, and so do
`criu-lazy migrate --dry-run` and
```
criu-lazy check                      # this host, as the source and as the destination
criu-lazy check --pid PID            # whether this task, and all below it, can leave
criu-lazy check --pid PID HOST...    # and whether those hosts, as in ~/.ssh/config, can take it
criu-lazy check --container NAME HOST...   # the same of a container; --engine, if several engines know that name
criu-lazy check PROFILE              # the same with all that a profile says
```
Nothing is touched. For an ordinary task and one host it takes about a second (a Redis, both ends on the same two
cores, where seven more processes wanted them: 1.1 to 1.9 s; at real-time priority 0.8 to 1.5 s; seven runs each).
Each check ends with `ok`, `warn` (it moves, but something changes for it, or could not be looked at) or `fail` (it
can't be moved, or would be wrong at the destination): with a `fail`, `migrate` stops; a `warn` is printed, and is in
the report. `check` prints these two, and how many are `ok` (`--verbose`: which); it ends with status 1 if there is a
`fail`, and 2 for wrong usage; `--json` prints a list of
`{"check", "host", "verdict", "text", "way_out", "paths"}` (`paths`: all files that it is about; its text names five).

Whoever knows better names the check in the profile, `accept: [NAME, ...]`: its failures are warnings then, and its
warnings are told by `check` alone, as `ok`.

Of a container ([containers.md](containers.md)) its engine sees to most; at the source these of the general ones hold
for it, too: {shared}.

What it says of programs from Debian, and what then happens with each: [programs.md](programs.md).

(This page is made of the list in `criu_lazy_ext/checks/` by `python tools/preflight_doc.py`.)

## What can't be seen from outside

The kernel tells no other process of these, and criu doesn't dump them: the task moves, and lacks them there. Look for
them in the program, or its documentation.

| what | what becomes of it |
| --- | --- |
| Landlock (landlock_restrict_self) | the sandbox is gone: the task may do what it forbade (seccomp filters move) |
| keyrings (keyctl: session, process, thread) | they are empty |
| semaphores and queues of System V that others of this host used last | `system-v` doesn't know them; see there |
| the timer slack of a thread (prctl) | it is the usual one |
"""
SECTIONS = {
    "At the source": catalogue.SOURCE,
    "At the source, of a container": [item for item in catalogue.CONTAINER_SOURCE if item not in catalogue.SOURCE],
    "At the destination": catalogue.DESTINATION,
    "There, of a container": [item for item in catalogue.CONTAINER_DESTINATION if item not in catalogue.DESTINATION],
    "Of both together": catalogue.PAIR,
}


def page() -> str:
    """The whole of it."""
    shared = ", ".join(f"`{item.name}`" for item in catalogue.CONTAINER_SOURCE if item in catalogue.SOURCE)
    return "\n".join([INTRODUCTION.replace("{shared}", shared), *_sections()])


def _sections() -> Iterator[str]:
    for title, checks in SECTIONS.items():
        yield f"## {title}\n\n| check | looks at | why | the way out |\n| --- | --- | --- | --- |"
        yield from map(_row, checks)
        yield ""


def _row(check: Check[Any]) -> str:
    cells = (f"`{check.name}`", check.looks_at, check.why, check.way_out or "as the message says")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page())
