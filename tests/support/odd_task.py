"""A task with one thing about it that may keep it from moving: odd_task.py KIND [ARGUMENT]. Its pid is in /run/odd.pid.

On SIGUSR1 it does what KIND is about once more (writes to its pipe, its socket, ...) and appends a line to
/run/odd.result: "right", or what went wrong.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

KEPT: list[object] = []  # what must stay open
Use = Callable[[], object]


def nothing() -> None:
    """For what is only there."""


def deleted(argument: str) -> Use:
    """A file of so many KiB, deleted, and open."""
    path = Path("/srv/odd.deleted")
    file = path.open("w+b")
    file.write(os.urandom(int(argument) << 10))
    file.flush()
    path.unlink()
    KEPT.append(file)
    return nothing


def renamed_over(_: str) -> Use:
    """The name is gone, another one is left."""
    path = Path("/srv/odd.linked")
    file = path.open("w+b")
    Path("/srv/odd.other").unlink(missing_ok=True)
    os.link(path, "/srv/odd.other")
    path.unlink()
    KEPT.append(file)
    return nothing


def lock(_: str) -> Use:
    file = os.open("/srv/odd.lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(file, fcntl.LOCK_EX)
    return nothing


def opened(argument: str) -> Use:
    """A file that is there."""
    os.open(argument, os.O_RDWR)
    return nothing


def mapped(argument: str) -> Use:
    """A file, mapped shared and written."""
    with Path(argument).open("w+b") as file:
        file.truncate(1 << 20)
        memory = mmap.mmap(file.fileno(), 1 << 20)
    memory[:8] = b"contents"
    KEPT.append(memory)
    return lambda: memory[:8] == b"contents" or sys.exit(1)


def copied(argument: str) -> Use:
    """A file, mapped privately and written."""
    with Path(argument).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
    memory[:] = content = os.urandom(len(memory))
    KEPT.append(memory)
    return lambda: memory[:] == content or sys.exit(1)


def memfd(argument: str) -> Use:
    """Of so many MiB, written."""
    size = int(argument) << 20
    fd = os.memfd_create("odd")
    os.ftruncate(fd, size)
    memory = mmap.mmap(fd, size)
    memory[:] = os.urandom(size)
    KEPT.append(memory)
    return lambda: memory[:1] == memory[:1]


def locked(argument: str) -> Use:
    """So many MiB of private memory, by mlock()."""
    size = int(argument) << 20
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = content = os.urandom(size)
    if ctypes.CDLL(None, use_errno=True).mlock(ctypes.byref(ctypes.c_char.from_buffer(memory)), ctypes.c_size_t(size)):
        raise OSError(ctypes.get_errno(), "mlock")
    KEPT.append(memory)
    return lambda: memory[:] == content or sys.exit(1)


def huge(argument: str) -> Use:
    """So many huge pages of 2 MiB."""
    memory = mmap.mmap(-1, int(argument) << 21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
    for page in range(int(argument)):
        memory[page << 21] = 1
    KEPT.append(memory)
    return nothing


def stream(argument: str) -> Use:
    """A connection to a unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(argument)
    KEPT.append(sock)
    return lambda: sock.send(b"x")


def datagram(argument: str) -> Use:
    """As syslog() does it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.connect(argument)
    KEPT.append(sock)
    return lambda: sock.send(b"<14>odd: moved")


def listener(argument: str) -> Use:
    """On ADDRESS:PORT."""
    host, _, port = argument.rpartition(":")
    KEPT.append(socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET))
    return nothing


def unix_listener(argument: str) -> Use:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(argument)
    sock.listen()
    KEPT.append(sock)
    return nothing


def connection(argument: str) -> Use:
    """To ADDRESS:PORT."""
    host, _, port = argument.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    KEPT.append(sock)
    return lambda: sock.send(b"x")


def mptcp(_: str) -> Use:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    sock.bind(("0.0.0.0", 7262))
    sock.listen()
    KEPT.append(sock)
    return nothing


def watch(argument: str) -> Use:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC)
    if libc.inotify_add_watch(fd, argument.encode(), 0x100) < 0:
        raise OSError(ctypes.get_errno(), "inotify_add_watch")
    return nothing


def io_uring(_: str) -> Use:
    if ctypes.CDLL(None, use_errno=True).syscall(425, 8, bytes(120)) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    return nothing


def device(argument: str) -> Use:
    os.open(argument, os.O_RDWR)
    return nothing


def system_v(_: str) -> Use:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(0, 1 << 16, 0o1600)
    libc.shmat(segment, None, 0)
    libc.shmctl(segment, 0, None)  # it goes when it is detached
    return nothing


def semaphore(_: str) -> Use:
    """Of 100, of which each use takes one."""
    libc = ctypes.CDLL(None, use_errno=True)
    semaphores = libc.semget(0, 1, 0o1600)

    def operate(by: int) -> None:
        if libc.semop(semaphores, struct.pack("HhH", 0, by, 0), 1) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    operate(100)
    return lambda: operate(-1)


def queue(_: str) -> Use:
    libc = ctypes.CDLL(None, use_errno=True)
    messages = libc.msgget(0, 0o1600)
    message = struct.pack("l", 1) + b"message"
    if libc.msgsnd(messages, message, 7, 0) != 0:
        raise OSError(ctypes.get_errno(), "msgsnd")
    return nothing


def fifo(argument: str) -> Use:
    """Written to, as a service that logs does."""
    end = os.open(argument, os.O_WRONLY)
    return lambda: os.write(end, b"x")


def pidfd(argument: str) -> Use:
    KEPT.append(os.pidfd_open(int(argument)))
    return nothing


def scheduled(argument: str) -> Use:
    """Bound to the last of its CPUs and with an I/O priority; or of SCHED_DEADLINE."""
    libc = ctypes.CDLL(None, use_errno=True)
    if argument == "deadline":
        attributes = struct.pack("IIQiIQQQ", 48, 6, 0, 0, 0, 10**6, 10**8, 10**8)
        if libc.syscall(314, 0, attributes, 0) != 0:
            raise OSError(ctypes.get_errno(), "sched_setattr")
        return nothing
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    libc.syscall(251, 1, 0, 3 << 13)
    return nothing


def nested(argument: str) -> Use:
    """A child with a namespace of its own, by the flag of unshare()."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        ctypes.CDLL(None).unshare(int(argument, 16))
        os.close(writer)
        time.sleep(1000)
    os.close(writer)
    os.read(reader, 1)
    return nothing


def thread(argument: str) -> Use:
    """A second one that has by unshare() what the flag says."""
    began = threading.Event()

    def run() -> None:
        ctypes.CDLL(None).unshare(int(argument, 16))
        began.set()
        time.sleep(1000)

    threading.Thread(target=run, daemon=True).start()
    began.wait()
    return nothing


def clocks(_: str) -> Use:
    """The monotonic ones go on from where they were."""
    began = [time.clock_gettime(clock) for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME)]

    def use() -> None:
        now = [time.clock_gettime(clock) for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME)]
        monotonic, boot, real = (after - before for after, before in zip(now, began, strict=True))
        if not (0 < monotonic < real + 1 and 0 < boot < real + 1 and real - monotonic < 60):
            raise ValueError(f"{monotonic:.1f} s and {boot:.1f} s have passed, and in truth {real:.1f} s")

    return use


def zombie(_: str) -> Use:
    """Whose session leader has ended, too, and is reaped."""
    reader, writer = os.pipe()
    ctypes.CDLL(None).prctl(36, 1)  # orphans become this one's, the first as well, however soon it is one
    leader = os.fork()
    if leader == 0:
        os.setsid()
        ctypes.CDLL(None).prctl(36, 0)
        child = os.fork()
        os.write(writer, str(child).encode() if child else b"")
        os._exit(0)
    os.waitpid(leader, 0)
    child = int(os.read(reader, 16))
    os.close(reader)
    os.close(writer)
    while Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] != "Z":  # it has yet to end
        time.sleep(0.01)
    return nothing


def shared_code(_: str) -> Use:
    """As a just-in-time compiler may have it: executable, shared, read-only, and before all other code."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    if libc.mmap(ctypes.c_void_p(1 << 20), ctypes.c_size_t(4096), 5, 0x31, -1, ctypes.c_long(0)) != 1 << 20:
        raise OSError(ctypes.get_errno(), "mmap")
    return nothing


def dead_leader(_: str) -> Use:
    """Its first thread ends alone."""
    threading.Thread(target=time.sleep, args=(1000,)).start()
    Path("/run/odd.pid.new").rename("/run/odd.pid")
    ctypes.CDLL(None).syscall(60, 0)
    return nothing


def churn(argument: str) -> Use:
    """Children that come and go, so many a second."""
    pause = 1 / float(argument)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if os.fork() == 0:
            time.sleep(pause)
            os._exit(0)
        time.sleep(pause)


def reaping(_: str) -> Use:
    """There is always a child that has ended, and each for a moment only."""

    def reap() -> None:
        while True:
            child = os.fork()
            if child == 0:
                os._exit(0)
            time.sleep(0.03)
            os.waitpid(child, 0)

    threading.Thread(target=reap, daemon=True).start()
    return nothing


def output(_: str) -> Use:
    """What stdout is, is what the kind is about."""
    return lambda: os.write(1, b"still here\n")


KINDS: dict[str, Callable[[str], Use]] = {
    item.__name__: item
    for item in (
        *(deleted, renamed_over, lock, opened, mapped, stream, datagram, listener, unix_listener, connection, mptcp),
        *(watch, io_uring, device, system_v, zombie, dead_leader, shared_code, memfd, locked, huge, copied, output),
        *(reaping, semaphore, queue, fifo, pidfd, scheduled, nested, thread, clocks),
    )
}


def main() -> None:
    kind, argument = sys.argv[1], (sys.argv[2:] or [""])[0]
    asked: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: asked.append(number))
    Path("/run/odd.pid.new").write_text(f"{os.getpid()}\n")
    if kind == "churn":
        Path("/run/odd.pid.new").rename("/run/odd.pid")
        churn(argument)
    use = KINDS[kind](argument)
    Path("/run/odd.pid.new").rename("/run/odd.pid")
    while True:
        time.sleep(0.02)
        if asked:
            asked.clear()
            try:
                use()
                said = "right"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            with Path("/run/odd.result").open("a") as file:
                file.write(said + "\n")


if __name__ == "__main__":
    main()
