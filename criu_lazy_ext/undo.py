"""What a migration has made on the destination, and how it is undone: by the agent, or by its keeper if that died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.processes import is_alive, start_time, tree

GONE_WITHIN_S = 10.0


class AgentError(CriuLazyError):
    """A request can't be carried out; the message goes to the source. `may_run`: yet the restored task may run."""

    may_run = False


def restored_by(restore: int) -> list[int]:
    """The tasks that a criu restore has restored: all below it, as this host names them; none if it has ended."""
    return [pid for pid in tree(restore).values() if pid != restore]


@dataclass
class Made:
    """What a migration has made on this host so far: enough to undo it."""

    directory: str = ""
    pids: list[int] = field(default_factory=list)  # which the restored tasks will have
    store: str = ""  # the directory of the pages that come before the dump
    page_store: int = 0  # its pid, which is its process group's too
    daemon: int = 0  # its pid, which is its process group's too
    restore: int = 0  # the same
    restore_began: int = 0  # in clock ticks since boot
    running: bool = False  # the restored task was let run
    touched: bool = False  # a hook ran here, or images came
    undo_hooks: list[dict[str, Any]] = field(default_factory=list)  # {"run", "env", "timeout"}

    def kill_restored(self) -> None:
        """Kill the restore and whatever it restored; wait until they are gone."""
        if not self.restore:
            return
        self.pids += restored_by(self.restore)
        kill_group(self.restore)
        pidfile = Path(self.directory) / "work" / "restored.pid"
        with contextlib.suppress(OSError, ValueError):
            self.pids = [*self.pids, int(pidfile.read_text())]
        for pid in self.pids:
            # Who was here before the restore is somebody else.
            if (start_time(pid) or -1) >= self.restore_began:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                wait_gone(pid)
        self.restore = 0

    def undo(self) -> None:
        """Kill everything, remove the files, run the hooks for it. Not for when the restored task runs."""
        self.kill_restored()
        if self.daemon:
            kill_group(self.daemon)
        if self.page_store:
            kill_group(self.page_store)
        for directory in filter(None, (self.store, self.directory)):
            shutil.rmtree(directory, ignore_errors=True)
        for hook in self.undo_hooks if self.touched else []:
            try:
                asyncio.run(run_hook(hook["run"], hook["env"], hook["timeout"]))
            except (CriuLazyError, OSError) as error:
                print(f"criu-lazy agent: warning: after_rollback: {error}", file=sys.stderr, flush=True)


def kill_group(group: int) -> None:
    """SIGKILL a process group, and wait for its leader to be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    wait_gone(group)


def wait_gone(pid: int) -> None:
    """Until it is no more, or a zombie. SIGKILL takes time when much memory is to be freed."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.005)


def describe_status(status: int) -> str:
    """An exit status as asyncio gives it, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


async def run_hook(command: str | list[str], environment: dict[str, str], timeout: float) -> None:
    """Run a hook here, by /bin/sh if it is a text. Raises AgentError with what it printed last."""
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        raise AgentError(f"hook {command!r} took longer than {timeout:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines()
        raise AgentError(f"hook {command!r} {describe_status(process.returncode)}: {lines[-1] if lines else ''}")
