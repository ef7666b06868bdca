"""`criu-lazy standby lazy-pages`: a lazy-pages daemon that is started, by the agent, before its command line is known.

Interpreter and modules are loaded while the task still runs at the source, and not in its downtime. The command line
follows on standard input, as one line with a JSON list of texts; without one, the process just ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from criu_lazy_ext.commands import lazy_pages
from criu_lazy_ext.destination.lazy_pages import preload


def main(argv: list[str]) -> int:
    """Run `criu-lazy lazy-pages` with what comes on standard input; returns its exit status.

    `argv` is for those who look at this process.
    """
    with contextlib.suppress(Exception):  # it is told once it is needed
        preload()
    line = sys.stdin.buffer.readline()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return lazy_pages.main([str(word) for word in json.loads(line)]) if line.endswith(b"\n") else 0
