"""The page server's life: from before the dump to the end of the migration, at the source.

A stock `criu dump --lazy-pages` serves one connection, and takes its end for success: it kills the source task.
This process holds that connection, lets clients come and go, and alone decides what the dump hears. See
docs/page-server.md.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from criu_lazy_ext.criu.images import Images, load_source_messages
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.native.dump_proxy import DumpProxy, DumpProxyOptions, Network
from criu_lazy_ext.source import control_socket, frozen
from criu_lazy_ext.source.control_socket import ControlServer, Reply, Request, refusal
from criu_lazy_ext.source.dump_connection import PageServerError, connect, take_over
from criu_lazy_ext.source.fence import FenceError
from criu_lazy_ext.source.frozen import Frozen, FrozenError
from criu_lazy_ext.source.precopy import Precopy
from criu_lazy_ext.system.files import open_log, read_key
from criu_lazy_ext.system.migration_id import mark
from criu_lazy_ext.system.network_lock import NetworkLock
from criu_lazy_ext.system.processes import protect_from_oom
from criu_lazy_ext.system.service_network import ServiceNetwork
from criu_lazy_ext.system.stop_signals import StopSignals

ALONE_LOOK_SECONDS = 0.5


class PageServerOptions(argparse.Namespace):
    """What the command line says (see commands/page_server.py), with its types."""

    upstream: tuple[str, int] | None
    upstream_fd: int | None
    address: str
    plain: bool
    port: int
    control: Path | None
    hold: bool
    task: list[int]
    wire_version: int
    max_request_pages: int
    connect_timeout: float
    dump_status_fd: int | None
    images: Path | None
    tree: int | None
    fence: int | None
    precopy: bool
    rate: int
    precopy_rate: int | None
    tls: bool
    tls_cacert: str | None
    tls_cacrl: str | None
    tls_cert: str | None
    tls_key: str | None
    tls_psk: Path | None
    lifeline: int | None
    resume: bool
    status_fd: int | None
    log_file: Path | None
    verbosity: int


@dataclass(frozen=True)
class Endpoints:
    """Where others reach the page server: clients, who commands it, and signals."""

    port: int
    selector: selectors.BaseSelector
    control: ControlServer | None  # on this selector
    wakeup: socket.socket  # has the numbers of signals


def moved_network(control: Path | None) -> ServiceNetwork | None:
    """The service addresses that move with the task, if any do."""
    return ServiceNetwork.load(control_socket.network_path(control)) if control else None


def say(text: str) -> None:
    """A line on standard error; should that be on a disk that is full, nobody hears it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{mark()}criu-lazy page-server: {text}\n".encode())


class PageServer:
    """Serves the control socket and the signals while the proxy runs."""

    def __init__(
        self, options: PageServerOptions, proxy: DumpProxy, source: Frozen, endpoints: Endpoints
    ) -> None:
        """`source`: the task's processes. The endpoints are this server's from now on."""
        self._proxy = proxy
        self._source = source
        self._control_path = options.control
        self._lock_of = (options.fence, options.images) if options.fence and options.images else None
        self._lock: NetworkLock | None = None
        self._holds = options.hold
        self._commits = False
        self._aborts = False
        self._alone = False  # the dump is dead
        self._warnings: list[str] = []
        if proxy.is_running():
            self._save()
        elif options.control:
            source.save(options.control)
        self._port = endpoints.port
        self._waiting: list[tuple[str, Reply]] = []
        self._over = False
        self._wakeup = endpoints.wakeup
        self._selector = endpoints.selector
        self._control = endpoints.control
        if self._control:
            self._control.handle = self.handle
        self._selector.register(proxy.ended_fd, selectors.EVENT_READ, self._ended)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._signalled)
        if (lifeline := options.lifeline) is not None:
            self._selector.register(lifeline, selectors.EVENT_READ, lambda: self._lifeline_moved(lifeline))

    def run(self, awaited: Iterable[tuple[Request, Reply]] = (), gives_up: bool = False) -> dict[str, Any]:
        """Until the proxy has ended; returns its last state. `awaited`: requests that came too early.

        `gives_up`: roll back.
        """
        if self._proxy.is_running() and not self._source.fenced:  # the page server before this one was told so
            answer = self._set_running()
            if not answer["ok"]:
                say(answer["error"])
        self._proxy.start()
        for request, reply in awaited:
            self.handle(request, reply)
        self._serve_once(timeout=0)  # who waits for the dump is answered first
        self._wake()
        if gives_up:
            self._abort(force=False)
        while not self._over:
            self._serve_once(ALONE_LOOK_SECONDS if self._alone else None)
            if self._alone and self._can_be_lost():
                self._proxy.lose_source(f"the source task {self._source.killed()[0]} was killed")
        state = self._proxy.state()
        self._unlock(state)
        self._answer_waiting(state)
        if self._control:
            self._control.close()
        self._selector.close()
        return state

    def _unlock(self, state: dict[str, Any]) -> None:
        """At the end: the connections end with the source task, or go on with it."""
        lock, network = self._network_lock(), moved_network(self._control_path)
        if state["state"] == "committed":
            self._warn(lock.remove() if lock else [])
            self._warn(network.open() if network else [])
        elif not state["task_running"]:  # also if the dump died
            self._warn(network.give_back() if network else [])
            self._warn(lock.lift() if lock else [])
        if lock:
            lock.close()

    def _answer_waiting(self, state: dict[str, Any]) -> None:
        """At the end: whoever asked for it, or for another."""
        alive = not self._source.is_over()
        for op, reply in self._waiting:
            wanted = {"commit": "committed", "abort": "aborted"}[op]
            if state["state"] == wanted:
                told = {"warnings": self._warnings, "source_alive": alive}
                reply({"ok": True, **state, "port": self._port, **told})
            else:
                reply(refusal(self._proxy.error() or f"the dump was {state['state']} already"))

    def _serve_once(self, timeout: float | None = None) -> None:
        for key, _ in self._selector.select(timeout):
            key.data()

    def _ended(self) -> None:
        """The proxy ended: the migration is over, or the dump is dead and its work is to be done here."""
        end = self._proxy.take_end()
        if end == -errno.EOWNERDEAD:
            self._alone = True
            self._proxy.run_alone(self._aborts or (self._proxy.is_running() and self._source.await_stop()))
            return
        if self._alone and end == 0:
            self._proxy.end_alone("committed" if self._source.kill() else "failed")
        elif self._alone and end == -errno.ECANCELED:
            self._source.lift()
            self._proxy.end_alone("aborted")
        self._over = True

    def _can_be_lost(self) -> bool:
        """Without a dump: whether somebody has killed what is still to be read, or all that there is."""
        return bool(self._source.killed()) and (self._source.is_over() or not self._proxy.is_drained())

    def _signalled(self) -> None:
        numbers = self._wakeup.recv(64)
        if not set(numbers) & set(StopSignals.SIGNALS) or self._abort(force=False):
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
        if self._lock_of and not self._lock:
            self._lock = NetworkLock(*self._lock_of)
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

        The source's connections go on before the task does. Without a dump, lifting the fence lets it run at once: that
        waits until no page is read any more (see _ended), as a task that runs is taken for lost.
        """
        running = self._proxy.state()["task_running"]
        if self._commits or (running and not force):
            return False
        self._aborts = running
        if network := moved_network(self._control_path):
            self._warn(network.give_back())
        if lock := self._network_lock():
            self._warn(lock.lift())
        if running and not self._alone:
            self._source.lift()
        return self._proxy.abort(force)

    def _commit(self, force: bool) -> bool:
        """End the dump with success, if every page has arrived. The source's connections end without a word."""
        if lock := self._network_lock():
            self._warn(lock.hush())
        if self._proxy.commit(force):
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

    def _set_running(self) -> control_socket.Answer:
        """From now on no death lets the source task run on by itself: see fence.py."""
        was_running = self._proxy.state()["task_running"]
        self._proxy.set_running()
        try:
            fenced = self._source.fence()
        except FenceError as error:
            self._proxy.set_running(was_running)
            return refusal(str(error))
        self._source.protect()
        self._save()
        return {**self._state(), "fenced": bool(self._source.began), "fenced_pids": fenced}

    def _state(self) -> control_socket.Answer:
        killed = self._source.killed()
        tasks = {"alive": [pid for pid in self._source.began if pid not in killed], "killed": killed}
        return {"ok": True, **self._proxy.state(), "port": self._port, "source_tasks": tasks}

    def handle(self, request: Request, reply: Reply) -> None:
        """Do what somebody asks for at the control socket."""
        op, force = request.op, request.force
        if op in ("round", "cut", "precopied"):
            reply(refusal("there is no pre-copy any more: the dump is ready"))
            return
        if op == "rate":
            self._proxy.set_rate(request.rate)
            self._source.rate = request.rate
            self._save()
        elif op == "running":
            reply(self._set_running())
            return
        elif op == "drop":
            self._proxy.drop_client()
        elif op == "commit":
            if self._commit(force):
                self._waiting.append((op, reply))
            else:
                state = self._proxy.state()["state"]
                reply(refusal(f"the client has not said that it has every page (state: {state})"))
            return
        elif op == "abort":
            if self._abort(force):
                self._waiting.append((op, reply))
            elif self._commits:
                reply(refusal(control_socket.COMMIT_UNDER_WAY))
            else:
                reply(refusal('the restored task runs; {"force": true} gives it up'))
            return
        reply(self._state())


def _listen(options: PageServerOptions) -> socket.socket:
    address, port = options.address, options.port
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if not (options.tls or options.tls_psk or options.plain or ip_address(where[0]).is_loopback):
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


def _wait_for_dump(options: PageServerOptions, images_fd: int, before_dump: Callable[[], None]) -> list[int]:
    """Returns when the dump's page server listens, with the pids in its images (if --images is given).

    A signal doesn't end the wait: a dump gives up only once it serves. `before_dump` may do things meanwhile,
    as long as it returns when there is something to read from --dump-status-fd.
    """
    # What is slow to load is loaded before the dump.
    images = Images(images_fd, str(options.images)) if options.images else None
    if images and options.fence:
        load_source_messages()
    if options.dump_status_fd is not None:
        _tell_ready(options.status_fd)
        before_dump()
        if os.read(options.dump_status_fd, 1) != b"\0":
            raise PageServerError("the lazy dump ended before it served; its log tells why")
    return images.pids() if images else []


def _tasks(options: PageServerOptions, images_fd: int, pids: list[int], source: Frozen) -> dict[int, int]:
    """Pids here of the tasks in the images that have memory, by the pids that the images give them."""
    with_memory = [pid for pid in pids if os.access(f"pagemap-{pid}.img", os.F_OK, dir_fd=images_fd)]
    alive = source.alive()
    missing = [pid for pid in with_memory if source.ids.get(pid) not in alive]
    if options.resume and missing:
        return {}
    if missing or not with_memory:
        raise PageServerError(f"--tree {options.tree}: tasks {missing or pids} of the images are not there")
    return {pid: source.ids[pid] for pid in with_memory}


def _find_source(options: PageServerOptions, images_fd: int) -> Frozen:
    """The source task's processes, and what a page server before this one knew of them."""
    if options.resume and options.control and (source := Frozen.load(options.control)).began:
        return source
    if not options.fence:
        return Frozen(rate=options.rate)
    source = Frozen.of_tree(options.fence, Images(images_fd, str(options.images)) if options.images else None)
    source.rate = options.rate
    return source


def _catch_signals() -> socket.socket:
    """From here on no signal ends this process by surprise: its number can be read."""
    wakeup, writer = socket.socketpair()
    writer.setblocking(False)
    for number in StopSignals.SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return wakeup


def _control_sockets(options: PageServerOptions) -> tuple[socket.socket | None, socket.socket | None]:
    """The control socket, and the one where the guardian is to hand over."""
    if not options.control:
        return None, None
    control = control_socket.listen(options.control)
    return control, None if options.resume else control_socket.listen(control_socket.guard_path(options.control))


class Serving:
    """All that a page server has, made in order, closed in the reverse."""

    def __init__(self, options: PageServerOptions, resume_command: Callable[[int], list[str]]) -> None:
        """`resume_command`: by which another page server, on this port, goes on where this one was."""
        self.options = options
        self.resume_command = resume_command
        self.log_fd = open_log(options.log_file, append=options.resume)
        if options.log_file and os.path.samestat(os.fstat(2), Path(os.devnull).stat()):
            os.dup2(self.log_fd, 2)  # the guardian has started this one
        self.held = bool(options.resume)
        self.problem = ""
        self.listener = _listen(options)
        control, self.takeover = _control_sockets(options)
        self.control_inode = options.control.stat().st_ino if control and options.control else 0
        selector = selectors.DefaultSelector()
        answers = ControlServer(selector, control, lambda *_: None) if control else None
        port = int(self.listener.getsockname()[1])
        self.endpoints = Endpoints(port, selector, answers, _catch_signals())
        self.precopy: Precopy | None = None
        self.proxy: DumpProxy | None = None
        self.has_ended = False
        protect_from_oom(os.getpid())  # and so the guardian

    def run(self) -> dict[str, Any]:
        """From before the dump to its end: the proxy's last state."""
        options = self.options
        images_fd = _open_images(options.images) if options.images else -1
        try:
            if options.precopy:
                rate = options.rate if options.precopy_rate is None else options.precopy_rate
                assert options.tree is not None
                self.precopy = Precopy(options.tree, rate, self.log_fd, options.verbosity)
            if options.upstream_fd is not None or options.resume:
                self.proxy = self._make_proxy()
            # A dead page server's dump, whose task did not run elsewhere, may not be complete.
            gives_up = bool(self.proxy and options.resume and not self.proxy.is_running())
            pids = [] if gives_up else _wait_for_dump(options, images_fd, self._before_dump)
            proxy = self.proxy = self.proxy or self._make_proxy()
            proxy.set_tasks([*options.task, *pids])
            return self._serve(proxy, images_fd, pids, gives_up)
        finally:
            self._close()
            if images_fd >= 0:
                os.close(images_fd)

    def _make_proxy(self) -> DumpProxy:
        """With --upstream-fd before the dump begins; in a process with one thread, as the guardian is forked."""
        options = self.options
        wanted = DumpProxyOptions(
            takeover_fd=self.takeover.fileno() if self.takeover else -1,
            resume=self.resume_command(self.endpoints.port) if self.takeover else [],
            log_fd=self.log_fd,
            log_level=options.verbosity,
            wire_version=options.wire_version,
            hold_close=options.hold,
            max_request_pages=options.max_request_pages,
        )
        # Last, as what comes after it must not fail: the dump accepts one connection, and its end kills the task.
        if options.resume:
            assert options.control is not None
            proxy = DumpProxy(wanted, lifeline_fd=take_over(options.control).detach())
        else:
            proxy = DumpProxy(wanted, upstream_fd=self._upstream().detach())
        if self.takeover:
            self.takeover.close()
        return proxy

    def _upstream(self) -> socket.socket:
        """The one connection to the dump."""
        options = self.options
        if options.upstream_fd is None:
            assert options.upstream is not None
            return connect(options.upstream, options.connect_timeout, self.endpoints.wakeup)
        os.set_inheritable(options.upstream_fd, False)
        return socket.socket(fileno=options.upstream_fd)

    def _network(self, rate: int) -> Network:
        """How clients are spoken to."""
        options = self.options
        tls: dict[str, str] = {}
        if options.tls_psk:
            tls["key_hex"] = read_key(options.tls_psk)
        elif options.tls:
            names = {"ca_cert": options.tls_cacert, "ca_crl": options.tls_cacrl, "cert": options.tls_cert,
                "key": options.tls_key}  # fmt: skip
            tls = {name: value for name, value in names.items() if value is not None}
        return Network(speaks_tls=bool(options.tls or options.tls_psk), tls=tls, rate=rate)

    def _before_dump(self) -> None:
        """Rounds to a store, until the dump is ready. Raises PageServerError if somebody aborts before."""
        precopy, endpoints, dump_fd = self.precopy, self.endpoints, self.options.dump_status_fd
        if not precopy or not endpoints.control or dump_fd is None:
            return
        port = endpoints.port
        endpoints.control.handle = lambda request, reply: precopy.handle_request(request, reply, port)
        aborted = precopy.run(self.listener, self._network(self.options.rate), endpoints.selector, dump_fd)
        if aborted:
            aborted({"ok": True, "state": "aborted", "port": port})
            raise PageServerError("stopped before it was connected to the dump; nothing was touched")

    def _serve(self, proxy: DumpProxy, images_fd: int, pids: list[int], gives_up: bool) -> dict[str, Any]:
        options, precopy = self.options, self.precopy
        source = Frozen() if gives_up else _find_source(options, images_fd)
        if precopy and precopy.new_rate is not None:
            source.rate = precopy.new_rate
        network = self._network(source.rate)
        if options.tree and not gives_up:
            tasks = _tasks(options, images_fd, pids, source)
            network = replace(network, images_fd=images_fd, tasks=tasks, gone=not tasks)
        sender = precopy.sender if precopy else None
        proxy.serve(self.listener, network, sender, log_fd=self.log_fd, log_level=options.verbosity)
        self.endpoints.wakeup.setblocking(False)
        server = PageServer(options, proxy, source, self.endpoints)
        if options.dump_status_fd is None:
            _tell_ready(options.status_fd)
        end = server.run(precopy.awaited if precopy else (), gives_up)
        self.held = end["held"]
        self.has_ended = True
        return end

    def _close(self) -> None:
        network = moved_network(self.options.control)
        if network and not self.held and not self.has_ended:  # no dump served: new connections were held off for it
            for problem in network.give_back():
                say(f"warning: {problem}")
        if self.proxy:
            self.problem = self.proxy.error()
            self.proxy.close()
        if self.precopy:
            self.precopy.close()
        if self.options.control:
            with contextlib.suppress(FileNotFoundError):  # it may be another's, which was quicker
                if self.options.control.stat().st_ino == self.control_inode:
                    self.options.control.unlink()
            if not self.held:
                control_socket.guard_path(self.options.control).unlink(missing_ok=True)
                frozen.forget(self.options.control)


def serve(options: PageServerOptions, resume_command: Callable[[int], list[str]]) -> bool:
    """All of the page server's life: True if it was committed, False if rolled back. Raises CriuLazyError."""
    serving = Serving(options, resume_command)
    end = serving.run()
    if end["state"] in ("committed", "aborted"):
        return bool(end["state"] == "committed")
    problem = serving.problem
    if serving.held:
        problem += f"; the source task stays frozen, its memory intact: --resume --control {options.control}"
    raise PageServerError(problem)
