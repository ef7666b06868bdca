"""systemd's journal on a testbed's hosts: this machine's own journald, which is brought there with its libraries."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lazy_source import eventually

from testbed import Host

JOURNALD, CAT = Path("/lib/systemd/systemd-journald"), Path("/usr/bin/systemd-cat")
WHERE = "opt/journald"  # on a host, below its root


def is_there() -> bool:
    """Whether this machine has what a journal takes."""
    return JOURNALD.exists() and CAT.exists() and shutil.which("journalctl") is not None


def bring(host: Host, program: Path) -> list[str]:
    """The command that runs `program`, another Debian's, there."""
    there = host.root / WHERE
    there.mkdir(exist_ok=True)
    needed = re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", program], text=True))
    for path in map(Path, [*needed, program]):
        shutil.copy(path, there / path.name)
    [loader] = [Path(path).name for path in needed if Path(path).name.startswith("ld-linux")]
    return [f"/{WHERE}/{loader}", "--library-path", f"/{WHERE}", f"/{WHERE}/{program.name}"]


class Journal:
    """A host's, while it is kept."""

    def __init__(self, host: Host) -> None:
        self._host = host
        host.run(["mkdir", "-p", "/run/systemd/journal", "/run/log/journal"])
        if not (host.root / "etc/machine-id").exists():
            host.write("/etc/machine-id", os.urandom(16).hex() + "\n")
        daemon, self.cat = bring(host, JOURNALD), bring(host, CAT)
        self._daemon = host.popen(daemon, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: (host.root / "run/systemd/journal/socket").exists(), "the journal takes entries")

    def entries(self, match: str) -> list[dict[str, Any]]:
        """Those that fit, the oldest first."""
        command = ["journalctl", "--directory", str(self._host.root / "run/log/journal"), "--output", "json", "--quiet"]
        found = subprocess.check_output([*command, match], text=True)
        return [json.loads(line) for line in found.splitlines()]

    def end(self) -> None:
        self._daemon.kill_session()
        self._daemon.wait()
        self._host.run(["rm", "-rf", "/run/systemd", "/run/log/journal", f"/{WHERE}"])


@contextlib.contextmanager
def journals(*hosts: Host) -> Iterator[list[Journal]]:
    """One on each."""
    kept: list[Journal] = []
    try:
        for host in hosts:
            kept.append(Journal(host))
        yield kept
    finally:
        for journal in kept:
            journal.end()
