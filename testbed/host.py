"""One host of the testbed: running commands in it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
}

# posix_spawnp() returns in the midst of exec(), when the old memory has gone; the command line is set last.
# Python itself ignores signals that a task must not.
STARTER = """
import os, sys
log, *argv = sys.argv[1:]
files = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666),
    (os.POSIX_SPAWN_DUP2, 1, 2),
]
pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=files, setsid=True, setsigdef=range(1, 32))
ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
while not open(f"/proc/{pid}/cmdline").read() and os.waitid(os.P_PID, pid, ended) is None:
    pass
print(pid)
"""

Argument = str | os.PathLike[str]


class HostProcess(subprocess.Popen[Any]):
    """A command that runs in a host. `pid` is that of nsenter, which waits for it outside and ends as it ends."""

    def inner_pid(self) -> int | None:
        """The command's pid in the driver's pid namespace; None before it started and after it ended."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def send_signal(self, sig: int) -> None:
        """Signal the command itself (not nsenter)."""
        inner = None if self.poll() is not None else self.inner_pid()
        if inner is None:
            super().send_signal(sig)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(inner, sig)

    def kill_session(self) -> None:
        """SIGKILL the command and whatever it started in its session's process group."""
        inner = self.inner_pid()
        if inner is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(inner, signal.SIGKILL)
        self.kill()


class Host:
    """A running host: `name`, `pid` of its first process (in the driver's pid namespace), addresses, root."""

    def __init__(
        self, name: str, pid: int, address: str, service_address: str, criu: str, own_cgroups: bool = False
    ) -> None:
        self.name = name
        self.pid = pid
        self.address = address
        self.service_address = service_address
        self.criu = criu
        self.own_cgroups = own_cgroups

    def __repr__(self) -> str:
        return f"Host({self.name!r}, pid={self.pid})"

    @property
    def root(self) -> Path:
        """The host's root directory as the driver sees it; valid while the host runs. Absolute symlinks in it
        lead out of it."""
        return Path(f"/proc/{self.pid}/root")

    def command(self, argv: Sequence[Argument], new_session: bool = True) -> list[str]:
        """The driver's command line that runs `argv` as root in all of the host's namespaces."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        # A session of its own: without it the process has session and group 0 inside, which CRIU refuses.
        session = ["setsid"] if new_session else []
        # A host knows nothing of the signals that the driver ignores, as a shell's background job does SIGINT.
        signals = ["env", "--default-signal"]
        if self.own_cgroups:
            enter.append("--cgroup")
            session = [*session, "sh", "-c", 'echo 0 >/sys/fs/cgroup/cgroup.procs && exec "$@"', "sh"]
        return [*enter, "--", *signals, *session, *(os.fspath(argument) for argument in argv)]

    def popen(self, argv: Sequence[Argument], env: Mapping[str, str] | None = None, **options: Any) -> HostProcess:
        """Start `argv` in the host. `env` is added to a clean environment; other options as subprocess.Popen's,
        but stdin is /dev/null by default.

        A descriptor opened by the driver is foreign to the host: to start what CRIU shall dump, use `start`.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        return HostProcess(self.command(argv), env={**ENVIRONMENT, **(env or {})}, **options)

    def run(
        self,
        argv: Sequence[Argument],
        check: bool = True,
        input: str | None = None,
        timeout: float | None = 300,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` in the host to its end and return its status, stdout and stderr (text).

        Raises TestbedError if `check` and the status isn't 0, and, after killing the command, if it takes longer
        than `timeout` seconds (None: no limit).
        """
        shown = " ".join(os.fspath(argument) for argument in argv)
        pipe = subprocess.PIPE
        stdin = subprocess.DEVNULL if input is None else pipe
        with self.popen(argv, env, stdin=stdin, stdout=pipe, stderr=pipe, text=True, errors="replace") as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except subprocess.TimeoutExpired:
                process.kill_session()
                raise TestbedError(f"host {self.name}: `{shown}` took longer than {timeout:g} s") from None
            except BaseException:
                process.kill_session()
                raise
        if check and process.returncode != 0:
            said = (stderr.strip() or stdout.strip())[-4000:]
            raise TestbedError(f"host {self.name}: `{shown}` failed with status {process.returncode}: {said}")
        return subprocess.CompletedProcess(list(argv), process.returncode, stdout, stderr)

    def start(self, argv: Sequence[Argument], log: str = "/dev/null", env: Mapping[str, str] | None = None) -> int:
        """Start a task that CRIU can dump: a session of its own, child of the host's first process, its output
        in `log` (a path in the host), no other descriptor. It runs, and nothing of what started it is left in it,
        when its pid in the host is returned. Raises TestbedError if there is no such program."""
        return int(self.run(["python3", "-ISc", STARTER, log, *argv], env=env).stdout)

    def outer_pid(self, pid: int) -> int:
        """The pid, in the driver's pid namespace, of the process that has `pid` in the host."""
        namespace = Path(f"/proc/{self.pid}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if (entry / "ns/pid").readlink() != namespace:
                    continue
                status = (entry / "status").read_text()
            except OSError:
                continue
            inner = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
            if int(inner) == pid:
                return int(entry.name)
        raise TestbedError(f"host {self.name} has no process {pid}")

    def write(self, path: str, contents: str | bytes, mode: int = 0o644) -> None:
        """Write a file in the host (its directory is made); `path` is absolute, as in the host."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        command = self.command(["sh", "-c", script, "sh", path, f"{mode:o}"])
        given = contents if isinstance(contents, bytes) else contents.encode()
        done = subprocess.run(command, input=given, env=ENVIRONMENT, capture_output=True, check=False)
        if done.returncode != 0:
            raise TestbedError(f"host {self.name}: can't write {path}: {done.stderr.decode(errors='replace').strip()}")

    def read(self, path: str) -> str:
        """A file of the host as text; `path` is absolute, as in the host."""
        return self.run(["cat", path]).stdout
