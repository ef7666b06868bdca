"""`criu-lazy init --pid PID | --container NAME HOST`: writes a commented profile that fits;
`--evacuate HOST...`: a plan of what runs here."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from criu_lazy_ext.checks.check import Finding, Verdict
from criu_lazy_ext.checks.task import Task
from criu_lazy_ext.commands.check import check_hosts
from criu_lazy_ext.engines.engine import ENGINES, container_named, find
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.evacuation.draft import plan_of_this_host
from criu_lazy_ext.profile import Container, MovedAddress, Network, parse
from criu_lazy_ext.profile_schema import FILE as SCHEMA
from criu_lazy_ext.source.dump import program_of
from criu_lazy_ext.system.addresses import Address, addresses
from criu_lazy_ext.system.processes import why_no_task

PACKAGES_OWN = ("/usr/bin/", "/usr/lib", "/usr/sbin/", "/usr/share/", "/bin/", "/lib", "/sbin/")
WHOSE = "the address is the service's, and not this host's"
MUST_LEAVE = ("addresses-leave", "addresses-way")


@dataclass
class Draft:
    """The profile as it becomes: keys of `criu`, and why; options of the dump; files that a hook brings."""

    pid: int
    destination: str
    container: Container | None = None  # in place of a task
    volumes: list[Path] = field(default_factory=list)
    criu: dict[str, tuple[str, str]] = field(default_factory=dict)
    dump_options: list[str] = field(default_factory=list)
    brought: dict[str, bool] = field(default_factory=dict)  # whether the task writes it
    left: list[Finding] = field(default_factory=list)  # what is for the user to settle
    network: list[Address] = field(default_factory=list)  # may be the service's, and then move with it

    def text(self) -> str:
        """As YAML."""
        name = f"container {self.container.name}" if self.container else _name(self.pid)
        lines = [
            f"# yaml-language-server: $schema={SCHEMA}",
            f"# Moves {name} (process {self.pid}) to {self.destination}: criu-lazy migrate THIS_FILE",
            "# What a key means: man criu-lazy-profile. Without doing it: criu-lazy check, criu-lazy explain THIS_FILE",
            *(f"# {finding.verdict.value}: {finding.line}" for finding in self.left),
            *(self._container(self.container) if self.container else self._task(name)),
            "",
            "destination:",
            beside(f"  ssh: {self.destination}", "as in ~/.ssh/config"),
        ]
        if self.network:
            moved = ", ".join(json.dumps(str(one)) if ":" in one.address else str(one) for one in self.network)
            lines += ["", beside(f"# network: {{addresses: [{moved}]}}", f"if {WHOSE}")]
        if self.criu or self.dump_options:
            lines += ["", "criu:"]
            lines += [beside(f"  {key}: {value}", why) for key, (value, why) in self.criu.items()]
        if self.dump_options:
            lines.append(f"  dump_options: [{', '.join(self.dump_options)}]")
        if self.brought:
            lines += ["", "hooks:", *self._hooks()]
        return "\n".join(lines) + "\n"

    def _hooks(self) -> list[str]:
        """What brings the files: while the task runs, and those that it writes again when they are at rest."""
        paths = {path: is_written for path, is_written in self.brought.items() if not _below(path, self.brought)}
        rsync = f"rsync -a --relative %s {shlex.quote(f'{self.destination}:/')}"
        lines = [beside("  before_dump:", "the task runs: some of its files may vanish meanwhile (24)")]
        lines += [f"    - run: {json.dumps(rsync % shlex.join(paths) + ' || [ $? = 24 ]')}", "      timeout: 600"]
        written = [path for path, is_written in self.brought.items() if is_written]
        if written:
            lines.append(beside("  after_dump:", "it is frozen: what it writes is at rest"))
            lines.append(f"    - run: {json.dumps(rsync % shlex.join(written))}")
        return lines

    def _task(self, name: str) -> list[str]:
        others = f"or pidfile: /run/{name}.pid, or command: pidof -s {name}"
        return [
            "task:",
            beside(f"  pid: {self.pid}", others),
            beside(f"  program: {json.dumps(program_of(self.pid))}", "another one that has this pid is not moved"),
        ]

    def _container(self, container: Container) -> list[str]:
        volumes = f"  volumes: [{', '.join(map(str, self.volumes))}]"
        own = {"podman": "its volumes go", "containerd": "what it has changed in its root goes"}
        what = own.get(container.engine, "its bundle, with the root directory, goes")
        return [
            "container:",
            f"  engine: {container.engine}",
            f"  name: {container.name}",
            beside("  files: sync", f"{what} over by rsync; shared: they are there already"),
            *([beside(volumes, "bind mounts that are missing there: they go with it")] if self.volumes else []),
        ]


def beside(line: str, comment: str) -> str:
    """All comments begin in one column, if there is room."""
    return f"{line:<32}  # {comment}"


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
    """Those that are missing, and data that differs; a package's differ if another version is there: that is settled
    by installing the same."""
    written = _written(draft.pid)
    for path in finding.paths:
        if finding.check != "differing-files" or not path.startswith(PACKAGES_OWN):
            draft.brought[path] = finding.check == "shared-files" or path in written


def _written(pid: int) -> set[str]:
    """The files that the task has open to write."""
    descriptors = Task.look(pid).descriptors()
    return {each.target for each in descriptors if each.flags is None or each.flags & os.O_ACCMODE != os.O_RDONLY}


def _below(path: str, directories: Iterable[str]) -> bool:
    """Whether one of them, which goes with all that is in it, brings it."""
    return any(str(parent) in directories for parent in Path(path).parents)


def _bind_mounts(draft: Draft, finding: Finding) -> None:
    found = re.fullmatch(r"bind mount (/.*) is missing(: .*)?", finding.text)
    if found and Path(found[1]).is_dir() and Path(found[1]) not in draft.volumes:
        draft.volumes.append(Path(found[1]))


def _control_groups(draft: Draft, _: Finding) -> None:
    draft.criu["manage_cgroups"] = ("ignore", "control groups v1 are mounted beside v2; crun makes its group itself")


FIXES: dict[str, Callable[[Draft, Finding], None]] = {
    "control-groups": _control_groups,
    "engine-there": _bind_mounts,
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
    others: dict[str, Finding] = {}  # failures that stay, whatever hooks there are then: those bring files alone
    while before != (before := draft.text()):
        profile = parse(before, "init")
        found = await check_hosts(profile, draft.pid, [profile.destination])
        left = [finding for finding in found if finding.verdict is not Verdict.OK]
        for finding in left:
            if finding.verdict is Verdict.FAIL and finding.check in FIXES:
                FIXES[finding.check](draft, finding)
            elif finding.verdict is Verdict.FAIL:
                others[finding.check] = finding
    draft.left = [others.get(finding.check, finding) for finding in left]
    draft.network = await service_addresses(draft)


async def service_addresses(draft: Draft) -> list[Address]:
    """Of this host's, those that the task is bound to, that the destination lacks, and that can leave this host: SSH
    and the pages' way back don't end at them, and nobody gave them for a time only."""
    lacking = [each.text.rpartition(": ")[2] for each in draft.left if each.check == "addresses"]
    here = [one for one in addresses() if one.address in ", ".join(lacking).split(", ")]
    if not here:
        return []
    moved = [MovedAddress(one.address, one.prefix, one.device, one.device) for one in here]
    profile = replace(parse(draft.text(), "init"), network=Network(moved))
    found = await check_hosts(profile, draft.pid, [profile.destination])
    said = " ".join(each.text for each in found if each.check in MUST_LEAVE and each.verdict is Verdict.FAIL)
    return [one for one in here if not re.search(rf"(?<![\w.:]){re.escape(one.address)}(?![\w:]|\.\d)", said)]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip().replace(" ", "-")
    except OSError:
        raise UsageError(f"--pid: {why_no_task(pid)}") from None


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy init",
        description="Write a profile that fits, for criu-lazy migrate; or a plan, for criu-lazy evacuate.",
    )
    several = "a host as in ~/.ssh/config; of a plan, there may be several"
    parser.add_argument("destination", metavar="HOST", nargs="+", help=several)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--pid", type=int, help="the root of the task")
    which.add_argument("--container", metavar="NAME", help="a container, as its engine knows it")
    which.add_argument("--evacuate", action="store_true", help="all containers that run here, of every engine")
    parser.add_argument("--engine", choices=ENGINES, help="whose container (default: the first that knows it)")
    parser.add_argument("-o", "--output", type=Path, help="the file (default NAME.yaml, or evacuate.yaml); - is stdout")
    parser.add_argument("--force", action="store_true", help="write it even if there is such a file already")
    return parser


def main(argv: list[str]) -> int:
    """Exit status: 0 it can move so, 1 something is left to settle (it stands in the file), 2 wrong usage."""
    parser = arguments()
    options = parser.parse_args(argv)
    if options.engine and not options.container:
        parser.error("--engine goes with --container")
    if options.evacuate:
        return write_plan(options)
    if len(options.destination) > 1:
        parser.error("a profile has one destination: --evacuate writes a plan for several")
    if options.pid is not None and (problem := why_no_task(options.pid)):
        raise UsageError(f"--pid: {problem}")
    container = container_named(options.container, options.engine) if options.container else None
    pid = find(container).found.pid if container else options.pid
    draft = Draft(pid, options.destination[0], container)
    path = options.output or Path(f"{options.container or _name(pid)}.yaml")
    check_free(path, options.force)
    asyncio.run(fit(draft))
    put(path, draft.text(), _summary(draft.left), options.force)
    return 1 if any(finding.verdict is Verdict.FAIL for finding in draft.left) else 0


def write_plan(options: argparse.Namespace) -> int:
    """The exit status."""
    path = options.output or Path("evacuate.yaml")
    check_free(path, options.force)
    then = f"criu-lazy evacuate --dry-run {path} says whether it can be done"
    put(path, plan_of_this_host(options.destination), then, options.force)
    return 0


def check_free(path: Path, force: bool) -> None:
    if str(path) != "-" and path.exists() and not force:
        raise UsageError(f"{path} is there already: give another file with --output, or --force to write over it")


def put(path: Path, text: str, summary: str, force: bool) -> None:
    """In the file, or on standard output."""
    if str(path) == "-":
        print(text, end="")
    else:
        _write(path, text, force)
        print(f"{path}: written; {summary}")


def _write(path: Path, text: str, force: bool) -> None:
    how = os.O_TRUNC if force else os.O_EXCL
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o644), "w") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _summary(left: Iterable[Finding]) -> str:
    names = {each: list(dict.fromkeys(item.check for item in left if item.verdict is each)) for each in Verdict}
    failed, warned = names[Verdict.FAIL], names[Verdict.WARN]
    if not failed:
        return f"the task can move so{'; warned of at its top: ' if warned else ''}{', '.join(warned)}"
    return f"to be settled first, as it says at its top: {', '.join(failed)}"
