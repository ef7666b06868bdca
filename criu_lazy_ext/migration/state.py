"""The states of a migration, which may follow which, and the exit status of each."""

from __future__ import annotations

import enum

from criu_lazy_ext.errors import CriuLazyError


class State(enum.Enum):
    """How far a migration is."""

    PREFLIGHT = "preflight"
    PRE_COPY = "pre-copy"  # the task runs, and its memory is sent in rounds
    DUMPING = "dumping"  # the task is being frozen
    SERVING = "serving"  # frozen; its pages can be asked for
    RESTORING = "restoring"
    ALLOWED = "allowed"  # recorded: "go" may be sent from now on; the point of no return
    RUNNING = "running"  # the restored task runs, its memory follows
    DRAINED = "drained"  # every page arrived
    COMMITTING = "committing"  # CLOSE is being said: the source task is killed
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"  # nothing was frozen yet; or somebody else killed the source task, and none runs
    UNDECIDED = "undecided"  # after the point of no return, or if a roll back failed: the source is frozen


TRANSITIONS: dict[State, set[State]] = {
    State.PREFLIGHT: {State.PRE_COPY, State.DUMPING, State.FAILED, State.UNDECIDED},
    State.PRE_COPY: {State.DUMPING, State.FAILED, State.UNDECIDED},
    State.DUMPING: {State.SERVING, State.ROLLED_BACK, State.FAILED, State.UNDECIDED},
    State.SERVING: {State.RESTORING, State.ROLLED_BACK, State.FAILED, State.UNDECIDED},
    State.RESTORING: {State.ALLOWED, State.ROLLED_BACK, State.FAILED, State.UNDECIDED},
    State.ALLOWED: {State.RUNNING, State.ROLLED_BACK, State.FAILED, State.UNDECIDED},
    State.RUNNING: {State.DRAINED, State.UNDECIDED},
    State.DRAINED: {State.COMMITTING, State.UNDECIDED},
    State.COMMITTING: {State.COMMITTED, State.UNDECIDED},
    State.COMMITTED: set(),
    State.ROLLED_BACK: set(),
    State.FAILED: set(),
    State.UNDECIDED: set(),
}
FINAL = {State.COMMITTED, State.ROLLED_BACK, State.FAILED}
ENDED = {state.value for state in FINAL}
EXIT_STATUS = {State.COMMITTED: 0, State.FAILED: 1, State.ROLLED_BACK: 3, State.UNDECIDED: 4}


class Trouble(CriuLazyError):
    """Something that the migration rests on ended by itself, or the user wants it to stop."""
