"""What a migration has made on the destination, and how it is undone: by the agent, or by its keeper if that died."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from criu_lazy_ext.checks.needs import unpack_ids
from criu_lazy_ext.engines.engine import RUNTIME_PID, container_of_message, engine_of
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system.events import Events
from criu_lazy_ext.system.files import logs_in
from criu_lazy_ext.system.hooks import run_hook
from criu_lazy_ext.system.live_state import OUTCOME
from criu_lazy_ext.system.migration_id import current_id
from criu_lazy_ext.system.mounts import unmount_below
from criu_lazy_ext.system.processes import Process, below, start_time
from criu_lazy_ext.system.service_network import ServiceNetwork

GONE_WITHIN_S = 10.0


class AgentError(CriuLazyError):
    """A request can't be carried out; the message goes to the source."""


@dataclass
class Made:
    """What a migration has made on this host so far: enough to undo it, or to see it through."""

    directory: str = ""
    reaper: int = 0  # the process below which all of it is: the keeper
    ids: str = ""  # pids and thread ids that the restored tasks will have, by pack_ids
    store: str = ""  # the directory of the pages that come before the dump
    page_store: int = 0  # its pid, which is its process group's too
    daemon: int = 0  # the same
    successor: list[str] | None = None  # the command of a daemon that goes on after a killed one
    restore: int = 0  # its pid, which is its process group's too
    restore_began: int = 0  # in clock ticks since boot
    running: bool = False  # the restored task was resumed
    touched: bool = False  # a hook ran here, or images came
    keep_files: bool = False
    logs: str = ""  # the directory that is to keep them, should it be undone
    container: dict[str, Any] | None = None  # by container_as_message, once its engine may know it here
    room: dict[str, Any] | None = None  # the same, once what it is restored into may have been made
    undo_hooks: list[dict[str, Any]] = field(default_factory=list)  # {"run", "env", "timeout"}
    network: dict[str, Any] | None = None  # ServiceNetwork.facts() of the addresses that come; the filter is there
    arrived: bool = False  # and the addresses are
    with_others: bool = False  # "go" was said, also to others of its pod, which have these addresses, too
    migration: str = ""  # its id

    def kill_restored(self) -> None:
        """Kill the restore and whatever it restored; wait until they are gone. The service addresses go before them,
        unless others may run with them."""
        network = None if self.with_others else ServiceNetwork.of_facts(self.network)
        problems = network.withdraw() if network is not None and self.arrived else []
        if self.restore:
            kill_all(self.restored)
            self.restore = 0
            unmount_below(Path(self.directory))  # a criu that restores control groups mounts them there
            self.forget_container()
        if network is not None:
            self.network, self.arrived = None, False
            say(problems + network.open())

    def open_network(self) -> None:
        """The restored task is about to run, or runs: its service addresses are answered for here."""
        if (network := ServiceNetwork.of_facts(self.network)) is not None:
            say(network.open())

    def announce_network(self) -> None:
        """Tell the neighbours where they are; takes some milliseconds."""
        self.begin_to_announce().close()

    def begin_to_announce(self) -> contextlib.ExitStack:
        """The same at once; what it returns is closed when there is time."""
        sockets = contextlib.ExitStack()
        if (network := ServiceNetwork.of_facts(self.network)) is not None:
            say(network.announce(sockets))
        return sockets

    def leave_network(self) -> None:
        """The restored task should run, but if all of it is dead, nobody is to answer for its addresses, if no others
        may run with them."""
        network = None if self.with_others else ServiceNetwork.of_facts(self.network)
        since = [process for process in self.ours() if process.began >= self.restore_began]
        if network is not None and all(process.group == self.daemon for process in since):
            say(network.withdraw() + network.open())
            self.network = None

    def forget_container(self) -> None:
        """Its processes are gone: nor is the engine to know it."""
        if self.container is not None:
            try:
                engine_of(container_of_message(self.container)).forget()
            except CriuLazyError as error:
                print(f"criu-lazy agent: warning: {error}", file=sys.stderr, flush=True)
            self.container = None

    def clear_room(self) -> None:
        """What the container was to be restored into goes, if nothing else is there."""
        if self.room is not None:
            try:
                engine_of(container_of_message(self.room)).clear_room()
            except CriuLazyError as error:
                say([str(error)])
            self.room = None

    def restored(self) -> list[Process]:
        """The restore and what it restored. By descent: whoever has a pid of theirs but isn't below us is not ours."""
        ids = self.restored_ids()
        found: dict[int, Process] = {}
        for process in self.ours():
            if process.began >= self.restore_began and (
                self.restore in (process.pid, process.group) or process.inner_pid in ids or process.parent in found
                or self.is_engines(process)
            ):  # fmt: skip
                found[process.pid] = process
        return list(found.values())

    def is_engines(self, process: Process) -> bool:
        """Whether a process that began with the restore is what a container's engine has left to the keeper, podman's
        conmon, below which are the runtime and criu; or to a process of its own."""
        if self.container is None or process.group == self.daemon:
            return False
        return process.parent in (self.reaper, self.engines_process())

    def restored_ids(self) -> set[int]:
        """The pids and thread ids that are restored: as the source said, and as the images say."""
        names = [path.stem.removeprefix("core-") for path in (Path(self.directory) / "images").glob("core-*.img")]
        return set(unpack_ids(self.ids) if self.ids else []) | {int(name) for name in names if name.isdecimal()}

    def ours(self) -> list[Process]:
        """All below the keeper: what lost its parent as well. If the keeper is dead, all below this process. And what
        the container's engine has started for it elsewhere."""
        me = os.getpid()
        found = below(self.reaper if self.reaper in (me, os.getppid()) else me)
        return [*found, *(below(engines) if (engines := self.engines_process()) else [])]

    def engines_process(self) -> int:
        """The pid of that below which the engine has started the restore, if that isn't the keeper: containerd's shim,
        whose end is the engine's affair."""
        with contextlib.suppress(OSError):
            words = (Path(self.directory) / "work" / RUNTIME_PID).read_text().split()
            if len(words) == 2 and (start_time(int(words[1])) or 0) >= self.restore_began:
                return int(words[1])
        return 0

    def kill_group(self, group: int) -> None:
        """Kill what is ours of a process group; wait until it is gone."""
        kill_all(lambda: [process for process in self.ours() if group and process.group == group])

    def undo(self) -> None:
        """Kill everything, remove the files, run the hooks for it. Not for when the restored task runs."""
        self.kill_restored()
        if self.with_others:
            self.open_network()
            self.announce_network()
        self.kill_group(self.daemon)
        self.kill_group(self.page_store)
        self.clear_room()
        self.keep_logs()
        for directory in filter(None, (self.store, self.directory)):
            shutil.rmtree(directory, ignore_errors=True)
        for hook in self.undo_hooks if self.touched else []:
            try:
                asyncio.run(run_hook(hook["run"], hook["env"], hook["timeout"]))
            except (CriuLazyError, OSError) as error:
                say([f"after_rollback: {error}"])

    def keep_logs(self) -> None:
        """What tells why it failed outlives it, until the next migration of that name."""
        try:
            for path in logs_in(Path(self.directory) / "work") if self.touched else []:
                Path(self.logs).mkdir(mode=0o700, exist_ok=True)
                path.rename(Path(self.logs) / path.name)
        except OSError as error:
            say([f"{self.logs}: {error.strerror}: the logs were not kept"])

    def remove_files(self) -> None:
        """The migration is over."""
        if self.store:
            shutil.rmtree(self.store, ignore_errors=True)
        if self.directory and not self.keep_files:
            shutil.rmtree(self.directory, ignore_errors=True)

    def write_outcome(self, outcome: dict[str, Any]) -> None:
        """For whoever finds the files that stay."""
        text = json.dumps(outcome | {"at": time.time()}) + "\n"
        with contextlib.suppress(OSError):
            (Path(self.directory or "/nonexistent") / OUTCOME).write_text(text)


def say(problems: list[str]) -> None:
    """Warnings; the agent's standard error goes to the source while that is there."""
    for problem in problems:
        Events(current_id(), CRIU_LAZY_ROLE="destination").tell(problem, "warning")
        with contextlib.suppress(OSError):
            print(f"criu-lazy agent: warning: {problem}", file=sys.stderr, flush=True)


def kill_all(look: Callable[[], list[Process]]) -> None:
    """SIGKILL what `look` finds until it finds nothing. It takes time when much memory is to be freed."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while (found := look()) and time.monotonic() < deadline:
        for process in found:
            process.kill()
        time.sleep(0.005)
