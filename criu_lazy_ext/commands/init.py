"""`criu-lazy init [--pid PID] DESTINATION`: writes a commented profile that fits the task."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from criu_lazy_ext.checks.check import Finding, Verdict
from criu_lazy_ext.commands.check import check_hosts
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.profile import parse
from criu_lazy_ext.profile_schema import FILE as SCHEMA


@dataclass
class Draft:
    """The profile as it becomes: keys of `criu`, and why; options of the dump; files that a hook brings."""

    pid: int
    destination: str
    criu: dict[str, tuple[str, str]] = field(default_factory=dict)
    dump_options: list[str] = field(default_factory=list)
    brought: list[str] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)  # what is for the user to settle

    def text(self) -> str:
        """As YAML."""
        name = _name(self.pid)
        lines = [
            f"# yaml-language-server: $schema={SCHEMA}",
            f"# Moves {name} (process {self.pid}) to {self.destination}: criu-lazy migrate THIS_FILE",
            "# What every key means: docs/migrate.md. Without doing it: criu-lazy check, criu-lazy explain THIS_FILE",
            *(f"# {finding.verdict.value}: {finding.line}" for finding in self.left),
            "task:",
            f"  pid: {self.pid}                    # or pidfile: /run/{name}.pid, or command: pidof -s {name}",
            "",
            "destination:",
            f"  ssh: {self.destination}                   # as in ~/.ssh/config",
        ]
        if self.criu or self.dump_options:
            lines += ["", "criu:"]
            lines += [f"  {key}: {value}  # {why}" for key, (value, why) in self.criu.items()]
        if self.dump_options:
            lines.append(f"  dump_options: [{', '.join(self.dump_options)}]")
        if self.brought:
            lines += ["", "hooks:", "  after_dump:                     # the task is frozen: its files are at rest"]
            for path in self.brought:
                lines.append(f"    - run: [rsync, -a, --relative, {path}, '{self.destination}:/']")
        return "\n".join(lines) + "\n"


def _locks(draft: Draft, _: Finding) -> None:
    draft.criu["file_locks"] = ("true", "it holds locks on files")


def _session(draft: Draft, _: Finding) -> None:
    draft.criu["shell_job"] = ("true", "it was started from a shell, without a session of its own")


def _sockets(draft: Draft, finding: Finding) -> None:
    if "ext_unix_sk" in finding.way_out:
        draft.criu["ext_unix_sk"] = (
            "true",
            "it sends to sockets of others (syslog), which it finds there again by name",
        )


def _deleted(draft: Draft, finding: Finding) -> None:
    if limit := re.search(r"--ghost-limit, (\w+)", finding.way_out):
        draft.dump_options = ["--ghost-limit", limit[1]]


def _files(draft: Draft, finding: Finding) -> None:
    found = re.findall(r"(/[^,() ]+)(?=[,(]| \(|$| and \d)", finding.text)
    draft.brought += [path for path in found if path not in draft.brought]


FIXES: dict[str, Callable[[Draft, Finding], None]] = {
    "file-locks": _locks,
    "session": _session,
    "outside-sockets": _sockets,
    "deleted-files": _deleted,
    "shared-files": _files,
    "differing-files": _files,
    "missing-files": _files,
}


async def fit(draft: Draft) -> None:
    """Look, put into the profile what helps, and look again, until nothing more can be done so."""
    before = ""
    while before != (before := draft.text()):
        profile = parse(before, "init")
        found = await check_hosts(profile, draft.pid, [profile.destination])
        left = [finding for finding in found if finding.verdict is not Verdict.OK]
        for finding in left:
            if finding.verdict is Verdict.FAIL and finding.check in FIXES:
                FIXES[finding.check](draft, finding)
    draft.left = left


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip().replace(" ", "-")
    except OSError:
        raise UsageError(f"--pid {pid}: no process has this pid") from None


def main(argv: list[str]) -> int:
    """Exit status: 0 it can move so, 1 something is left to settle (it stands in the file), 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="criu-lazy init", description="Write a profile that fits a task.")
    parser.add_argument("destination", help="a host as in ~/.ssh/config")
    parser.add_argument("--pid", type=int, required=True, help="the root of the task")
    parser.add_argument("-o", "--output", type=Path, help="the file (default NAME.yaml); - is standard output")
    options = parser.parse_args(argv)
    draft = Draft(options.pid, options.destination)
    path = options.output or Path(f"{_name(options.pid)}.yaml")
    is_file = str(path) != "-"
    if is_file and path.exists():
        raise UsageError(f"{path} is there already: give another file with --output")
    asyncio.run(fit(draft))
    if is_file:
        _write(path, draft.text())
        print(f"{path}: written; {_summary(draft.left)}")
    else:
        print(draft.text(), end="")
    return 1 if any(finding.verdict is Verdict.FAIL for finding in draft.left) else 0


def _write(path: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _summary(left: Iterable[Finding]) -> str:
    failed = [finding.check for finding in left if finding.verdict is Verdict.FAIL]
    if not failed:
        return "the task can move so"
    return f"to be settled first, as it says at its top: {', '.join(dict.fromkeys(failed))}"
