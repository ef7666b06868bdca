"""The directories of c_src/: which may include which, and that no files include each other in a circle (`make lint`).

A file here is its .c and its .h together. Prints one line for each offence; exit status 1 if there is any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

C_SRC = Path(__file__).resolve().parent.parent / "c_src"
# Room -> what it may include beside itself. The border, criu_lazy.h, includes nothing of ours and is open to all.
LOWER = ("base", "wire", "images", "task")
ALLOWED: dict[str, tuple[str, ...]] = {
    "base": (),
    "wire": ("base",),
    "images": ("base",),
    "task": ("base",),
    "destination": LOWER,
    "source": LOWER,
}
BORDER = "criu_lazy"
INCLUDE = re.compile(r'^#include "([^"]+)\.h"', re.MULTILINE)


def included(c_src: Path) -> dict[str, set[str]]:
    """File ("room/name") -> the files that it includes, itself left out."""
    graph: dict[str, set[str]] = {}
    for path in sorted(c_src.glob("**/*.[ch]")):
        name = str(path.relative_to(c_src).with_suffix(""))
        graph.setdefault(name, set()).update(set(INCLUDE.findall(path.read_text())) - {name})
    return graph


def offences(graph: Mapping[str, set[str]]) -> Iterator[str]:
    for name, others in sorted(graph.items()):
        room = name.rpartition("/")[0]
        for other in sorted(others):
            theirs = other.rpartition("/")[0]
            if other == BORDER or (theirs and (theirs == room or theirs in ALLOWED.get(room, ()))):
                continue
            allowed = ", ".join(ALLOWED.get(room, ())) or "nothing"
            yield f"{name} includes {other}: {room or 'the border'} may include {allowed}"
    for circle in circles(graph):
        yield f"a circle: {' -> '.join(circle)}"


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """One circle through each edge that closes one, found depth first."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
            return
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def main() -> int:
    said = list(offences(included(C_SRC)))
    for line in said:
        print(f"c_src: {line}", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
