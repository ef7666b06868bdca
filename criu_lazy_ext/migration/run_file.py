"""The run file: what one migration did, over time, for `criu-lazy report`. A JSON object of bounded size.

It is written while the migration goes on: should its driver be killed, what was seen until then is there.

Times are seconds since the migration's start, by the source's clock; bytes and pages as in the report. Keys:
  format, program     FORMAT; the version of criu-lazy that wrote it
  name, began         the profile's; seconds since the epoch
  source              this host's name
  link                bytes per second, 0 for unknown: limit (source.rate), interface (as it says), best (measured)
  report              as `migrate --json` prints it; while migrate had not ended, its outcome is UNDER_WAY, and total_s
                      is when this was written
  frozen_s, resumed_s when the task was frozen and when the restored task ran, or null
  rounds              of pre-copy: ended_s, seconds, sent_bytes
  lines               progress: [time, level, text]
  samples             columns of the same length: "at", and counters of the daemon's (COLUMNS)
  maps                for each sample "missing_map" of the daemon's counters, in hexadecimal, or null
  demands             for each sample how many demand faults there were since the one before, by the same parts (255: or
                      more), in hexadecimal, or null: none (an older run file lacks them)
  stats               the daemon's last counters
  sent                "at" and "bytes": what the page server had sent, when counters did not come any more (an older run
                      file lacks it)
  settled             if somebody else saw its end: "outcome"; "at", since the epoch; "how"; "left_in", the state that
                      migrate had recorded last
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criu_lazy_ext import __version__
from criu_lazy_ext.errors import CriuLazyError, reason
from criu_lazy_ext.system.files import replace_file

if TYPE_CHECKING:
    from criu_lazy_ext.migration.figures import Figures
    from criu_lazy_ext.migration.report import Report

FORMAT = 1
UNDER_WAY = "under-way"
COLUMNS = (
    *("remaining_pages", "received_bytes", "demand_faults", "merged_faults", "waiting_faults", "oldest_wait_us"),
    "lost_pages",  # an older run file lacks them
)
MAX_SAMPLES = 500
MAX_LINES = 200
LEAST_INTERVAL_S = 0.08  # of samples, until there are too many
KEPT = 20  # run files of a profile
WHERE = "migrate names its own at the end, as /var/lib/criu-lazy/NAME.runs/DATE-PID.json"


class RunFileError(CriuLazyError):
    """It can't be read."""


class Recorder:
    """Collects what the run file will say."""

    def __init__(self) -> None:
        self.began = time.time()
        self.interface = 0
        self.rounds: list[dict[str, float]] = []
        self.lines: list[tuple[float, str, str]] = []
        self.at: list[float] = []
        self._counters: list[list[int]] = []  # of each sample, by COLUMNS
        self._maps: list[str | None] = []
        self._demands: list[list[int]] = []  # until each sample
        self._interval = LEAST_INTERVAL_S
        self._sent: list[tuple[float, int]] = []

    def line(self, at: float, level: str, text: str) -> None:
        """Progress. The last ones are kept, and the first."""
        if len(self.lines) >= MAX_LINES:
            del self.lines[MAX_LINES // 2]
        self.lines.append((round(at, 3), level, text))

    def sample(self, at: float, stats: dict[str, Any]) -> None:
        """The daemon's counters, if the last ones are not of just now. The very last are in "stats" anyway."""
        ending = not int(stats["remaining_pages"])
        if self.at and at - self.at[-1] < self._interval and not ending:
            return
        self.at.append(round(at, 3))
        self._counters.append([int(stats.get(name, 0)) for name in COLUMNS])
        self._maps.append(bytes(stats["missing_map"]).hex() if "missing_map" in stats else None)
        self._demands.append(list(stats.get("demand_map", ())))
        if len(self.at) >= MAX_SAMPLES:
            self._interval *= 2
            for column in (self.at, self._counters, self._maps, self._demands):
                del column[1::2]

    def sent(self, at: float, sent_bytes: int) -> None:
        """What the page server had sent, all in all, then."""
        self._sent.append((round(at, 3), sent_bytes))
        if len(self._sent) >= MAX_SAMPLES:
            del self._sent[1::2]

    def facts(self, name: str, figures: Figures, report: Report) -> dict[str, Any]:
        """All that the run file says."""
        frozen = None if figures.frozen_at is None else figures.frozen_at - figures.start
        resumed = None if frozen is None or figures.downtime_s is None else frozen + figures.downtime_s
        samples = {name: [counters[n] for counters in self._counters] for n, name in enumerate(COLUMNS)}
        return {
            "format": FORMAT,
            "program": __version__,
            "name": name,
            "began": round(self.began, 3),
            "source": socket.gethostname(),
            "link": {"limit": figures.limit, "interface": self.interface, "best": round(figures.best_rate)},
            "report": report.as_json(),
            "frozen_s": frozen,
            "resumed_s": resumed,
            "rounds": self.rounds,
            "lines": self.lines,
            "samples": {"at": self.at, **samples},
            "maps": self._maps,
            "demands": [steps(*pair) for pair in zip([[], *self._demands], self._demands, strict=False)],
            "sent": {"at": [at for at, _ in self._sent], "bytes": [count for _, count in self._sent]},
            "stats": {name: value for name, value in figures.stats.items() if name != "missing_map"},
        }


def steps(before: list[int], after: list[int]) -> str | None:
    """How much more each counter has, up to 255, in hexadecimal; None: nothing. A successor daemon counts anew."""
    begin = before if len(before) == len(after) and all(map(int.__le__, before, after)) else [0] * len(after)
    more = bytes(min(255, now - then) for then, now in zip(begin, after, strict=True))
    return more.hex() if any(more) else None


def directory_of(migration: Path) -> Path:
    """Where the run files of the migrations are that have, or had, the directory `migration`."""
    return migration.with_name(f"{migration.name}.runs")


def path_of(migration: Path, began: float) -> Path:
    """Of one that begins now: no other has it."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(began))
    return directory_of(migration) / f"{stamp}-{os.getpid()}.json"


def save(path: Path, facts: dict[str, Any]) -> None:
    """Write it; for a new one, those that are too many go. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    is_new = not path.exists()
    replace_file(path, json.dumps(facts, separators=(",", ":")) + "\n")
    for old in sorted(path.parent.glob("*.json"))[:-KEPT] if is_new else []:
        old.unlink()


def settle(path: Path, outcome: str, how: str, left_in: str) -> None:
    """Add how the migration ended, which its driver has not seen. Raises OSError, RunFileError."""
    if path.exists():  # newer ones may have taken its place
        told = {"outcome": outcome, "at": round(time.time(), 3), "how": how, "left_in": left_in}
        save(path, read(path) | {"settled": told})


def what(facts: dict[str, Any]) -> str:
    """What moved, as its operator knows it."""
    container = facts["report"].get("container")  # an older run file has none
    return f"container {container}" if container else f"task {facts['report']['task_pid']}"


def outcome(facts: dict[str, Any]) -> str:
    """How its migration ended, by whoever has seen that; or UNDER_WAY."""
    return str((facts.get("settled") or facts["report"])["outcome"])


def ended_at(facts: dict[str, Any]) -> float:
    """When that was, or when its driver ended, in seconds since the epoch."""
    return float((facts.get("settled") or {}).get("at") or facts["began"] + facts["report"]["total_s"])


def of_all(directory: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each directory of run files below that of the migrations, with its files, the newest first."""
    for path in sorted(directory.glob("*.runs")) if directory.is_dir() else []:
        yield path, sorted(path.glob("*.json"), reverse=True)


def last(directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest of all profiles that tells an end: the directory of its profile's, and its facts."""
    paths = [path for _, each in of_all(directory) for path in each]
    for path in sorted(paths, key=lambda path: path.name, reverse=True):  # which begins with its date
        with contextlib.suppress(RunFileError, KeyError):  # of another version
            facts = read(path)
            if outcome(facts) != UNDER_WAY:
                return path.parent, facts
    return None


def read(path: Path) -> dict[str, Any]:
    """The facts of a run file, or of the newest in a directory. Raises RunFileError."""
    try:
        if path.is_dir():
            found = sorted(item for item in path.iterdir() if item.suffix == ".json")
            if not found:
                raise RunFileError(f"{path}: no run file is there; {WHERE}")
            path = found[-1]
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "this is no run file"
        raise RunFileError(f"{path}: {why}; {WHERE}") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise RunFileError(f"{path}: this is no run file that criu-lazy {__version__} can read; {WHERE}")
    return facts
