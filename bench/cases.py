"""What the benchmark can measure.

A case is a link and an access pattern, named LINK/ACCESS; or a program, named programs/PROGRAM; or startup/20g; or a
whole migration, named migrate/KIND, or service/KIND of a program at work; or of several tasks, named evacuate/KIND.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from criu_lazy_ext.errors import UsageError


@dataclass(frozen=True)
class LinkSetting:
    """A setting of the testbed's link; `mib` is how much memory a task on it gets by default.

    `proxied`: the daemon's connections go through a TCP proxy on its own host. `jitter`, `loss`: shares, as Link.set()
    has them. `shared`: with one plain TCP stream, of another program, all the time.
    """

    name: str
    rate_mbit: float | None
    rtt_ms: float
    mib: int
    proxied: bool = False
    jitter: float = 0.0
    loss: float = 0.0
    shared: bool = False


@dataclass(frozen=True)
class Access:
    """What the task's threads do: a mode of memtask."""

    name: str
    mode: str
    threads: int
    compressible: bool = False  # LZ4 makes 1/1.8 of the task's memory, zstd 1/2.7

    @property
    def options(self) -> tuple[str, ...]:
        """Memtask's."""
        shrinks = ("--compressible",) if self.compressible else ()
        return ("--mode", self.mode, "--threads", str(self.threads), *shrinks)

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
    """Our daemon's start on the images of a task of 20 GiB, without its memory; no link matters."""

    link: LinkSetting
    name: str = "startup/20g"
    mib: int = 0


@dataclass(frozen=True)
class MigrateCase:
    """One `criu-lazy migrate` of a memtask with these options, in each of `ways` (migrations.WAYS)."""

    link: LinkSetting
    kind: str
    mib: int
    options: tuple[str, ...]
    ways: tuple[str, ...] = ("lazy", "precopy")

    @property
    def name(self) -> str:
        return f"migrate/{self.kind}"

    @property
    def is_idle(self) -> bool:
        return "idle" in self.options


@dataclass(frozen=True)
class ServiceCase:
    """One `criu-lazy migrate` of a program at work, in each of `ways` (services.WAYS)."""

    link: LinkSetting
    kind: str
    program: str
    mib: int = 400
    write_percent: int = 50  # of redis
    ways: tuple[str, ...] = ("stock", "lazy", "default")

    @property
    def name(self) -> str:
        return f"service/{self.kind}"


@dataclass(frozen=True)
class EvacuationCase:
    """So many memtasks with these options, all of which move, in each of `ways` (EvacuationRun.way)."""

    link: LinkSetting
    kind: str
    options: tuple[str, ...]
    tasks: int = 8
    mib: int = 256
    ways: tuple[str, ...] = ("alone", "side-by-side", "evacuate")

    @property
    def name(self) -> str:
        return f"evacuate/{self.kind}"


AnyCase = Case | ProgramCase | StartupCase | MigrateCase | ServiceCase | EvacuationCase

LINKS = (
    LinkSetting("1g", 1000, 0.0, 256),
    LinkSetting("1g-0.2ms", 1000, 0.2, 256),
    LinkSetting("1g-1ms", 1000, 1.0, 256),
    LinkSetting("1g-10ms", 1000, 10.0, 256),
    LinkSetting("1g-1ms-proxy", 1000, 1.0, 256, proxied=True),
    LinkSetting("1g-10ms-proxy", 1000, 10.0, 256, proxied=True),
    LinkSetting("1g-50ms-proxy", 1000, 50.0, 256, proxied=True),
    LinkSetting("1g-10ms-jitter", 1000, 10.0, 256, jitter=0.3),
    LinkSetting("1g-10ms-loss", 1000, 10.0, 256, loss=0.005),
    LinkSetting("1g-0.2ms-shared", 1000, 0.2, 256, shared=True),
    LinkSetting("200m-10ms", 200, 10.0, 128),
    LinkSetting("unlimited", None, 0.0, 1024),
    LinkSetting("unlimited-4g", None, 0.0, 4096),
    LinkSetting("unlimited-8g", None, 0.0, 8192),
)
ACCESSES = (
    Access("idle", "idle", 1),
    Access("random-2", "random", 2),
    Access("random-8", "random", 8),
    Access("sequential", "sequential", 2),
    Access("strided", "strided", 2),
    Access("zipf", "zipf", 2),
    Access("compressible-idle", "idle", 1, compressible=True),
    Access("compressible-random-2", "random", 2, compressible=True),
)
UNLIMITED = next(link for link in LINKS if link.name == "unlimited")
PROGRAMS = tuple(ProgramCase(LINKS[1], program) for program in ("redis", "sqlite", "python", "jvm"))
STARTUP = StartupCase(LINKS[0])
IDLE = ("--mode", "idle")
# Two threads read everywhere, and write in the first twentieth of their memory only: all of it, in each round.
HOT = ("--mode", "random", "--threads", "2", "--write-percent", "100", "--hot-percent", "5")
ALL_DIRTY = ("--mode", "sequential", "--threads", "2", "--write-percent", "100")
MIGRATIONS = (
    *(MigrateCase(UNLIMITED, f"downtime-{mib}m", mib, IDLE) for mib in (256, 1024, 4096, 8192)),
    MigrateCase(LINKS[1], "hot-256m", 256, HOT, ("stock", "lazy", "precopy")),
    MigrateCase(LINKS[1], "hot-1024m", 1024, HOT),
    MigrateCase(LINKS[1], "hot-4096m", 4096, HOT),
    MigrateCase(LINKS[1], "all-dirty-256m", 256, ALL_DIRTY),
    MigrateCase(LINKS[1], "all-dirty-1024m", 1024, ALL_DIRTY),
)
SERVICES = (
    ServiceCase(LINKS[1], "redis-5", "redis", write_percent=5),
    ServiceCase(LINKS[1], "redis-50", "redis"),
    *(ServiceCase(LINKS[1], program, program) for program in ("sqlite", "python", "jvm")),
)
EVACUATIONS = (
    EvacuationCase(LINKS[1], "8-idle", IDLE),
    EvacuationCase(LINKS[1], "8-random", ("--mode", "random", "--threads", "1")),
)
ALL: tuple[AnyCase, ...] = (
    *(Case(link, access) for link in LINKS for access in ACCESSES),
    *PROGRAMS,
    STARTUP,
    *MIGRATIONS,
    *SERVICES,
    *EVACUATIONS,
)
DEFAULT = "1g/idle,1g/random-2,1g-0.2ms/idle,1g-0.2ms/random-2,1g-1ms/idle,1g-1ms/random-2," + (
    "unlimited/idle,unlimited/random-2"
)
QUICK = "1g-0.2ms/idle,1g-0.2ms/random-2,unlimited/idle,unlimited/random-2"


def mib_of(case: AnyCase) -> int:
    """Memory of its task, or of each of its tasks."""
    return case.link.mib if isinstance(case, Case) else case.mib


def select(patterns: str) -> list[AnyCase]:
    """The cases that a comma-separated list of names or shell patterns means, in the table's order.

    "all" is every case. Raises UsageError for a pattern that means none.
    """
    wanted = ["*" if pattern.strip() == "all" else pattern.strip() for pattern in patterns.split(",")]
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(case.name, pattern) for case in ALL):
            names = ", ".join(f"{link.name}/..." for link in LINKS)
            kinds = ", ".join(access.name for access in ACCESSES)
            others = ", ".join([*(case.name for case in ALL if not isinstance(case, Case))])
            raise UsageError(f"--cases: {pattern!r} is no case: they are {names} with {kinds}; and {others}")
    return [case for case in ALL if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in wanted)]
