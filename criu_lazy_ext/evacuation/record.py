"""What an evacuation has on record: a file that says of each task where it is, whatever dies.

What is said there of one that has ended was recorded before its migration's own journal went. Of one that was under way
that journal tells (settling.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration.state import State
from criu_lazy_ext.system.files import replace_file

FORMAT = 1
WAITING, MOVING, GONE = "waiting", "moving", "gone"  # an item's states, beside a migration's last ones
STAYED = (State.ROLLED_BACK.value, State.FAILED.value)


class RecordError(CriuLazyError):
    """It can't be read, or written."""


@dataclass
class Item:
    """One task or container. `state`: waiting, moving (its migration's journal tells how far), gone (it ended before
    its turn), or as a migration ends. `pod`: that it is a part of, and moves with; or "".
    `places`: where it may go; `place`: where it went last, or goes; `tried`: what came of each try. `run_file`,
    `downtime_s`, `fault_wait_us`: of the one that was committed. `bytes`: of lazy memory that had come."""

    name: str
    pid: int
    began: int
    container: str | None
    memory: int
    places: list[str]
    priority: int = 0
    after: list[str] = field(default_factory=list)  # names of items
    pod: str = ""
    state: str = WAITING
    place: str = ""
    message: str = ""
    tried: list[dict[str, str]] = field(default_factory=list)
    run_file: str = ""
    downtime_s: float | None = None
    bytes: int = 0
    fault_wait_us: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether it moves no more by itself."""
        return self.state not in (WAITING, MOVING)

    @property
    def has_moved(self) -> bool:
        return self.state == State.COMMITTED.value

    @property
    def is_done(self) -> bool:
        """Nothing of it is left here, and nothing failed."""
        return self.has_moved or self.state == GONE


@dataclass
class Record:
    """`directory`/record.json: all of an evacuation. Raises RecordError."""

    directory: Path
    plan: str  # the plan's file
    items: list[Item]
    seconds: float = 0.0  # that it took, all its drivers together

    def save(self) -> None:
        """Durably."""
        facts = {"format": FORMAT, "plan": self.plan, "seconds": round(self.seconds, 3)}
        text = json.dumps(facts | {"items": [asdict(item) for item in self.items]}, separators=(",", ":"))
        try:
            replace_file(self.directory / "record.json", text + "\n", durable=True)
        except OSError as error:
            raise RecordError(f"{self.directory}: {error.strerror}") from error

    @property
    def is_over(self) -> bool:
        return all(item.is_over for item in self.items)

    def in_order(self) -> list[Item]:
        """As they are to go: by priority, then as in the plan; what moves as one is together."""
        first: dict[str, int] = {}
        places = [first.setdefault(item.pod or item.name, number) for number, item in enumerate(self.items)]
        order = {item.name: place for item, place in zip(self.items, places, strict=True)}
        return sorted(self.items, key=lambda item: (-item.priority, order[item.name]))

    def together(self, item: Item) -> list[Item]:
        """Those that move as one with it, itself among them."""
        return [other for other in self.items if other.pod == item.pod] if item.pod else [item]

    @classmethod
    def read(cls, directory: Path) -> Record | None:
        """None: there is none."""
        path = directory / "record.json"
        try:
            facts: dict[str, Any] = json.loads(path.read_text())
            if facts["format"] != FORMAT:
                raise RecordError(f"{path}: its format is {facts['format']}, and this criu-lazy knows {FORMAT}")
            items = [Item(**item) for item in facts["items"]]
            return cls(directory, facts["plan"], items, facts["seconds"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = getattr(error, "strerror", None) or f"it is damaged ({error!r})"
            ways = f"criu-lazy status tells of each migration; once all are over, rm -r {directory}"
            raise RecordError(f"{path}: {why}; {ways}") from error


def profile_path(directory: Path, migration: str, place: int | None = None) -> Path:
    """The profile of the migration of that name: for `migrate --status`; or the one that would lead to the plan's
    destination of that number."""
    return directory / f"{migration}.yaml" if place is None else directory / f"to-{place}" / f"{migration}.yaml"


def plan_path(directory: Path) -> Path:
    """The plan as it was when the evacuation began: that is what --resume goes on with."""
    return directory / "plan.yaml"
