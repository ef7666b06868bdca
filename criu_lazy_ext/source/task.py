"""What is there of the source task: looked at in /proc, never concluded from an absence.

A process is known by its pid and its start time: a pid alone may name another one later.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from criu_lazy_ext.system.processes import start_time, status, thread_states, tree

Identity = tuple[int, int]  # pid, start time in clock ticks since boot

PF_EXITING = 0x4  # of a process's flags in /proc/PID/stat


class Seen(enum.Enum):
    """What a process does."""

    RUNS = "runs"
    FROZEN = "is frozen"  # a tracer holds it: criu dump
    STOPPED = "is stopped"  # by a signal: it runs on after SIGCONT only
    DYING = "is being killed"  # it executes nothing any more; its memory is being freed
    GONE = "is gone"


OVER = frozenset({Seen.DYING, Seen.GONE})


def boot_id() -> str:
    """What tells this boot of the host from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(pid: int) -> Identity | None:
    """None if there is no such process, or only a zombie."""
    began = start_time(pid)
    return None if began is None else (pid, began)


def identities(pid: int) -> list[Identity]:
    """Of the process and all below it that live."""
    found = (identity(process) for process in tree(pid).values())
    return [process for process in found if process is not None]


def identities_of_journal(facts: Mapping[str, Any]) -> list[Identity]:
    """The source task's processes, as a journal of this boot names them."""
    named = facts.get("tree") or [(facts["pid"], facts["task_began"])]
    return [(int(pid), int(began or 0)) for pid, began in named]


def look(process: Identity) -> Seen:
    """What the process does now."""
    pid, began = process
    try:
        signals = status(pid)  # first: a stop signal is no longer pending once a thread has stopped by it
        is_stopping = signals.is_pending(signal.SIGSTOP) or "T" in thread_states(pid)
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return Seen.GONE
    if stat[0] in "ZX" or int(stat[19]) != began:
        return Seen.GONE
    if int(stat[6]) & PF_EXITING or signals.is_pending(signal.SIGKILL):
        return Seen.DYING
    if stat[0] == "t":
        return Seen.FROZEN
    # Of a process that is to stop, no thread executes one more instruction, though it may still be said to run.
    return Seen.STOPPED if is_stopping else Seen.RUNS


def criu_that_traces(pid: int) -> Identity | None:
    """The criu which holds the process, or None."""
    try:
        tracer = status(pid).tracer
        is_criu = tracer and Path(f"/proc/{tracer}/comm").read_text(errors="replace").strip() == "criu"
    except OSError:
        return None
    return identity(tracer) if is_criu else None


@dataclass(frozen=True)
class Source:
    """What was seen of the source task's processes, by their pids, root first; and of criu dump."""

    processes: Mapping[int, Seen]
    dump_pid: int = 0
    dump_lives: bool = False

    @classmethod
    def look(cls, processes: Iterable[Identity], dump: Identity | None) -> Source:
        """Look at them. `dump` None: not known, if it was started at all."""
        seen = {pid: look((pid, began)) for pid, began in processes}
        return cls(seen, dump[0] if dump else 0, dump is not None and look(dump) not in OVER)

    @classmethod
    def of_journal(cls, facts: Mapping[str, Any]) -> Source:
        """As a journal of this boot names them."""
        processes = identities_of_journal(facts)
        dump = tuple(facts["dump"]) if facts.get("dump") else None
        if dump is None:  # it was started, or not; if it holds the task, the kernel knows it
            dump = next((found for found in (criu_that_traces(pid) for pid, _ in processes) if found), None)
        return cls.look(processes, dump)

    def some(self, seen: Seen) -> list[int]:
        """The processes that do this."""
        return [pid for pid, what in self.processes.items() if what is seen]

    def all_are(self, *seen: Seen) -> bool:
        return all(what in seen for what in self.processes.values())

    @property
    def is_over(self) -> bool:
        """Whether no process of it will ever execute anything again."""
        return self.all_are(*OVER)

    def words(self) -> str:
        """One clause for people: what there is, and who holds it."""
        root = next(iter(self.processes), 0)
        kinds = list(dict.fromkeys(self.processes.values()))
        if len(kinds) != 1:
            parts = "; ".join(f"{len(self.some(seen))} {seen.value} (pid {self.some(seen)[0]})" for seen in kinds)
            text = f"of the source task's {len(self.processes)} processes {parts}"
        else:
            text = f"the source task (pid {root}) {kinds[0].value}"
            if kinds[0] in (Seen.FROZEN, Seen.STOPPED):
                text += ", with all of its memory"
        if self.is_over:
            return text
        if not self.dump_pid:
            return text
        return f"{text}; criu dump (pid {self.dump_pid}) {'holds it' if self.dump_lives else 'is dead'}"
