"""The keeper: the parent of the agent's process. It stays when the agent is killed, and does what has to be done then:
undo what was made, or see to it that a daemon serves the restored task until every page is there.

It is the reaper of all that loses its parent on the destination's half: of the restored tasks too, once criu restore
has left them. It tells the agent how they ended. Whatever descends from it belongs to the migration.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from criu_lazy_ext.criu.explain import cause_in_log
from criu_lazy_ext.destination.succession import Succession
from criu_lazy_ext.destination.undo import Made
from criu_lazy_ext.remote.channel import AGENT_ENDED, as_bytes
from criu_lazy_ext.system.migration_id import VARIABLE
from criu_lazy_ext.system.processes import describe_status

_PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 1.0
MOST_ENDED = 1000  # remembered
LOST_CHILD = -signal.SIGKILL  # the status of a daemon that somebody else has reaped


def become_reaper() -> None:
    """Orphans among this process's descendants become its children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Keeper:
    """`facts`: a pipe on which the agent tells what it made. `reports`: a pipe to the agent, which gets a line for each
    process reaped: {"pid", "status"}. `source`: what the agent writes to the source."""

    def __init__(self, agent: int, facts: int, reports: int, source: int) -> None:
        self.agent = agent
        self.facts = facts
        self.reports = reports
        self.source = source
        os.set_blocking(reports, False)  # an agent that hangs must not make this process hang
        self.made = Made()
        self.told = b""
        self.ended: dict[int, int] = {}  # statuses of what was reaped, by pid
        self.agents_status: int | None = None  # once it has ended

    def run(self, agent_ended: int) -> None:
        """Until nothing is left to do; the agent's exit status goes to the descriptor `agent_ended`, at once."""
        wake, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self.facts, select.POLLIN)
        self.reap()
        while (status := self.agents_status) is None:
            self.wait(poll, wake)
        self.tell_source(status)
        while self.hear():
            pass
        with contextlib.suppress(KeyError):
            poll.unregister(self.facts)
        if not self.made.running:
            self.made.undo()
        elif status != 0:  # it may have died before it did
            self.made.open_network()
            self.made.announce_network()
        with contextlib.suppress(OSError):  # who was to hear it is dead
            os.write(agent_ended, bytes([status if status >= 0 else 128 - status]))
        os.close(agent_ended)
        if self.made.running and status != 0:
            self.let_go_of_terminal()
            self.see_through(poll, wake)

    def tell_source(self, status: int) -> None:
        """That the agent was killed, before anything is undone, which may take its time: the source task is frozen
        meanwhile. (sshd tells of no end of output while anybody has the error output open.)"""
        if status < 0:
            with contextlib.suppress(OSError):  # it is lost, or takes nothing: then the silence tells it
                os.set_blocking(self.source, False)
                os.write(self.source, as_bytes({"event": AGENT_ENDED, "how": describe_status(status)}))
        os.close(self.source)

    def wait(self, poll: select.poll, wake: int, seconds: float = LOOK_S) -> None:
        """For something to happen; see what it was."""
        for fd, _ in poll.poll(seconds * 1000):
            if fd == wake:
                os.read(wake, 4096)
            elif not self.hear():
                poll.unregister(fd)  # the agent is dead
        self.reap()

    def hear(self) -> bool:
        """Of what was made; False at the end."""
        piece = os.read(self.facts, 1 << 16)
        lines = (self.told + piece).split(b"\n")
        self.told = lines.pop()
        if lines:
            self.made = Made(**json.loads(lines[-1]))
            if self.made.migration:
                os.environ[VARIABLE] = self.made.migration  # of what is started here, and said
        return bool(piece)

    def reap(self) -> None:
        """All that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.ended[pid] = os.waitstatus_to_exitcode(status)
            if pid == self.agent and self.agents_status is None:
                self.agents_status = self.ended[pid]
            if len(self.ended) > MOST_ENDED:
                del self.ended[next(iter(self.ended))]
            with contextlib.suppress(OSError):
                os.write(self.reports, json.dumps({"pid": pid, "status": self.ended[pid]}).encode() + b"\n")

    @staticmethod
    def let_go_of_terminal() -> None:
        """The connection to the source ends without this process."""
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 2)
        os.close(nothing)

    def see_through(self, poll: select.poll, wake: int) -> None:
        """The agent is dead, and the restored task runs: have a daemon serve it until every page is there."""
        work = Path(self.made.directory) / "work"
        succession = Succession()
        daemon = self.made.daemon
        while daemon:
            status = self.status_of(daemon, poll, wake)
            delay = succession.delay(status, work) if self.made.successor else None
            if delay is None:
                self.settle(status, work)
                return
            until = time.monotonic() + delay
            while time.monotonic() < until:
                self.wait(poll, wake, max(0.0, until - time.monotonic()))
            daemon = self.start(self.made.successor or [])

    def status_of(self, daemon: int, poll: select.poll, wake: int) -> int:
        """The daemon's exit status, once it has ended."""
        while True:
            try:
                os.waitid(os.P_PID, daemon, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return self.ended.get(daemon, LOST_CHILD)
            self.wait(poll, wake)

    def start(self, command: list[str]) -> int:
        """A daemon; its pid, or 0 if it can't be started."""
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            ).pid  # fmt: skip
        except OSError:
            return 0

    def settle(self, status: int, work: Path) -> None:
        """The last daemon has ended."""
        if status == 0:
            self.made.remove_files()
            return
        self.made.leave_network()
        error = f"lazy-pages {describe_status(status)}: {cause_in_log(work / 'lazy-pages.log')}"
        self.made.write_outcome({"event": "daemon", "status": status, "error": error})
