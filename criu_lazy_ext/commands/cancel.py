"""`criu-lazy cancel PROFILE`: stops a migration that is under way, as long as its task runs here."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration import journal, run_file
from criu_lazy_ext.migration.lock import Lock, Locked, lock_path
from criu_lazy_ext.migration.operator_commands import Found, title
from criu_lazy_ext.migration.state import EXIT_STATUS, State
from criu_lazy_ext.profile import Directories, load
from criu_lazy_ext.system.processes import send_signal, start_time

ENDS_WITHIN_S = 60.0
POLL_S = 0.05


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy cancel",
        description="Stop a migration that is under way before its task runs at the destination: it runs on here.",
    )
    parser.add_argument("migration", help="its profile, or its name as criu-lazy status has it")
    return parser


def main(argv: list[str]) -> int:
    """Exit status: 0 the source task runs on; 1 nothing is under way, or the task runs there already; 4 it was resumed
    there just then, and somebody has to decide."""
    name = arguments().parse_args(argv).migration
    path = Path(name)
    is_profile = path.suffix in (".yaml", ".yml") or "/" in name
    directory = (load(path).directories.source if is_profile else Directories().source) / path.stem
    since, driver = time.time(), driver_of(directory)
    before = recorded(directory, driver)
    stop(directory, driver, before)
    facts = recorded(directory, driver)
    if facts is None:
        told = reported(directory, since)
        if before is not None or told:
            told = told or "its record is gone, as after a commit, and there is no run file"
            raise CriuLazyError(f"{directory.name}: it has ended meanwhile: {told}")
        print(f"{directory.name}: stopped at its beginning; the task was not touched")
        return 0
    ended = Found.look(facts).ended()
    how = "cancelled before the freeze" if ended is State.FAILED else (ended or State.UNDECIDED).value
    what = "the source task runs on" if ended else f"see criu-lazy migrate --status {name}"
    print(f"{directory.name}: {title(facts)}: {how}; {what}")
    return 0 if ended else EXIT_STATUS[State.UNDECIDED]


def reported(directory: Path, since: float) -> str:
    """How the migration ended whose run file was written since then; "" if there is none."""
    files = {path: path.stat().st_mtime for path in run_file.directory_of(directory).glob("*.json")}
    newest = max(files, key=files.__getitem__, default=None)
    if newest is None or files[newest] < since:
        return ""
    return f"{run_file.read(newest)['report']['outcome']}, as {newest} has it"


def recorded(directory: Path, driver: tuple[int, int]) -> dict[str, Any] | None:
    """What is on record of that driver's migration; at its beginning, nothing is, or an earlier one."""
    facts = journal.read(directory) if journal.exists(directory) else None
    return facts if facts is not None and tuple(facts["owner"]) == driver else None


def driver_of(directory: Path) -> tuple[int, int]:
    """The `migrate` that is at work: its pid, and when it began. Raises CriuLazyError if there is none."""
    try:
        Lock(lock_path(directory)).release()
    except Locked as locked:
        began = start_time(locked.pid)
        words = Path(f"/proc/{locked.pid}/cmdline").read_bytes().split(b"\0") if began is not None else []
        if b"evacuate" in words:
            whole = f"it is a part of an evacuation: kill {locked.pid} ends that"
            raise CriuLazyError(f"{directory.name}: {whole}") from locked
        if b"--dry-run" in words:
            whole = f"it is a dry run, which moves nothing: kill {locked.pid} ends that"
            raise CriuLazyError(f"{directory.name}: {whole}") from locked
        if began is not None:
            return locked.pid, began
    if journal.exists(directory) and Found.look(journal.read(directory)).ended() is None:
        way_out = f"criu-lazy migrate --status PROFILE ({directory.name}.yaml) says what to do"
        raise CriuLazyError(f"{directory.name}: nobody drives it any more: {way_out}")
    raise CriuLazyError(f"{directory.name}: no migration of that name is under way; see criu-lazy status")


def stop(directory: Path, driver: tuple[int, int], facts: dict[str, Any] | None) -> None:
    """As Ctrl-C does (which a script's background job ignores), and wait for its end. Raises CriuLazyError if the
    restored task may run: nothing undoes that."""
    if facts is not None and facts.get("went"):
        there = f"the task runs at {facts['destination']} already, and its memory follows"
        raise CriuLazyError(f"{directory.name}: {title(facts)}: {there}: too late; when that is over, move it back")
    send_signal(*driver, signal.SIGTERM)
    deadline = time.monotonic() + ENDS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            return Lock(lock_path(directory)).release()
        except Locked:
            time.sleep(POLL_S)
    raise CriuLazyError(f"{directory.name}: told to stop, it is still at it (pid {driver[0]}): see criu-lazy status")
