"""What a run file says, as the figures that are drawn. Nothing here knows of SVG or HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from criu_lazy_ext.migration.run_file import UNDER_WAY, what
from criu_lazy_ext.run_report.answers import Answers
from criu_lazy_ext.sizes import PAGE_BYTES

BUCKETS_TO_AN_OCTAVE = 4  # of the daemon's histogram (c_src/destination/stats.h)
LEAST_BIN_S, BINS = 0.09, 160  # of a rate over time


@dataclass(frozen=True)
class Span:
    """A part of a time line, in seconds since the start. `kind`: what it is drawn as."""

    name: str
    kind: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True)
class Share:
    """A part of a whole."""

    name: str
    kind: str
    pages: int


Series = list[tuple[float, float]]


class Run:
    """One migration, as its run file has it (migration/run_file.py)."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.report: dict[str, Any] = facts["report"]
        self.stats: dict[str, Any] = facts["stats"]
        self.at: list[float] = facts["samples"]["at"]
        self.total_s: float = max([self.report["total_s"], *self.at])
        self.frozen_s: float | None = facts["frozen_s"]
        self.resumed_s: float | None = facts["resumed_s"]
        self.answers: Answers | None = None  # what a client got, if that is known

    @property
    def ended(self) -> bool:
        """Whether migrate has, as far as the run file knows."""
        return bool(self.report["outcome"] != UNDER_WAY)

    @property
    def settled(self) -> dict[str, Any] | None:
        """What became of it later, of which nothing else is known."""
        return self.facts.get("settled")

    @property
    def outcome(self) -> str:
        return str((self.settled or self.report)["outcome"])

    @property
    def title(self) -> str:
        return f"{self.facts['name']}: {what(self.facts)}, {self.facts['source']} to {self.destination}"

    @property
    def destination(self) -> str:
        return str(self.report["destination"])

    @property
    def phases(self) -> dict[str, float]:
        """When each state was entered."""
        return dict(self.report["phases_s"])

    @property
    def transferred_s(self) -> float | None:
        """When every page had arrived."""
        return self.phases.get("drained")

    @property
    def heard_until_s(self) -> float | None:
        """The daemon's figures end there, before the transfer does; None: they don't."""
        return self.report.get("heard_until_s")  # an older run file has none

    # ---- time lines ----

    def source_line(self) -> list[Span]:
        """What the source task did. What becomes of it after an undecided end is not known here."""
        frozen, outcome = self.frozen_s, self.report["outcome"]
        if frozen is None:
            return [Span("runs", "runs", 0.0, self.total_s)]
        spans = [Span("runs", "runs", 0.0, frozen)]
        gone = self.phases.get("committed")
        back = self.phases.get("rolled-back") or self.phases.get("failed")
        end = gone or back or self.total_s
        spans.append(Span("frozen", "frozen", frozen, end))
        if back and outcome == "rolled-back":
            spans.append(Span("runs on", "runs", back, self.total_s))
        return spans

    def destination_line(self) -> list[Span]:
        """What the restored task did."""
        spans = []
        restoring, resumed = self.phases.get("restoring"), self.resumed_s
        ended = self.phases.get("rolled-back") or self.phases.get("undecided") or self.total_s
        if restoring is not None:
            spans.append(Span("restored", "restoring", restoring, resumed or ended))
        if resumed is not None:
            whole = self.transferred_s
            spans.append(Span("runs, memory follows", "follows", resumed, whole or ended))
            if whole is not None:
                spans.append(Span("runs", "runs", whole, self.total_s))
        return spans

    def transfer_line(self) -> list[Span]:
        """What was sent."""
        spans = []
        for number, each in enumerate(self.facts["rounds"], 1):
            spans.append(Span(f"round {number}", "precopied", each["ended_s"] - each["seconds"], each["ended_s"]))
        serving, restoring = self.phases.get("serving"), self.phases.get("restoring")
        if self.frozen_s is not None and self.report["freeze_s"] is not None and serving is not None:
            spans.append(Span("images", "images", self.frozen_s + self.report["freeze_s"], serving))
        end = self.transferred_s or max([at for at in self.at if at >= (restoring or 0.0)], default=None)
        if restoring is not None and end is not None:
            spans.append(Span("pages", "follows", restoring, end))
        return spans

    def downtime_parts(self) -> list[Span]:
        """The downtime's steps, from the freeze on; [] if the restored task never ran."""
        frozen, resumed, freeze = self.frozen_s, self.resumed_s, self.report["freeze_s"]
        if frozen is None or resumed is None or freeze is None:
            return []
        times = [frozen, frozen + freeze]
        times += [self.phases.get(name, resumed) for name in ("serving", "restoring", "allowed")] + [resumed]
        names = ("criu dump", "images", "hooks, daemon", "restore", "go")
        kinds = ("frozen", "images", "daemon", "restoring", "follows")
        steps = zip(names, kinds, times, times[1:], strict=False)
        return [Span(name, kind, begin, max(begin, end)) for name, kind, begin, end in steps]

    # ---- over time ----

    def round_bandwidth(self) -> Series:
        """Bytes per second in the rounds of pre-copy, the mean of each."""
        series: Series = []
        for each in self.facts["rounds"]:
            mean = each["sent_bytes"] / each["seconds"] if each["seconds"] else 0.0
            begin = each["ended_s"] - each["seconds"]
            series += [(begin, 0.0), (begin, mean), (each["ended_s"], mean), (each["ended_s"], 0.0)]
        return series

    def bandwidth(self) -> Series:
        """Bytes per second that the daemon received; once it wasn't heard of, that the page server sent."""
        sent = self.facts.get("sent", {"at": [], "bytes": []})
        return rate([*self.at, *sent["at"]], [*self._column("received_bytes"), *sent["bytes"]])

    def fault_rate(self) -> Series:
        """Faults per second that waited for their pages."""
        sums = zip(self._column("demand_faults"), self._column("merged_faults"), strict=True)
        return rate(self.at, [sum(pair) for pair in sums])

    def missing(self) -> Series:
        """Bytes of memory that the destination lacked."""
        pages = map(sum, zip(self._column("remaining_pages"), self._lost(), strict=True))
        most = int(self.stats.get("total_pages", 0))
        return [(at, min(count, most) * PAGE_BYTES) for at, count in zip(self.at, pages, strict=True)]

    def _lost(self) -> list[int]:
        """Pages that a restored task lacked when it was killed; an older run file has none."""
        return list(self.facts["samples"].get("lost_pages", [0] * len(self.at)))

    def _column(self, name: str) -> list[int]:
        return list(self.facts["samples"][name])

    def arrivals(self) -> list[tuple[float, bytes]]:
        """When how much was missing of each part of memory, 0 (nothing) to 255; [] if the daemon did not say."""
        known = zip(self.at, self.facts["maps"], self._lost(), strict=True)
        # What a restored task that was killed lacked is in no later map, and did not come.
        told = [(at, bytes.fromhex(each)) for at, each, lost in known if each and not lost]
        return told if len(told) > 1 else []

    def demands(self) -> list[tuple[float, float, bytes]]:
        """From when to when how many faults asked for a page of each part of memory, up to 255."""
        told = zip([self.at[0] if self.at else 0.0, *self.at], self.at, self.facts.get("demands", []), strict=False)
        return [(begin, end, bytes.fromhex(each)) for begin, end, each in told if each]

    # ---- of all of it ----

    def waits(self) -> list[tuple[str, int]]:
        """How many faults waited how long, by powers of two: ("256-512 us", 12); from the shortest to the longest."""
        return octaves([int(count) for count in self.stats.get("fault_wait_us", ())])

    def how_pages_came(self) -> list[Share]:
        """Each lazy page by what brought it, or did not."""
        stats = self.stats
        if not stats:
            return []
        same, copied = int(stats["same_pages"]), int(stats["copied_pages"])
        sent = copied - same if self.report["received_bytes"] else 0
        missing = "missing" if self.heard_until_s is None else "missing when it was last heard of"
        shares = [
            Share("copied before the freeze, and unchanged", "precopied", same),
            Share("sent after it", "follows", sent),
            Share("from files at the destination", "images", copied - same - sent),
            Share("zero: nothing had to be sent", "zero", int(stats["zero_pages"])),
            Share("not wanted any more", "dropped", int(stats["dropped_pages"])),
            Share(missing, "frozen", int(stats["remaining_pages"]) + int(stats["lost_pages"])),
        ]
        return [share for share in shares if share.pages > 0]

    def by_part(self) -> list[list[tuple[str, float]]]:
        """Of each part of memory, by address, the shares that came so; [] if the daemon did not say."""
        same, asked = self.stats.get("same_map", []), self.stats.get("demand_map", [])
        missing = self.arrivals()[-1][1] if self.arrivals() else bytes(len(same))
        whole = int(self.stats.get("total_pages", 0)) / max(1, len(same))
        parts = []
        for part in range(len(same) if whole else 0):
            left = missing[part] / 255
            copied = min(1 - left, same[part] / whole)
            demand = min(1 - left - copied, asked[part] / whole)
            rest = 1 - left - copied - demand
            parts.append([("precopied", copied), ("demand", demand), ("follows", rest), ("frozen", left)])
        return parts

    def who_asked(self) -> list[Share]:
        """The pages that came, by what made them come."""
        stats = self.stats
        if not stats:
            return []
        came, asked = int(stats["copied_pages"]) + int(stats["zero_pages"]), int(stats["demand_faults"])
        unasked = "pushed unasked" if stats["push_streams"] else "read ahead"
        shares = [Share("asked for by a fault", "demand", asked), Share(unasked, "follows", max(0, came - asked))]
        return [share for share in shares if share.pages > 0]


def rate(at: list[float], counted: list[int]) -> Series:
    """Of a counter, per second, as steps that are wide enough to be read."""
    if len(at) < 2:
        return []
    least = max(LEAST_BIN_S, (at[-1] - at[0]) / BINS)
    series: Series = [(at[0], 0.0)]
    begin = 0
    for end in range(1, len(at)):
        seconds = at[end] - at[begin]
        if seconds >= least or (end == len(at) - 1 and seconds > 0):
            mean = max(0, counted[end] - counted[begin]) / seconds
            series += [(at[begin], mean), (at[end], mean)]
            begin = end
    return [*series, (at[-1], 0.0)]


def octaves(histogram: list[int]) -> list[tuple[str, int]]:
    """The daemon's histogram by powers of two, without the empty ends."""
    sums: list[int] = []
    for bucket, count in enumerate(histogram):
        octave = -(-bucket // BUCKETS_TO_AN_OCTAVE)  # bucket b holds waits below 2^(b/4) microseconds
        sums += [0] * (octave + 1 - len(sums))
        sums[octave] += count
    filled = [n for n, count in enumerate(sums) if count]
    if not filled:
        return []
    return [(octave_as_text(n), sums[n]) for n in range(filled[0], filled[-1] + 1)]


def octave_as_text(octave: int) -> str:
    """The waits in it; a thousand is taken for 1024, as everybody reads powers of two."""
    if not octave:
        return "< 1 us"
    for unit, divisor in (("us", 1), ("ms", 1 << 10), ("s", 1 << 20)):
        if (1 << octave) <= 512 * divisor or unit == "s":
            return f"{(1 << octave - 1) / divisor:g}-{(1 << octave) / divisor:g} {unit}"
    raise AssertionError
