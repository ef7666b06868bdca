"""`criu-lazy page-server`: stands between a lazy dump and the network, and never loses a task.

A stock `criu dump --lazy-pages` serves one connection, and takes its end for success: it kills the source task.
This process holds that connection, lets clients come and go, and alone decides what the dump hears. See
docs/page-server.md.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from criu_lazy_ext.commands.arguments import open_log, read_key, verbosity
from criu_lazy_ext.criu.images import Images, load_source_messages
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.native.dump_proxy import ROLL_BACK, Network, Relay, RelayOptions
from criu_lazy_ext.sizes import rate_argument
from criu_lazy_ext.source import control as relay_control
from criu_lazy_ext.source import frozen
from criu_lazy_ext.source.control import ControlServer, Reply, Request, refusal
from criu_lazy_ext.source.fence import FenceError
from criu_lazy_ext.source.frozen import Frozen, FrozenError
from criu_lazy_ext.source.precopy import Precopy
from criu_lazy_ext.system.network_lock import NetworkLock

EXIT_COMMITTED = 0
EXIT_FAILED = 1
EXIT_ROLLED_BACK = 3

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TAKEOVER_TIMEOUT_SECONDS = 10
RETRY_SECONDS = 0.0005
ALONE_LOOK_SECONDS = 0.5
ACCEPTED_WITHIN_SECONDS = 2.0
DEFAULT_CA_CERT = Path("/etc/pki/CA/cacert.pem")  # criu's


class PageServerError(CriuLazyError):
    """The page server could not start, or the dump behind it was lost."""


def say(text: str) -> None:
    """A line on standard error; should that be on a disk that is full, nobody hears it."""
    with contextlib.suppress(OSError):
        os.write(2, f"criu-lazy page-server: {text}\n".encode())


class PageServer:
    """Serves the control socket and the signals while the relay runs."""

    def __init__(
        self,
        relay: Relay,
        port: int,
        selector: selectors.BaseSelector,
        control: ControlServer | None,
        wakeup: socket.socket,
        lifeline: int | None,
        source: Frozen,
        control_path: Path | None,
        find_lock: Callable[[], NetworkLock] | None,
        holds: bool,
    ) -> None:
        """`control`: on this selector; from now on it is this server's. `source`: the task's processes.

        `find_lock`: of the task's connections. `holds`: nothing but a commit here has the source task killed.
        """
        self._relay = relay
        self._source = source
        self._control_path = control_path
        self._find_lock = find_lock
        self._lock: NetworkLock | None = None
        self._holds = holds
        self._commits = False
        self._alone = False  # the dump is dead
        self._warnings: list[str] = []
        if relay.is_running():
            self._save()
        elif control_path:
            source.save(control_path)
        self._port = port
        self._waiting: list[tuple[str, Reply]] = []
        self._over = False
        self._wakeup = wakeup
        self._selector = selector
        self._control = control
        if control:
            control.handle = self.handle
        self._selector.register(relay.ended_fd, selectors.EVENT_READ, self._ended)
        self._selector.register(wakeup, selectors.EVENT_READ, self._signalled)
        if lifeline is not None:
            self._selector.register(lifeline, selectors.EVENT_READ, lambda: self._lifeline_moved(lifeline))

    def run(self, awaited: Iterable[tuple[Request, Reply]] = (), gives_up: bool = False) -> dict[str, Any]:
        """Until the relay has ended; returns its last state. `awaited`: requests that came too early.

        `gives_up`: roll back.
        """
        if self._relay.is_running() and not self._source.fenced:  # the page server before this one was told so
            answer = self._set_running()
            if not answer["ok"]:
                say(answer["error"])
        self._relay.start()
        for request, reply in awaited:
            self.handle(request, reply)
        self._serve_once(timeout=0)  # who waits for the dump is answered first
        self._wake()
        if gives_up:
            self._abort(force=False)
        while not self._over:
            self._serve_once(ALONE_LOOK_SECONDS if self._alone else None)
            if self._alone and self._can_be_lost():
                self._relay.lose_source()
        state = self._relay.state()
        if lock := self._network_lock():
            if state["state"] == "committed":
                self._warn(lock.remove())
            elif not state["task_running"]:  # also if the dump died
                self._warn(lock.lift())
            lock.close()
        alive = not self._source.is_over()
        for op, reply in self._waiting:
            wanted = {"commit": "committed", "abort": "aborted"}[op]
            if state["state"] == wanted:
                told = {"warnings": self._warnings, "source_alive": alive}
                reply({"ok": True, **state, "port": self._port, **told})
            else:
                reply({"ok": False, "error": self._relay.error() or f"the dump was {state['state']} already"})
        if self._control:
            self._control.close()
        self._selector.close()
        return state

    def _serve_once(self, timeout: float | None = None) -> None:
        for key, _ in self._selector.select(timeout):
            key.data()

    def _ended(self) -> None:
        """The relay has: it is over, or the dump is dead and its work is to be done here."""
        end = self._relay.take_end()
        if end == -errno.EOWNERDEAD:
            self._alone = True
            self._relay.run_alone(self._relay.is_running() and self._source.await_stop())
            return
        if self._alone and end == 0:
            self._relay.end_alone("committed" if self._source.kill() else "failed")
        elif self._alone and end == -errno.ECANCELED:
            self._relay.end_alone("aborted")  # the fence is lifted: see _abort
        self._over = True

    def _can_be_lost(self) -> bool:
        """Without a dump: whether somebody has killed what is still to be read, or all that there is."""
        return bool(self._source.killed()) and (self._source.is_over() or not self._relay.is_drained())

    def _signalled(self) -> None:
        numbers = self._wakeup.recv(64)
        if not set(numbers) & set(STOP_SIGNALS) or self._abort(force=False):
            return
        say(
            "not stopped: the restored task runs and needs this end; to give it up and let the source task run on: "
            "--op abort --force"
        )

    def _lifeline_moved(self, lifeline: int) -> None:
        if os.read(lifeline, 4096):
            return
        self._selector.unregister(lifeline)
        self._abort(force=False)  # without effect once the restored task runs

    def _network_lock(self) -> NetworkLock | None:
        """That of the task's connections, looked for when it is needed first."""
        if self._find_lock and not self._lock:
            self._lock = self._find_lock()
        return self._lock

    def _wake(self) -> None:
        """From now on only the packet filter locks the task's connections, whoever dies."""
        if self._holds and (lock := self._network_lock()):
            self._warn(lock.wake())

    def _warn(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self._warnings:
                self._warnings.append(problem)
                say(f"warning: {problem}")

    def _abort(self, force: bool) -> bool:
        """Roll back, unless a commit is under way, or the restored task runs and nobody forces it: then False.

        The source's connections go on before the task does.
        """
        if self._commits:
            return False
        if self._relay.state()["task_running"]:
            if not force:
                return False
            self._source.lift()
        if lock := self._network_lock():
            self._warn(lock.lift())
        return self._relay.abort(force)

    def _commit(self, force: bool) -> bool:
        """End the dump with success, if every page has arrived. The source's connections end without a word."""
        if lock := self._network_lock():
            self._warn(lock.hush())
        if self._relay.commit(force):
            self._commits = True
            return True
        self._wake()
        return False

    def _save(self) -> None:
        """A disk that is full ends nobody: what was saved first is enough to go on."""
        if self._control_path:
            try:
                self._source.save(self._control_path)
            except FrozenError as error:
                self._warn([str(error)])

    def _set_running(self) -> relay_control.Answer:
        """From now on no death lets the source task run on by itself: see fence.py."""
        was_running = self._relay.state()["task_running"]
        self._relay.set_running()
        try:
            fenced = self._source.fence()
        except FenceError as error:
            self._relay.set_running(was_running)
            return refusal(str(error))
        self._source.protect()
        self._save()
        return {**self._state(), "fenced": bool(self._source.began), "fenced_pids": fenced}

    def _state(self) -> relay_control.Answer:
        killed = self._source.killed()
        tasks = {"alive": [pid for pid in self._source.began if pid not in killed], "killed": killed}
        return {"ok": True, **self._relay.state(), "port": self._port, "source_tasks": tasks}

    def handle(self, request: Request, reply: Reply) -> None:
        """Do what somebody asks for at the control socket."""
        op, force = request.op, request.force
        if op in ("round", "cut", "precopied"):
            reply(refusal("there is no pre-copy any more: the dump is ready"))
            return
        if op == "rate":
            self._relay.set_rate(request.rate)
            self._source.rate = request.rate
            self._save()
        elif op == "running":
            reply(self._set_running())
            return
        elif op == "drop":
            self._relay.drop_client()
        elif op == "commit":
            if self._commit(force):
                self._waiting.append((op, reply))
            else:
                state = self._relay.state()["state"]
                reply(refusal(f"the client has not said that it has every page (state: {state})"))
            return
        elif op == "abort":
            if self._abort(force):
                self._waiting.append((op, reply))
            elif self._commits:
                reply(refusal(relay_control.COMMIT_UNDER_WAY))
            else:
                reply(refusal('the restored task runs; {"force": true} gives it up'))
            return
        reply(self._state())


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy page-server",
        description="Stand between a stock `criu dump --lazy-pages` and the network; never lose its task.",
        epilog="Exit status: 0 committed (the source task is gone), 3 rolled back (it runs on), 1 failed.",
    )
    add = parser.add_argument
    add("--upstream", metavar="HOST:PORT", type=_host_port, help="where the lazy dump listens")
    add("--upstream-fd", metavar="FD", type=int, help="instead: a connected TCP socket whose other end the dump has "
        "(its --ps-socket): nobody else can take the dump's only connection")  # fmt: skip
    add("--address", default="127.0.0.1", help="listen for clients here (default: %(default)s)")
    add("--plain", action="store_true", help="clients may be at other hosts, though nothing is encrypted and nobody "
        "has to show who it is")  # fmt: skip
    add("--port", type=int, default=0, help="on this port (default: any free one; --op state tells)")
    add("--control", metavar="PATH", type=Path, help="control socket (mode 0600)")
    add("--hold", action="store_true", help="a client's CLOSE does not reach the dump: `commit` ends it")
    add("--task", metavar="PID", type=int, action="append", default=[], help="only this task (repeatable)")
    add("--wire-version", type=int, choices=(0, 1, 2), default=0,
        help="1: CRIU up to 4.1, 2: from 4.2; default: as the client's first request tells")  # fmt: skip
    add("--max-request-pages", metavar="N", type=int, default=65536, help="largest request (%(default)s)")
    add("--connect-timeout", metavar="SECONDS", type=float, default=10.0, help="for the dump (%(default)s)")
    add("--dump-status-fd", metavar="FD", type=int,
        help="the dump's --status-fd, as a pipe: wait for its byte before connecting, as long as it takes")  # fmt: skip
    add("--images", metavar="DIR", type=Path, help="only the tasks in these images, read when the dump is ready")
    add("--tree", metavar="PID", type=int,
        help="the dump's -t: push the frozen tasks' memory to clients that ask for that; needs --images")  # fmt: skip
    add("--fence", metavar="PID", type=int,
        help="the dump's -t: from --op running on keep its frozen tasks from running on by themselves, whatever "
        "dies (default: --tree's)")  # fmt: skip
    add("--precopy", action="store_true",
        help="before the dump, bring the running tasks' memory to a store, in rounds (--op round, ...)")  # fmt: skip
    add("--rate", metavar="BYTES", type=rate_argument, default=0,
        help="push at most so many bytes per second; K, M, G may follow (default: no limit)")  # fmt: skip
    add("--precopy-rate", metavar="BYTES", type=rate_argument,
        help="the same for the rounds of --precopy (default: --rate's)")  # fmt: skip
    add("--tls", action="store_true", help="clients speak TLS and show a certificate, as with criu's page server")
    for name in ("cacert", "cacrl", "cert", "key"):
        add(f"--tls-{name}", metavar="FILE", help="as criu's; default: criu's")
    add("--tls-psk", metavar="FILE", type=Path,
        help="clients speak TLS 1.3 and know the key in FILE (hexadecimal), instead of certificates")  # fmt: skip
    add("--lifeline", metavar="FD", type=int, help="a pipe whose end, before the restored task runs, rolls back")
    add("--resume", action="store_true", help="go on where a dead page server with this --control was")
    add("--status-fd", metavar="FD", type=int, help="gets a zero byte when clients can connect "
        "(with --dump-status-fd: when the dump may be started)")  # fmt: skip
    add("-o", "--log-file", metavar="FILE", type=Path, help="log there (default: standard error)")
    add("-v", dest="verbosity", nargs="?", const="", type=verbosity, default=2, help="-v: info, -vv: all")
    add("--op", choices=relay_control.OPS, help="do this to the page server behind --control (rate: set --rate)")
    add("--force", action="store_true", help="with --op commit or abort")
    return parser


def _listen(args: argparse.Namespace) -> socket.socket:
    address, port = args.address, args.port
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if not (args.tls or args.tls_psk or args.plain or ip_address(where[0]).is_loopback):
            raise UsageError(
                f"--address {address}: whoever reaches it could read the task's memory, and say that every page came; "
                "give --tls-psk or --tls, or --plain if nobody else reaches it"
            )
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(8)
    except OSError as error:
        raise PageServerError(f"can't listen on {address} port {port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _upstream(args: argparse.Namespace, wakeup: socket.socket) -> socket.socket:
    """The one connection to the dump."""
    if args.upstream_fd is not None:
        os.set_inheritable(args.upstream_fd, False)
        return socket.socket(fileno=args.upstream_fd)
    connection = _connect(args.upstream, args.connect_timeout, wakeup)
    if not _peer_is_ours(connection):
        # Should it be the dump's after all, this is no end of its connection, but a roll back.
        with contextlib.suppress(OSError):
            connection.sendall(ROLL_BACK)
        connection.close()
        host, port = args.upstream
        raise PageServerError(f"what listens on {host} port {port} is another user's, not our dump")
    return connection


def _peer_is_ours(connection: socket.socket) -> bool:
    """Whether a process of our user accepted it; True for one on another host, of which nothing is known."""
    here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    if here[0] != there[0]:
        return True
    family = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp6"}[connection.family]
    deadline = time.monotonic() + ACCEPTED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        for line in Path(f"/proc/self/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            ports = [int(fields[i].rpartition(":")[2], 16) for i in (1, 2)]
            if ports == [there[1], here[1]] and fields[9] != "0":  # with an inode, so accepted
                return int(fields[7]) == os.geteuid()
        time.sleep(RETRY_SECONDS)
    return False


def _connect(upstream: tuple[str, int], timeout_seconds: float, wakeup: socket.socket) -> socket.socket:
    """Connect to the dump. It may not listen yet; and whoever connects first has it."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            connection = socket.create_connection(upstream, timeout=max(0.1, deadline - time.monotonic()))
        except ConnectionRefusedError as error:
            if time.monotonic() > deadline:
                raise PageServerError(f"no lazy dump listens on {upstream[0]}:{upstream[1]}") from error
        except OSError as error:
            reason = error.strerror or error
            raise PageServerError(f"lazy dump at {upstream[0]}:{upstream[1]}: {reason}") from error
        else:
            connection.settimeout(None)
            return connection
        wakeup.settimeout(RETRY_SECONDS)
        try:
            wakeup.recv(1)
            raise PageServerError("stopped before it was connected to the dump; nothing was touched")
        except TimeoutError:
            pass


def _tell_ready(status_fd: int | None) -> None:
    if status_fd is not None:
        with contextlib.suppress(OSError):
            os.write(status_fd, b"\0")
        os.close(status_fd)


def _open_images(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"--images {path}: {error.strerror}") from error


def _wait_for_dump(args: argparse.Namespace, images_fd: int, before_dump: Callable[[], None]) -> list[int]:
    """Returns when the dump's page server listens, with the pids in its images (if --images is given).

    A signal doesn't end the wait: a dump gives up only once it serves. `before_dump` may do things meanwhile,
    as long as it returns when there is something to read from --dump-status-fd.
    """
    # What is slow to load is loaded before the dump.
    images = Images(images_fd, str(args.images)) if args.images else None
    if images and args.fence:
        load_source_messages()
    if args.dump_status_fd is not None:
        _tell_ready(args.status_fd)
        before_dump()
        if os.read(args.dump_status_fd, 1) != b"\0":
            raise PageServerError("the lazy dump ended before it served; its log tells why")
    return images.pids() if images else []


def _tasks(args: argparse.Namespace, images_fd: int, pids: list[int], source: Frozen) -> dict[int, int]:
    """Pids here of the tasks in the images that have memory, by the pids that the images give them."""
    with_memory = [pid for pid in pids if os.access(f"pagemap-{pid}.img", os.F_OK, dir_fd=images_fd)]
    alive = source.alive()
    missing = [pid for pid in with_memory if source.ids.get(pid) not in alive]
    if args.resume and missing:
        return {}
    if missing or not with_memory:
        raise PageServerError(f"--tree {args.tree}: tasks {missing or pids} of the images are not there")
    return {pid: source.ids[pid] for pid in with_memory}


def _find_source(args: argparse.Namespace, images_fd: int) -> Frozen:
    """The source task's processes, and what a page server before this one knew of them."""
    if args.resume and (source := Frozen.load(args.control)).began:
        return source
    if not args.fence:
        return Frozen(rate=args.rate)
    source = Frozen.of_tree(args.fence, Images(images_fd, str(args.images)) if args.images else None)
    source.rate = args.rate
    return source


def _network(args: argparse.Namespace, rate: int) -> Network:
    """How clients are spoken to."""
    tls: dict[str, str] = {}
    if args.tls_psk:
        tls["key_hex"] = read_key(args.tls_psk)
    elif args.tls:
        names = {"ca_cert": args.tls_cacert, "ca_crl": args.tls_cacrl, "cert": args.tls_cert, "key": args.tls_key}
        tls = {name: value for name, value in names.items() if value is not None}
    return Network(
        speaks_tls=bool(args.tls or args.tls_psk),
        tls=tls,
        rate=rate,
    )


def _precopy(
    args: argparse.Namespace,
    precopy: Precopy,
    listener: socket.socket,
    port: int,
    selector: selectors.BaseSelector,
    control: ControlServer,
) -> None:
    """Rounds to a store, until the dump is ready. Raises PageServerError if somebody aborts before."""
    control.handle = lambda request, reply: precopy.handle_request(request, reply, port)
    aborted = precopy.run(listener, _network(args, args.rate), selector, args.dump_status_fd)
    if aborted:
        aborted({"ok": True, "state": "aborted", "port": port})
        raise PageServerError("stopped before it was connected to the dump; nothing was touched")


def _take_over(control: Path) -> socket.socket:
    """The lifeline to the guardian which a dead page server left behind."""
    lifeline = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    lifeline.settimeout(TAKEOVER_TIMEOUT_SECONDS)
    try:
        lifeline.connect(str(relay_control.guard_path(control)))
    except OSError as error:
        lifeline.close()
        raise PageServerError(
            f"nothing to resume behind {control}: {error.strerror}; if the restored task did not run yet, "
            "the dump was rolled back and the source task runs on"
        ) from error
    # The C side reads what the guardian hands over, within this time.
    lifeline.setblocking(True)
    lifeline.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", TAKEOVER_TIMEOUT_SECONDS, 0))
    return lifeline


def _resume_command(args: argparse.Namespace, port: int) -> list[str]:
    """The command by which another page server goes on where this one was."""
    command = [sys.executable, "-m", "criu_lazy_ext.cli", "page-server", "--resume", f"-v{args.verbosity}"]
    paths = {
        "--control": args.control, "--images": args.images, "--log-file": args.log_file, "--tls-psk": args.tls_psk,
        "--tls-cacert": args.tls_cacert, "--tls-cacrl": args.tls_cacrl, "--tls-cert": args.tls_cert,
        "--tls-key": args.tls_key,
    }  # fmt: skip
    given = {
        "--address": args.address, "--port": port, "--tree": args.tree, "--fence": args.fence, "--rate": args.rate,
        "--max-request-pages": args.max_request_pages,
    }  # fmt: skip
    given |= {option: path and Path(path).absolute() for option, path in paths.items()}
    for option, value in given.items():
        command += [option, str(value)] if value is not None else []
    for task in args.task:
        command += ["--task", str(task)]
    return command + [f"--{flag}" for flag in ("hold", "plain", "tls") if getattr(args, flag)]


def _make_relay(
    args: argparse.Namespace,
    takeover: socket.socket | None,
    log_fd: int,
    wakeup: socket.socket,
    resume: list[str],
) -> Relay:
    """With --upstream-fd before the dump begins; in a process with one thread, as the guardian is forked."""
    options = RelayOptions(
        takeover_fd=takeover.fileno() if takeover else -1,
        resume=resume,
        log_fd=log_fd,
        log_level=args.verbosity,
        wire_version=args.wire_version,
        hold_close=args.hold,
        max_request_pages=args.max_request_pages,
    )
    # Last, as what comes after it must not fail: the dump accepts one connection, and its end kills the task.
    if args.resume:
        relay = Relay(options, lifeline_fd=_take_over(args.control).detach())
    else:
        relay = Relay(options, upstream_fd=_upstream(args, wakeup).detach())
    if takeover:
        takeover.close()
    return relay


def _catch_signals() -> socket.socket:
    """From here on no signal ends this process by surprise: its number can be read."""
    wakeup, writer = socket.socketpair()
    writer.setblocking(False)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return wakeup


def _control_sockets(args: argparse.Namespace) -> tuple[socket.socket | None, socket.socket | None]:
    """The control socket, and the one where the guardian is to hand over."""
    if not args.control:
        return None, None
    control = relay_control.listen(args.control)
    return control, None if args.resume else relay_control.listen(relay_control.guard_path(args.control))


class _Serving:
    """All that a page server has, made in order, closed in the reverse."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.log_fd = open_log(args.log_file, append=args.resume)
        if args.log_file and os.path.samestat(os.fstat(2), Path(os.devnull).stat()):
            os.dup2(self.log_fd, 2)  # the guardian has started this one
        self.held = bool(args.resume)
        self.problem = ""
        self.listener = _listen(args)
        self.port = int(self.listener.getsockname()[1])
        control, self.takeover = _control_sockets(args)
        self.control_inode = args.control.stat().st_ino if control else 0
        self.wakeup = _catch_signals()
        self.selector = selectors.DefaultSelector()
        self.answers = ControlServer(self.selector, control, lambda *_: None) if control else None
        self.precopy: Precopy | None = None
        self.relay: Relay | None = None
        frozen.protect_from_oom(os.getpid())  # and so the guardian

    def run(self) -> dict[str, Any]:
        """From before the dump to its end: the relay's last state."""
        args = self.args
        images_fd = _open_images(args.images) if args.images else -1
        try:
            if args.precopy:
                rate = args.rate if args.precopy_rate is None else args.precopy_rate
                self.precopy = Precopy(args.tree, rate, self.log_fd, args.verbosity)
            if args.upstream_fd is not None or args.resume:
                self.relay = self._make_relay()
            # A dead page server's dump, whose task did not run elsewhere, may not be complete.
            gives_up = bool(self.relay and args.resume and not self.relay.is_running())
            pids = [] if gives_up else _wait_for_dump(args, images_fd, self._before_dump)
            relay = self.relay = self.relay or self._make_relay()
            relay.set_tasks([*args.task, *pids])
            return self._serve(relay, images_fd, pids, gives_up)
        finally:
            self._close()
            if images_fd >= 0:
                os.close(images_fd)

    def _make_relay(self) -> Relay:
        resume = _resume_command(self.args, self.port) if self.takeover else []
        return _make_relay(self.args, self.takeover, self.log_fd, self.wakeup, resume)

    def _before_dump(self) -> None:
        if self.precopy and self.answers:
            _precopy(self.args, self.precopy, self.listener, self.port, self.selector, self.answers)

    def _serve(self, relay: Relay, images_fd: int, pids: list[int], gives_up: bool) -> dict[str, Any]:
        args, precopy = self.args, self.precopy
        source = Frozen() if gives_up else _find_source(args, images_fd)
        if precopy and precopy.new_rate is not None:
            source.rate = precopy.new_rate
        network = _network(args, source.rate)
        if args.tree and not gives_up:
            tasks = _tasks(args, images_fd, pids, source)
            network = replace(network, images_fd=images_fd, tasks=tasks, gone=not tasks)
        sender = precopy.sender if precopy else None
        relay.serve(self.listener, network, sender, log_fd=self.log_fd, log_level=args.verbosity)
        self.wakeup.setblocking(False)
        find_lock = (lambda: NetworkLock(args.fence, args.images)) if args.fence and args.images else None
        server = PageServer(
            relay, self.port, self.selector, self.answers, self.wakeup, args.lifeline, source, args.control, find_lock,
            args.hold,
        )  # fmt: skip
        if args.dump_status_fd is None:
            _tell_ready(args.status_fd)
        end = server.run(precopy.awaited if precopy else (), gives_up)
        self.held = end["held"]
        return end

    def _close(self) -> None:
        if self.relay:
            self.problem = self.relay.error()
            self.relay.close()
        if self.precopy:
            self.precopy.close()
        if self.args.control:
            with contextlib.suppress(FileNotFoundError):  # it may be another's, which was quicker
                if self.args.control.stat().st_ino == self.control_inode:
                    self.args.control.unlink()
            if not self.held:
                relay_control.guard_path(self.args.control).unlink(missing_ok=True)
                frozen.forget(self.args.control)


def _serve(args: argparse.Namespace) -> int:
    serving = _Serving(args)
    end = serving.run()
    if end["state"] == "committed":
        return EXIT_COMMITTED
    if end["state"] == "aborted":
        say("rolled back: the source task runs on")
        return EXIT_ROLLED_BACK
    problem = serving.problem
    if serving.held:
        problem += f"; the source task stays frozen, its memory intact: --resume --control {args.control}"
    raise PageServerError(problem)


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.op or args.resume:
        if not args.control:
            parser.error(f"{'--op' if args.op else '--resume'} needs --control PATH")
    elif (args.upstream is None) == (args.upstream_fd is None):
        parser.error("--upstream-fd FD (its peer: the dump's --ps-socket) or --upstream HOST:PORT is needed")
    if args.hold and not args.control:
        parser.error("--hold needs --control PATH: nothing else could commit")
    if any(pid < 1 for pid in args.task):
        parser.error("--task: a pid is positive")
    if not 0 <= args.port < 65536:
        parser.error(f"--port {args.port}: not a port")
    if args.tls and not args.tls_psk and not args.tls_cacert and not DEFAULT_CA_CERT.exists():
        parser.error(f"--tls: there is no {DEFAULT_CA_CERT}; --tls-cacert FILE names the authority of your clients")
    if args.precopy and not args.op and (not args.control or not args.tree or args.dump_status_fd is None):
        parser.error("--precopy needs --control, --tree and --dump-status-fd")
    if args.precopy_rate is not None and not args.precopy:
        parser.error("--precopy-rate goes with --precopy")
    if args.max_request_pages < 1:
        parser.error("--max-request-pages: at least 1")
    for option, fd in (
        ("--upstream-fd", args.upstream_fd),
        ("--status-fd", args.status_fd),
        ("--dump-status-fd", args.dump_status_fd),
        ("--lifeline", args.lifeline),
    ):
        try:
            if fd is not None:
                os.fstat(fd)
        except (OSError, OverflowError):
            parser.error(f"{option} {fd}: not an open descriptor")
    if args.tree is not None and (args.tree < 1 or not args.images):
        parser.error("--tree PID (positive) needs --images: they tell which of its memory is lazy")
    args.fence = args.tree if args.fence is None else args.fence
    if args.fence is not None and args.fence < 1:
        parser.error("--fence: a pid is positive")


def main(argv: list[str]) -> int:
    """Run `criu-lazy page-server ARGV`; returns the exit status (see --help)."""
    parser = _parser()
    args = parser.parse_args(argv)
    _check(parser, args)
    if args.op:
        timeout = None if args.op in ("round", "precopied", "served") else 60.0
        print(json.dumps(relay_control.request(args.control, args.op, args.force, timeout, rate=args.rate)))
        return 0
    return _serve(args)
