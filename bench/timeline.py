"""The time line of a migration: its states, from its report, and each process that it starts on either host, as the
kernel tells of them (the proc connector): nothing is polled or traced, so nothing is slowed down."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from testbed import Host, TestbedError

# linux/netlink.h, linux/connector.h, linux/cn_proc.h
NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
MCAST_LISTEN = 1
NLMSG_DONE = 3
EXEC, EXIT = 0x2, 0x80000000
NLMSGHDR = struct.Struct("=IHHII")
CN_MSG = struct.Struct("=IIIIHH")
EVENT = struct.Struct("=IIQII")  # what, cpu, CLOCK_MONOTONIC ns, thread, process
EVENT_AT = NLMSGHDR.size + CN_MSG.size
BUFFER_BYTES = 4 << 20
ANSWER_SECONDS = 1.0
ASKING = "kill"  # how the benchmark asks the task for its state


@dataclass(frozen=True)
class Span:
    """Something that lasted; seconds since criu dump began. `end_s` None: it did not end before the migration did."""

    host: str
    name: str
    start_s: float
    end_s: float | None


@dataclass
class _Process:
    host: str
    name: str
    began_ns: int
    ended_ns: int | None = None


class ProcessEvents:
    """Notes what is executed on `hosts`, and when it ends, while the context lasts.

    Entering it raises TestbedError where the kernel doesn't tell; `spans` where it told too much at once.
    """

    def __init__(self, hosts: Sequence[Host], task_pid: int) -> None:
        """`task_pid`: the process, in the driver's pid namespace, that is migrated away from the first host."""
        self._hosts = {_pid_namespace(host.pid): host.name for host in hosts}
        task = _Process(hosts[0].name, "the task, frozen", 0)
        self._all = [task]
        self._running = {task_pid: task}
        self._lost = False

    def __enter__(self) -> ProcessEvents:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        try:
            self._socket.bind((0, CN_IDX_PROC))
            body = CN_MSG.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0) + struct.pack("=I", MCAST_LISTEN)
            self._socket.send(NLMSGHDR.pack(NLMSGHDR.size + len(body), NLMSG_DONE, 0, 0, 0) + body)
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.recv(4096)
        except OSError as error:
            self._socket.close()
            raise TestbedError(f"this kernel does not tell of processes (CONFIG_PROC_EVENTS): {error}") from error
        self._socket.settimeout(0.1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="timeline", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while True:
            try:
                message = self._socket.recv(4096)
            except TimeoutError:
                if self._stop.is_set():  # and all that came before has been read
                    return
                continue
            except OSError:  # ENOBUFS
                self._lost = True
                continue
            if len(message) >= EVENT_AT + EVENT.size:
                self._note(*EVENT.unpack_from(message, EVENT_AT))

    def _note(self, what: int, cpu: int, at_ns: int, thread: int, process: int) -> None:
        if what == EXIT and thread == process and process in self._running:
            self._running.pop(process).ended_ns = at_ns
        elif what == EXEC:
            with contextlib.suppress(OSError):  # it may be over already
                host = self._hosts.get(_pid_namespace(process))
                arguments = Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
                before = self._running.pop(process, None)
                if before is not None:  # a program that only starts another in its place
                    self._all.remove(before)
                if host is not None and arguments[0]:
                    self._running[process] = _Process(host, command_name(arguments), at_ns)
                    self._all.append(self._running[process])

    def spans(self) -> list[Span]:
        """Each process, in the order of their starts. After the context's end."""
        if self._lost:
            raise TestbedError("more processes began or ended on this machine than could be noted: no time line")
        # The preflight has others look at their options.
        dump = next((process for process in reversed(self._all) if process.name == "criu dump"), None)
        if dump is None:
            raise TestbedError("no criu dump was seen: no time line")
        spans = []
        for process in self._all:
            if process.name != ASKING:
                began = (process.began_ns - dump.began_ns) / 1e9 if process.began_ns else 0.0
                ended = None if process.ended_ns is None else (process.ended_ns - dump.began_ns) / 1e9
                spans.append(Span(process.host, process.name, began, ended))
        return sorted(spans, key=lambda span: span.start_s)


def _pid_namespace(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/pid").readlink()


def command_name(arguments: Sequence[str]) -> str:
    """What a command line is called in the time line: the program, and of criu's and ours the subcommand."""
    words = list(arguments)
    if len(words) > 2 and Path(words[0]).name.startswith("python"):
        words = words[2:] if words[1] == "-m" else words[1:]
    program = Path(words[0]).name
    program = {"criu_lazy_ext.cli": "criu-lazy"}.get(program, program)
    if program not in ("criu", "criu-lazy"):
        return program
    return " ".join([program, *words[1 : 3 if words[1:2] == ["standby"] else 2]])


def phases(report: dict[str, Any]) -> list[Span]:
    """The states of a committed migration, from its report."""
    entered: dict[str, float] = {"preflight": 0.0, **report["phases_s"]}
    # The report counts from migrate's own start.
    began = entered["running"] - report["downtime_s"]
    ends = [*list(entered.values())[1:], report["total_s"]]
    return [
        Span("", f"[{state}]", start - began, end - began)
        for (state, start), end in zip(entered.items(), ends, strict=True)
    ]


def as_text(spans: Sequence[Span]) -> str:
    """One line a span: from, to and length in milliseconds, host, name."""
    lines = [f"{'from ms':>10}  {'to ms':>10}  {'took':>10}  {'':4}"]
    for span in spans:
        to = took = "-"
        if span.end_s is not None:
            to, took = f"{span.end_s * 1e3:.1f}", f"{(span.end_s - span.start_s) * 1e3:.1f}"
        lines.append(f"{span.start_s * 1e3:10.1f}  {to:>10}  {took:>10}  {span.host:4} {span.name}")
    return "\n".join(line.rstrip() for line in lines)
