"""The cells of the crash matrix: every fault, in every state of a migration, before and after that state's record."""

from __future__ import annotations

import dataclasses
import itertools
import signal
from collections.abc import Callable
from typing import Protocol

from migrating import Process, ours, processes

from testbed import Host

STATES = ("preflight", "dumping", "serving", "restoring", "allowed", "running", "drained", "committing", "committed")
WHEN = ("before", "after")


class Moved(Protocol):
    """A task on its way between two hosts, on both of which it has this pid."""

    src: Host
    dst: Host
    pid: int


def state_of(host: Host, pid: int) -> str:
    """The letter of a process's state as in ps, "-" if it is not there."""
    try:
        stat = (host.root / f"proc/{pid}/stat").read_text()
    except OSError:
        return "-"
    letter = stat.rpartition(")")[2].split()[0]
    return "-" if letter in "ZX" else letter


Victims = Callable[["Moved"], list[tuple[Host, int]]]


def at_source(*words: str, name: str = "") -> Victims:
    return lambda run: [(run.src, p.pid) for p in processes(run.src) if matches(p, words, name)]


def at_destination(*words: str, name: str = "", last: bool | None = None) -> Victims:
    """`last`: of several, only the youngest, or only the oldest."""

    def find(run: Moved) -> list[tuple[Host, int]]:
        found = sorted(p.pid for p in processes(run.dst) if matches(p, words, name))
        chosen = found if last is None else found[-1:] if last else found[:1]
        return [(run.dst, pid) for pid in chosen if last is None or len(found) > 1]

    return find


def matches(process: Process, words: tuple[str, ...], name: str) -> bool:
    unnamed = not name and not process.name.startswith("criu-lazy-")
    return (process.name.startswith(name) if name else unnamed) and all(word in process.command for word in words)


def both(*finders: Victims) -> Victims:
    return lambda run: [victim for find in finders for victim in find(run)]


def driver(run: Moved) -> list[tuple[Host, int]]:
    return [(run.src, p.pid) for p in processes(run.src) if "python" in p.name and "pausing_migrate" in p.command]


AGENT = at_destination("python", "criu-lazy agent", last=True)
KEEPER = at_destination("python", "criu-lazy agent", last=False)
SERVER = at_source("page-server")
DUMP_GUARDIAN = at_source(name="criu-lazy-guard")
DUMP = at_source("criu dump")
DAEMON = at_destination("lazy-pages", last=None)
UFFD_GUARDIAN = at_destination(name="criu-lazy-")
RESTORE = at_destination("criu restore")

VICTIMS: dict[str, Victims] = {
    "driver": driver,
    "ssh": at_source("ssh", "criu-lazy agent"),
    "agent": AGENT,
    "keeper": KEEPER,
    "agent and keeper": both(AGENT, KEEPER),
    "page server": SERVER,
    "guardian": DUMP_GUARDIAN,
    "page server and guardian": both(SERVER, DUMP_GUARDIAN),
    "criu dump": DUMP,
    "driver and criu dump": both(driver, DUMP),
    "driver and page server": both(driver, SERVER),
    "daemon": DAEMON,
    "uffd guardian": UFFD_GUARDIAN,
    "daemon and uffd guardian": both(DAEMON, UFFD_GUARDIAN),
    "criu restore": RESTORE,
    "source task": lambda run: [(run.src, run.pid)] if state_of(run.src, run.pid) != "-" else [],
    "restored task": lambda run: [(run.dst, run.pid)] if state_of(run.dst, run.pid) != "-" else [],
    "all at the source": lambda run: [(run.src, p.pid) for p in ours(run.src)],
    "all at the destination": lambda run: [(run.dst, p.pid) for p in ours(run.dst)]
    + ([(run.dst, run.pid)] if state_of(run.dst, run.pid) != "-" else []),
}
STOPPABLE = ("driver", "agent", "page server", "criu dump", "daemon", "criu restore")
KILLS = {f"SIGKILL {name}": (name, signal.SIGKILL) for name in VICTIMS}
STOPS = {f"SIGSTOP {name}": (name, signal.SIGSTOP) for name in STOPPABLE}
LINK_SECOND, LINK_MENDED, DISK_FULL = "link cut for 1 s", "link cut until mended", "disk full"
DUMP_FAULTS, AFTER_GO = ("SIGKILL criu dump", "SIGSTOP criu dump"), ("running", "drained", "committing")
FAULTS = (*KILLS, *STOPS, LINK_SECOND, LINK_MENDED, DISK_FULL)


@dataclasses.dataclass(frozen=True)
class Cell:
    fault: str
    state: str
    when: str

    def __str__(self) -> str:
        return f"{self.fault}, {self.when} the record of {self.state}"


def all_cells() -> list[Cell]:
    return [Cell(*cell) for cell in itertools.product(FAULTS, STATES, WHEN)]


@dataclasses.dataclass
class Row:
    """What came of a cell."""

    cell: Cell
    present: bool = True  # there was something to kill
    said: str = ""  # migrate's outcome, or "killed"
    interrupted: bool = False  # it waited, and an operator ended that
    status: str = ""  # what --status said first
    did: list[str] = dataclasses.field(default_factory=list)
    end: str = ""  # what --status said last
    where: str = ""  # "source", "destination", "nowhere", "both"
    memory: str = ""
    wrong: list[str] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)
    message: str = ""
    logs: dict[str, str] = dataclasses.field(default_factory=dict)  # their last lines, if something is wrong
    seconds: float = 0.0
