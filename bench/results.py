"""The results file: the newest report of each command line, in Markdown, with machine, commit and date."""

from __future__ import annotations

import datetime
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEAD = """# Results of the benchmark

Written by `criu-lazy bench --into`; [bench.md](bench.md) tells what the figures are.
"""


def commit() -> str:
    """The checkout's commit, marked if files differ from it; "unknown" where there is no git."""
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """The first processor's name, as /proc/cpuinfo has it; "" where it has none."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else ""


def section(argv: Sequence[str], results: dict[str, Any], report: str) -> str:
    """One command line's part of the file. `argv`: its arguments, without --into and --json."""
    head = f"## criu-lazy bench {shlex.join(argv)}".rstrip()
    where = f"{results['cpus']} CPUs ({results['processor']})" if results["processor"] else f"{results['cpus']} CPUs"
    return f"{head}\n{results['date']}, commit {results['commit']}, {where}.\n\n{report}\n"


def write_into(path: Path, part: str) -> None:
    """Put `part` into the file in place of the one with the same heading, or at its end. Raises OSError."""
    text = path.read_text() if path.exists() else HEAD
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    heading = part.partition("\n")[0]
    others = [other.rstrip("\n") + "\n" for other in parts if other.partition("\n")[0] != heading]
    path.write_text("\n".join([*others, part]))


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
