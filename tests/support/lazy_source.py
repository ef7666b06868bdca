"""A real task with a known memory, lazily dumped by a stock criu, behind `criu-lazy page-server`."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vm import TRACKED

PAGE_BYTES = 4096
CLONE_NEWNET = 0x40000000
# A longer wait than any slow machine needs: what comes not even then hangs.
PATIENCE_SECONDS = 60
EMULATED = 5  # times as long takes a program's start in vm.py's machine, while others use this one's processors
TASK_C = Path(__file__).with_name("patterned_task.c")
GET, CLOSE, ADD_F = 7, 0x1023, 0x00040006
_names = itertools.count()


class StockDumpHung(Exception):
    """criu dump itself stopped in mid-answer: it tells nothing of what stands before it. Try again, with another."""


def page(index: int) -> bytes:
    """What the task keeps in page `index` of its memory."""
    word = (index + 1) * 0x9E3779B97F4A7C15 % 2**64
    return struct.pack("<Q", word) * 511 + struct.pack("<Q", word ^ (2**64 - 1))


def eventually(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The condition's first true value; fails the test if there is none for `seconds`."""
    end = time.monotonic() + seconds * (EMULATED if TRACKED else 1)
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


def connect_inside(host: Any, port: int, address: str = "127.0.0.1") -> socket.socket:
    """A TCP connection to address:port from the host's network namespace."""
    result: list[socket.socket | OSError] = []

    def inside() -> None:
        with Path(f"/proc/{host.pid}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                result.append(OSError(ctypes.get_errno(), "setns"))
                return
        try:
            result.append(socket.create_connection((address, port), timeout=PATIENCE_SECONDS))
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


class Client:
    """Speaks the page-server protocol as a lazy-pages daemon does."""

    def __init__(
        self, host: Any, port: int, version: int, task: int, explain_silence: Callable[[], Exception]
    ) -> None:
        self.socket = connect_inside(host, port)
        self.explain_silence = explain_silence
        self.version, self.task = version, task

    def header(self, cmd: int, nr_pages: int = 0, vaddr: int = 0, task: int | None = None) -> bytes:
        task = self.task if task is None else task
        if self.version == 1:
            return struct.pack("<IIQQ", cmd, nr_pages, vaddr, task)
        return struct.pack("<IIQQQ", cmd, 0, nr_pages, vaddr, task)

    def receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self.socket.recv(min(size - len(data), 1 << 20))
            except TimeoutError as error:
                raise self.explain_silence() from error
            if not piece:
                raise EOFError(f"connection ended after {len(data)} of {size} bytes")
            data += piece
        return bytes(data)

    def get(self, vaddr: int, nr_pages: int = 1, task: int | None = None) -> None:
        self.socket.sendall(self.header(GET, nr_pages, vaddr, task))

    def answer(self) -> tuple[int, bytes]:
        """The next answer: address and pages."""
        raw = self.receive(24 if self.version == 1 else 32)
        if self.version == 1:
            cmd, nr_pages, vaddr, task = struct.unpack("<IIQQ", raw)
        else:
            cmd, _, nr_pages, vaddr, task = struct.unpack("<IIQQQ", raw)
        assert (cmd, task) == (ADD_F, self.task)
        return vaddr, self.receive(nr_pages * PAGE_BYTES)

    def close_properly(self) -> None:
        """Say CLOSE; returns when it was answered with success."""
        self.socket.sendall(self.header(CLOSE))
        assert self.receive(4) == bytes(4)
        self.socket.close()


class LazySource:
    """The task, its dump and the page server in front of it, on a testbed host."""

    def __init__(
        self, host: Any, version: int, megabytes: int = 16, *task_options: str, dump: bool = True
    ) -> None:
        self.host, self.version = host, version
        self.nr_pages = megabytes * 256
        self.directory = f"/tmp/page-server-{os.getpid()}-{next(_names)}"
        self.root = Path(host.root) / self.directory.lstrip("/")
        (self.root / "images").mkdir(parents=True)
        (self.root / "task.c").write_text(TASK_C.read_text())
        self.processes: list[subprocess.Popen[str]] = []
        host.run(["cc", "-O1", "-o", f"{self.directory}/task", f"{self.directory}/task.c"])
        run = 'cd "$1" && shift && exec ./task "$@"'
        self.task = host.start(["sh", "-c", run, "sh", self.directory, str(megabytes), *task_options])
        info = eventually(lambda: self._text("info"), "the task has started")
        self.start = int(info, 16)
        if dump:
            self._start_dump()

    def _start_dump(self) -> None:
        self.dump_port = 27000 + next(_names)
        self.dump = self._popen(
            "criu", "dump", "-t", str(self.task), "-D", f"{self.directory}/images", "-o", "dump.log", "-v4",
            "--lazy-pages", "--address", "127.0.0.1", "--port", str(self.dump_port),
        )  # fmt: skip
        self.control = f"{self.directory}/control"
        eventually(self._dump_listens, "the dump listens")

    def _dump_listens(self) -> bool:
        assert self.dump.poll() is None, self._text("images/dump.log")
        return f":{self.dump_port:04X} 00000000:0000 0A" in self.host.run(["cat", "/proc/net/tcp"]).stdout

    def _text(self, name: str) -> str:
        path = self.root / name
        text = path.read_text() if path.exists() else ""
        return text if text.endswith("\n") else ""

    def _popen(self, *argv: str) -> subprocess.Popen[str]:
        process = self.host.popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def serve(self, *options: str, wire_version: int | None = None) -> subprocess.Popen[str]:
        """Start the page server (with --hold) and wait until it serves; see `port`."""
        version = self.version if wire_version is None else wire_version
        return self._start(
            "--upstream", f"127.0.0.1:{self.dump_port}", "--hold", "--wire-version", str(version), *options
        )

    def resume(self) -> None:
        """Wait for the page server that the guardian starts to take over from a dead one."""
        eventually(lambda: len(self.pids("page-server")) == 2 and self.op("state", check=False), "it goes on")

    def _start(self, *options: str) -> subprocess.Popen[str]:
        command = ["criu-lazy", "page-server", "--address", "127.0.0.1", "--control", self.control]
        server = self._popen(*command, "-v4", "-o", f"{self.directory}/page-server.log", *options)

        def state() -> dict[str, Any] | None:
            if server.poll() is not None:
                assert server.stderr
                raise AssertionError(f"page server ended: {server.stderr.read()}")
            return self.op("state", check=False)

        self.port: int = eventually(state, "the page server serves")["port"]
        return server

    def op(self, op: str, *options: str, check: bool = True) -> dict[str, Any]:
        """Ask the page server through its control socket; {} if it refuses and not `check`."""
        done = self.host.run(["criu-lazy", "page-server", "--control", self.control, "--op", op, *options], check=False)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        assert not check, done.stderr
        self.refusal = done.stderr
        return {}

    def client(self) -> Client:
        return Client(self.host, self.port, self.version, self.task, self.explain_silence)

    def read(self, client: Client, request_pages: int = 64, depth: int = 16) -> None:
        """Read the task's whole memory, `depth` requests ahead, and check every page."""
        wanted = [(at, min(request_pages, self.nr_pages - at)) for at in range(0, self.nr_pages, request_pages)]
        sent = 0
        seen = 0
        while seen < len(wanted) or sent < len(wanted):
            while sent < len(wanted) and sent - seen < depth:
                at, count = wanted[sent]
                client.get(self.start + at * PAGE_BYTES, count)
                sent += 1
            vaddr, data = client.answer()
            at, count = wanted[seen]
            seen += 1
            assert vaddr == self.start + at * PAGE_BYTES
            got = len(data) // PAGE_BYTES
            assert data == b"".join(page(at + i) for i in range(got))
            if got < count:  # the range crosses an entry of the dump's page map: ask for the rest
                wanted.append((at + got, count - got))

    def explain_silence(self) -> Exception:
        """Why no answer comes: with the page server's state, all TCP queues, where criu dump is, both logs."""
        queues = self.host.run(["ss", "-tnH", "sport", "=", f":{self.dump_port}"], check=False).stdout.splitlines()
        sockets = self.host.run(["ss", "-tinme"], check=False).stdout
        places = ("wchan", "syscall", "stack", "stat")
        files = [Path(f"/proc/{pid}/{name}") for pid in self.pids("dump") for name in places]
        kernel = "\n".join(f"{file}: {file.read_text()}" for file in files if file.exists())
        logs = "\n".join((self.root / name).read_text()[-2000:] for name in ("page-server.log", "images/dump.log"))
        text = f"no answer in {PATIENCE_SECONDS} s\n{self.op('state', check=False)}\n{sockets}\n{kernel}\n{logs}"
        left_unread = any(int(line.split()[1]) > 0 for line in queues)
        return StockDumpHung(text) if left_unread else AssertionError(text)

    def task_is_alive(self) -> bool:
        """The task runs (not just exists): it has checked its own memory on request and found it right."""
        answer = self.root / "answer"
        answer.unlink(missing_ok=True)
        (self.root / "ask").touch()
        try:
            return bool(eventually(lambda: self._text("answer"), "", seconds=10) == "right\n")
        except AssertionError:
            return False
        finally:
            (self.root / "ask").unlink(missing_ok=True)

    def task_state(self) -> str:
        """The letter of /proc/PID/status: R, S, t (frozen)...; "" if the task is gone."""
        done = self.host.run(["cat", f"/proc/{self.task}/stat"], check=False)
        state = "" if done.returncode else done.stdout.rsplit(")", 1)[1].split()[0]
        return "" if state == "Z" else state

    def pids(self, word: str, comm: str = "") -> list[int]:
        """Our processes with `word` in their command line (and this name), as the driver sees them."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                argv = (entry / "cmdline").read_bytes().decode().split("\0")
                name = (entry / "comm").read_text().strip()
            except (OSError, NotADirectoryError):
                continue
            ours = word in argv and any(self.directory in part for part in argv)
            if ours and name != "nsenter" and (not comm or name == comm):
                found.append(int(entry.name))
        return found

    def kill_dump(self) -> None:
        """All of its processes; some may end with the first."""
        for pid in self.pids("dump"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def guardian(self) -> int:
        """The guardian's pid."""
        (pid,) = self.pids("page-server", "criu-lazy-guard")
        return pid

    def page_server(self) -> int:
        """The page server's own pid."""
        (pid,) = set(self.pids("page-server")) - {self.guardian()}
        return pid

    def close(self) -> None:
        """End what is left. A guardian sees its dump end, and ends too."""
        self.host.run(["kill", "-9", str(self.task)], check=False)
        for pid in self.pids("page-server") + self.pids("dump"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.communicate(timeout=30)
