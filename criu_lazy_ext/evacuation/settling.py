"""What became of a migration whose evacuation was killed: its journal tells, and what is there to be seen.

Nothing is forced here: what an operator would need --force for, an operator has to decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.evacuation.record import MOVING, Item
from criu_lazy_ext.migration import journal, on_record
from criu_lazy_ext.migration.lock import Lock, Locked, lock_path
from criu_lazy_ext.migration.operator_commands import Decision
from criu_lazy_ext.migration.state import ENDED, State
from criu_lazy_ext.profile import Profile

LOOK_S = 0.3


@dataclass(frozen=True)
class Settled:
    """`state` None: it had not begun, or has to be decided by somebody: `message` says why, and how."""

    state: State | None
    message: str = ""
    run_file: str = ""


def look_at(item: Item, directory: Path) -> None:
    """Say of one that is on record as under way what its migration's journal says, and what is there; of one that had
    to be decided, whether it was; `directory`: that migration's. Nothing is touched."""
    was_undecided = item.state == State.UNDECIDED.value
    if not (item.state == MOVING or was_undecided) or not journal.exists(directory):
        return
    try:
        seen = on_record.leaving(directory, journal.read(directory))
    except CriuLazyError as error:
        item.message = item.message or str(error)
        return
    if seen.state in ENDED:
        item.state, item.message = seen.state, "decided since by criu-lazy migrate" if was_undecided else ""
    elif not was_undecided:
        item.message = seen.words()


def settle(profile: Profile, name: str, goes_on: Callable[[], bool], all_complete: Callable[[], bool]) -> Settled:
    """See the migration to its end, for as long as `goes_on`, and as pages come. What is decided is printed, as by
    `migrate --status`.

    `all_complete` is asked when every page of it has arrived: whether that is so of all that move as one with it.
    """
    directory = profile.directories.source / name
    while True:
        try:
            lock = Lock(lock_path(directory))
            break
        except Locked as locked:  # an operator decides it just now
            if not goes_on():
                return Settled(State.UNDECIDED, str(locked))
        time.sleep(LOOK_S)
    if not journal.exists(directory):
        lock.release()
        return Settled(None)  # what its evacuation knew of its end was on record before this went
    try:
        return _settle(profile, directory, goes_on, all_complete)
    except CriuLazyError as error:
        return Settled(State.UNDECIDED, str(error))
    finally:
        lock.release()


def _settle(
    profile: Profile, directory: Path, goes_on: Callable[[], bool], all_complete: Callable[[], bool]
) -> Settled:
    came, since = -1, time.monotonic()
    while True:
        decision = Decision(profile, directory, journal.read(directory))
        found, ended = decision.found, decision.found.ended()
        if (answer := found.server.answer) is not None and answer["bytes"] != came:
            came, since = answer["bytes"], time.monotonic()
        waited = time.monotonic() - since
        how = f"{'made' if ended is None else 'found'} by criu-lazy evacuate"
        if ended is None:
            if not found.went:
                ended = decision.abort(False)
            elif found.may_commit and not found.is_lost and all_complete():
                ended = decision.commit(False)
            elif found.may_commit and not found.is_lost and goes_on():
                since = time.monotonic()
            elif not (found.server.is_there and goes_on() and waited < profile.timeouts.stall) or found.is_lost:
                return Settled(State.UNDECIDED, "; ".join(found.words()))
        if ended is not None:
            if found.facts["state"] not in ENDED:
                decision.settle(ended, how)
            words = "" if ended is State.COMMITTED else f"its driver was killed; {decision.found.source.words()}"
            return Settled(ended, words, str(found.facts.get("run_file", "")))
        time.sleep(LOOK_S)
