"""What happened in a migration: the facts, as JSON and as text."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from criu_lazy_ext.migration.figures import waits_us
from criu_lazy_ext.sizes import PAGE_BYTES

CLAUSES = re.compile(r"; (?!(?:or|try|install)\b)|\. (?=Look )")  # what is between the parts of a message


@dataclass
class Report:
    """Times in seconds by the source's clock. `outcome`: committed, rolled-back, failed or undecided."""

    outcome: str
    task_pid: int
    destination: str
    message: str = ""
    downtime_s: float | None = None  # from the start of criu dump, or a container's freeze, until it runs there
    freeze_s: float | None = None  # of that, until criu dump served
    transfer_s: float | None = None  # from there until every page had arrived
    total_s: float = 0.0
    image_bytes: int = 0
    lazy_pages: int = 0
    received_bytes: int = 0
    demand_faults: int = 0
    merged_faults: int = 0
    same_pages: int = 0  # of those that came: were there already, by pre-copy
    dropped_pages: int = 0  # no longer wanted when they would have come
    heard_until_s: float | None = None  # the counters of pages and faults are of then: later ones were not heard of
    lost_pages: int = 0  # missing when a restored task was killed: the source has them
    strategy: str = ""  # what was chosen, and why; "": the profile's
    precopy: dict[str, Any] | None = None  # "rounds": figures of each, "stopped": why, "bytes", "seconds", "used"
    # A container's files: "bytes" and "seconds" while it ran, "frozen_bytes" and "frozen_seconds" in the downtime.
    files: dict[str, Any] | None = None
    fault_wait_us: dict[str, float] = field(default_factory=dict)
    phases_s: dict[str, float] = field(default_factory=dict)  # when each state was entered
    warnings: list[str] = field(default_factory=list)
    run_file: str = ""  # for `criu-lazy report`
    container: str = ""  # its name, if one moves
    id: str = ""  # of the migration, in the logs of both hosts

    def take_stats(self, stats: dict[str, Any]) -> None:
        """Fill in from the daemon's last counters."""
        self.lazy_pages = int(stats["total_pages"])
        self.received_bytes = int(stats["received_bytes"])
        self.demand_faults = int(stats["demand_faults"])
        self.merged_faults = int(stats["merged_faults"])
        self.same_pages = int(stats["same_pages"])
        self.dropped_pages = int(stats["dropped_pages"])
        self.lost_pages = int(stats["lost_pages"])
        self.fault_wait_us = waits_us(stats)

    @property
    def what(self) -> str:
        """What moves, as its operator knows it."""
        return f"container {self.container}" if self.container else f"task {self.task_pid}"

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for json.dump."""
        return asdict(self)

    @property
    def head(self) -> str:
        return f"{self.outcome}: {self.what} -> {self.destination}"

    def in_a_line(self) -> str:
        """How it ended, for programs that take lines."""
        return f"{self.head}: {self.message}" if self.message else self.head

    def until_heard(self) -> str:
        """To what the daemon has counted."""
        if self.heard_until_s is None:
            return ""
        return f" (until {self.heard_until_s:.2f} s: nothing was heard of {self.destination} later)"

    def as_text(self) -> str:
        """For people."""
        clauses = CLAUSES.split(self.message) if self.message else []
        lines = [self.head, *(f"    {clause}" for clause in clauses)] if len(clauses) > 1 else [self.in_a_line()]
        if self.precopy is not None:
            count, sent, seconds = len(self.precopy["rounds"]), self.precopy["bytes"], self.precopy["seconds"]
            right_mb = self.same_pages * PAGE_BYTES / 1e6
            same = f"; {right_mb:.0f} MB of memory still right" if self.precopy["used"] else ""
            rounds = f"{count} round{'s' if count != 1 else ''}, {sent / 1e6:.0f} MB in {seconds:.2f} s{same}"
            lines.append(f"  pre-copy  {rounds if count else 'no round came to its end'}")
        if self.files is not None:
            lines.append(f"  files     {self.files['bytes'] / 1e6:.1f} MB in {self.files['seconds']:.2f} s")
            if "frozen_seconds" in self.files:
                sent, seconds = self.files["frozen_bytes"] / 1e6, self.files["frozen_seconds"] * 1e3
                lines[-1] += f"; then {sent:.1f} MB in {seconds:.0f} ms of the downtime"
        if self.downtime_s is not None:
            lines.append(f"  downtime  {self.downtime_s * 1e3:.0f} ms (frozen .. resumed at the destination)")
        if self.transfer_s is not None:
            memory = f" for {self.lazy_pages * PAGE_BYTES / 1e6:.0f} MB of memory" if self.lazy_pages else ""
            rate = self.received_bytes / self.transfer_s / 1e6 if self.transfer_s else 0.0
            lines.append(
                f"  transfer  {self.transfer_s:.2f} s, {self.received_bytes / 1e6:.0f} MB{memory}, {rate:.0f} MB/s"
            )
        if self.fault_wait_us:
            waits = ", ".join(f"{name} {value / 1e3:.2f}" for name, value in self.fault_wait_us.items())
            faults = self.demand_faults + self.merged_faults
            lines.append(f"  faults    {faults} waited for their pages; ms: {waits}{self.until_heard()}")
        lines.append(f"  total     {self.total_s:.2f} s")
        if self.id:
            lines.append(f"  id        {self.id}")
        if self.run_file:
            lines.append(f"  run file  {self.run_file} (criu-lazy report shows it)")
        lines += [f"  warning   {warning}" for warning in self.warnings]
        return "\n".join(lines)
