"""What the benchmark can measure.

A case is a link and an access pattern, named LINK/ACCESS; or a program, named programs/PROGRAM; or startup/20g.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from criu_lazy_ext.errors import UsageError


@dataclass(frozen=True)
class LinkSetting:
    """A setting of the testbed's link; `mib` is how much memory a task on it gets by default."""

    name: str
    rate_mbit: float | None
    rtt_ms: float
    mib: int


@dataclass(frozen=True)
class Access:
    """What the task's threads do: a mode of memtask."""

    name: str
    mode: str
    threads: int

    @property
    def busy_threads(self) -> int:
        """How many of them use a processor."""
        return 0 if self.mode == "idle" else self.threads


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    link: LinkSetting
    access: Access

    @property
    def name(self) -> str:
        return f"{self.link.name}/{self.access.name}"


@dataclass(frozen=True)
class ProgramCase:
    """One line of the programs' table: a real program under load, with `mib` of records by default."""

    link: LinkSetting
    program: str
    mib: int = 512

    @property
    def name(self) -> str:
        return f"programs/{self.program}"


@dataclass(frozen=True)
class StartupCase:
    """Our daemon's start on the images of a task of 20 GiB; no link matters."""

    link: LinkSetting
    name: str = "startup/20g"


AnyCase = Case | ProgramCase | StartupCase

LINKS = (
    LinkSetting("1g", 1000, 0.0, 256),
    LinkSetting("1g-0.2ms", 1000, 0.2, 256),
    LinkSetting("1g-1ms", 1000, 1.0, 256),
    LinkSetting("1g-10ms", 1000, 10.0, 256),
    LinkSetting("unlimited", None, 0.0, 1024),
    LinkSetting("unlimited-4g", None, 0.0, 4096),
)
ACCESSES = (
    Access("idle", "idle", 1),
    Access("random-2", "random", 2),
    Access("random-8", "random", 8),
    Access("sequential", "sequential", 2),
    Access("strided", "strided", 2),
    Access("zipf", "zipf", 2),
)
PROGRAMS = tuple(ProgramCase(LINKS[1], program) for program in ("redis", "sqlite", "python", "jvm"))
STARTUP = StartupCase(LINKS[0])
ALL: tuple[AnyCase, ...] = (*(Case(link, access) for link in LINKS for access in ACCESSES), *PROGRAMS, STARTUP)
DEFAULT = "1g/idle,1g/random-2,1g-0.2ms/idle,1g-0.2ms/random-2,1g-1ms/idle,1g-1ms/random-2," + (
    "unlimited/idle,unlimited/random-2"
)
QUICK = "1g-0.2ms/idle,1g-0.2ms/random-2,unlimited/idle,unlimited/random-2"


def select(patterns: str) -> list[AnyCase]:
    """The cases that a comma-separated list of names or shell patterns means, in the table's order.

    "all" is every case. Raises UsageError for a pattern that means none.
    """
    wanted = ["*" if pattern.strip() == "all" else pattern.strip() for pattern in patterns.split(",")]
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in ALL):
            names = ", ".join(f"{link.name}/..." for link in LINKS)
            kinds = ", ".join(access.name for access in ACCESSES)
            others = ", ".join([*(case.name for case in PROGRAMS), STARTUP.name])
            raise UsageError(f"--cases: {pattern!r} is no case: they are {names} with {kinds}; and {others}")
    return [case for case in ALL if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in wanted)]
