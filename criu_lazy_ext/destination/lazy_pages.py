"""The life of the lazy-pages daemon.

What is seen from outside comes in criu's order: images directory opened, work directory entered, log opened,
process tree read, socket bound, daemon forked and pidfile written, status-ready scripts, status byte; then
one connection from `criu restore`. The page server is connected to as late as can be: it serves one connection ever,
and should that be lost before the restored task runs, criu kills the source task. With TLS the page server is connected
to before the status byte: so no task is restored for which it refuses our certificate, and criu takes only a
close_notify for success.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable

from criu_lazy_ext import __version__
from criu_lazy_ext.criu.images import Images, load_messages
from criu_lazy_ext.criu.log import INFO, Log
from criu_lazy_ext.criu.options import Options
from criu_lazy_ext.destination import page_client
from criu_lazy_ext.destination.collapse import Collapse
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.native.engine import (
    GUARDIAN_SOCKET,
    IF_IT_PUSHES,
    VMA_FIELDS,
    WITHOUT_LIMIT,
    Engine,
    EngineError,
    EngineOptions,
)
from criu_lazy_ext.sizes import check_page_size
from criu_lazy_ext.system.stop_signals import Stopped, StopSignals

SOCKET_NAME = "lazy-pages.socket"
GUARDIAN_SECONDS = 2.0
RESUME_PAUSE_S = (0.1, 5.0)  # between tries to connect: the first, doubling, the longest
RESUME_CONNECT_MS = 2000
GREET_CONNECT_MS = 1000
STATS_INTERVAL_MS = 100
PROGRESS_INTERVAL_S = 1.0

MAX_ENDED_SERVING = 8  # entries of "ended" in a line while there are more lines to come
LAST_LINE_SECONDS = 5.0


class LazyPagesError(CriuLazyError):
    """The restored task can't be served."""


class TaskLostError(LazyPagesError):
    """A restored task was killed with pages missing: the source has to keep them."""


def preload() -> None:
    """Load what the daemon loads only when it gets there. Raises CriuLazyError, ImportError."""
    import json  # noqa: F401
    import threading  # noqa: F401

    load_messages()


class LazyPages:
    """The daemon, as its options say. `run` is all of its life; in the parent of --daemon, until the daemon runs."""

    def __init__(self, options: Options, log: Log, signals: StopSignals) -> None:
        self.options = options
        self.log = log
        self.signals = signals

    def run(self) -> int:
        """The exit status. Raises CriuLazyError for anything that goes wrong, Stopped after a signal."""
        options, log = self.options, self.log
        for fd in options.close_fds:
            with contextlib.suppress(OSError):  # criu doesn't mind either
                os.close(fd)
        images_fd = _open_images(options)
        self._enter_work_dir()
        check_page_size()
        page_client.check(options)
        images = Images(images_fd, options.images_dir)
        images.check_inventory()
        pids = images.pids()
        listener = _connect_guardian() if options.resume else _listen(log)
        if options.daemon and not _daemonise(options, log):
            return 0
        self.signals.catch()
        _run_scripts(options, images_fd, log)
        if not self._connects_early:
            _write_status(options.status_fd)
        engine = self._engine(images_fd)
        stats = Stats(engine, options.stats_fd)
        collapse: Collapse | None = None
        try:
            collapse = self._serve(engine, stats, images, pids, listener)
        except CriuLazyError as error:
            stats.write_last("failed", str(error))
            raise
        except Stopped:
            stats.write_last("failed", "stopped by a signal")
            raise
        else:
            stats.write_last("done")
        finally:
            engine.close()
        if collapse is not None:
            self._collapse(collapse)
        return 0

    @property
    def _connects_early(self) -> bool:
        """Whether the page server is connected to before the status byte: TLS, by which it may refuse us."""
        options = self.options
        return options.page_server and options.tls and not options.push_streams and not options.resume

    def _enter_work_dir(self) -> None:
        options, log = self.options, self.log
        work_dir = options.work_dir or options.images_dir
        try:
            os.chdir(work_dir)
        except OSError as error:
            raise LazyPagesError(f"can't change directory to {work_dir}: {error.strerror}") from error
        log.open(options.log_file)
        log.info(f"Version: {__version__} (criu-lazy lazy-pages)")
        if options.ignored:
            log.debug(f"Options without meaning for lazy-pages: {' '.join(options.ignored)}")

    def _engine(self, images_fd: int) -> Engine:
        options = self.options
        wanted = EngineOptions(
            images_fd=images_fd,
            log_fd=self.log.fd,
            log_level=options.log_level,
            log_start=self.log.start,
            auto_dedup=options.auto_dedup,
            workers=options.workers,
            max_in_flight_bytes=options.max_in_flight_bytes,
            reconnect_seconds=IF_IT_PUSHES if options.reconnect_seconds is None else options.reconnect_seconds,
            push_streams=options.push_streams,
            precopied_fd=_open_store(options, self.log),
        )
        return Engine(wanted)

    def _serve(
        self, engine: Engine, stats: Stats, images: Images, pids: list[int], listener: socket.socket
    ) -> Collapse | None:
        """From the connection to the page server to the last page; what is to be given huge pages then, if anything."""
        options, log, signals = self.options, self.log, self.signals
        page_client.set_tls(engine, options)
        connected = -1
        if self._connects_early:
            connected = self._connect_early(engine)
            _write_status(options.status_fd)
        _add_tasks(engine, images, pids, log)
        # A task that was restored long ago can't be told from others.
        collapse = Collapse(images, pids) if options.collapse and not options.resume else None
        if options.resume:
            engine.take_over(listener.detach())
            restore_fd = -1
        else:
            watched = connected
            if options.page_server and options.push_streams and options.precopied is None:
                connected = self._greet(engine)
            told = options.page_server and connected < 0
            restore_fd = _restore(listener, engine, watched, signals, stats, told=told)
        if options.page_server and connected < 0:
            self._connect(engine)
        _run(engine, restore_fd, signals, stats, log, collapse)
        return collapse

    def _collapse(self, collapse: Collapse) -> None:
        try:
            nr_tasks = collapse.start()
            self.log.debug(f"uffd: Giving huge pages back to {nr_tasks} tasks, in the background")
        except OSError as error:  # every page is there: this is no failure
            self.log.warn(f"no huge pages are given back: can't start a process for it: {error.strerror}")
        collapse.close()

    # ---- the page server ----

    def _connect(self, engine: Engine) -> int:
        """Connect the engine to the page server; the engine's socket. Raises PageServerError, EngineError, Stopped."""
        if self.options.resume:
            connected = self._await_page_server()
        else:
            connected = page_client.connect(self.options, self.signals.wait, self.log)
        try:
            engine.set_remote(connected)
        except EngineError:
            self.signals.check()  # one ends a TLS handshake
            raise
        return connected

    def _await_page_server(self) -> int:
        """Connect, for tasks that run and wait: as long as the killed daemon would have tried to connect again."""
        limit = self.options.reconnect_seconds
        if limit is None:
            limit = WITHOUT_LIMIT if self.options.push_streams else 0
        deadline = math.inf if limit == WITHOUT_LIMIT else time.monotonic() + limit
        pause = RESUME_PAUSE_S[0]
        while True:
            try:
                return page_client.connect(self.options, self._within(RESUME_CONNECT_MS), self.log)
            except page_client.PageServerError as error:
                if time.monotonic() + pause > deadline:
                    raise
                if pause == RESUME_PAUSE_S[0]:
                    self.log.warn(f"{error}; the tasks wait for it, and so does this daemon")
            self.signals.pause(pause)
            pause = min(2 * pause, RESUME_PAUSE_S[1])

    def _within(self, timeout_ms: int) -> Callable[[int, int], None]:
        def wait(fd: int, events: int) -> None:
            self.signals.ready(fd, events, timeout_ms)

        return wait

    def _greet(self, engine: Engine) -> int:
        """Connect already now to a page server that may push: it may refuse us, better before a task is restored.

        The engine's socket, or -1: it is connected to when the restore is there. Raises EngineError if it refuses,
        Stopped.
        """
        try:
            connected = page_client.connect(self.options, self._within(GREET_CONNECT_MS), self.log)
        except page_client.PageServerError as error:
            self.log.info(f"{error}: not yet, perhaps")
            return -1
        try:
            engine.set_remote(connected)
            engine.greet()
        except EngineError:
            self.signals.check()
            raise
        return connected

    def _connect_early(self, engine: Engine) -> int:
        """The engine's socket; -1 if there is no page server yet: it is connected to when the restore is there."""
        try:
            return self._connect(engine)
        except page_client.PageServerError as error:
            self.log.info(f"{error}: not yet, perhaps")
            return -1


def _open_images(options: Options) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        fd = os.open(options.images_dir, flags)
    except OSError as error:
        raise LazyPagesError(f"can't open image directory {options.images_dir}: {error.strerror}") from error
    if options.prev_images_dir is not None:
        try:
            os.close(os.open(options.prev_images_dir, flags, dir_fd=fd))
        except OSError as error:
            parent = f"{options.images_dir}/{options.prev_images_dir}"
            raise LazyPagesError(f"can't open parent image directory {parent}: {error.strerror}") from error
    return fd


def _listen(log: Log) -> socket.socket:
    """The socket for criu restore, in the work directory; one left over by an earlier daemon is replaced."""
    log.debug(f"uffd: Waiting for incoming connections on {SOCKET_NAME}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(SOCKET_NAME):
            os.unlink(SOCKET_NAME)  # noqa: PTH108 (pathlib would cost 5 ms of start-up)
        # Of the connection, from its first byte on: it tells which processes the restored tasks are.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(SOCKET_NAME)
        listener.listen(10)
    except OSError as error:
        raise LazyPagesError(f"can't listen on {os.getcwd()}/{SOCKET_NAME}: {error.strerror}") from error  # noqa: PTH109
    return listener


def _daemonise(options: Options, log: Log) -> bool:
    """Fork; True in the daemon, which goes on only when its pidfile is written. False in the parent."""
    go_on, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        if null > 2:
            os.close(null)
        os.read(go_on, 1)
        os.close(go_on)
        return True
    os.close(go_on)
    if options.pidfile is not None:
        try:
            _write_pidfile(options.pidfile, pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise LazyPagesError(f"pidfile: can't write {options.pidfile}: {error.strerror}") from error
        log.debug(f"pidfile: Wrote pid {pid} to {options.pidfile}")
    os.close(told)
    return False


def _write_pidfile(path: str, pid: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)


def _run_scripts(options: Options, images_fd: int, log: Log) -> None:
    """Run the --action-script files for status-ready, with criu's environment; one that fails ends us."""
    log.debug("Running status-ready scripts")
    for script in options.action_scripts:
        import subprocess

        image_dir = f"/proc/{os.getpid()}/fd/{images_fd}"
        environ = {**os.environ, "CRTOOLS_SCRIPT_ACTION": "status-ready", "CRTOOLS_IMAGE_DIR": image_dir}
        try:
            status = subprocess.run([script], env=environ, check=False).returncode
        except OSError as error:
            raise LazyPagesError(f"can't run action script {script}: {error.strerror}") from error
        if status != 0:
            raise LazyPagesError(f"action script {script} failed with status {status}")


def _write_status(fd: int) -> None:
    """Tell that restores may come; `fd` -1: nobody wants to know."""
    if fd < 0:
        return
    try:
        os.write(fd, b"\0")
    except OSError as error:
        raise LazyPagesError(f"can't write into the status fd {fd}: {error.strerror}") from error
    os.close(fd)


def _open_store(options: Options, log: Log) -> int:
    """The directory that page-store has filled, or -1."""
    if options.precopied is None or options.resume:
        return -1
    try:
        return os.open(options.precopied, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        log.warn(f"--precopied {options.precopied}: {error.strerror}; all pages come from the page server")
        return -1


def _add_tasks(engine: Engine, images: Images, pids: list[int], log: Log) -> None:
    for pid in pids:
        vmas = images.vmas(pid)
        if vmas is None:
            log.debug(f"uffd: {pid}: dead task, nothing to serve")
            continue
        engine.add_task(pid, vmas)
        log.debug(f"uffd: {pid}: Found {len(vmas) // VMA_FIELDS} VMAs in image")
    log.debug(f"uffd: Found {engine.stats()['total_pages']} pages to be handled by UFFD")


def _restore(
    listener: socket.socket, engine: Engine, connected: int, signals: StopSignals, stats: Stats, *, told: bool
) -> int:
    """The one connection from criu restore, once it has `told` something; the socket's name stays, as with criu.

    `connected`: the engine's socket to the page server, which must not hang up meanwhile, or -1.
    """
    stats.write("waiting")
    with select.epoll() as waiting:
        waiting.register(listener, select.EPOLLIN)
        if connected >= 0:
            waiting.register(connected, select.EPOLLRDHUP)
        while not signals.ready(waiting.fileno(), select.POLLIN, STATS_INTERVAL_MS if stats.wanted else None):
            stats.write("waiting")
    engine.check_remote()
    with listener:
        connection = listener.accept()[0]
    if told:
        # The restore's first word means that its tasks are almost there. If there is none, it failed.
        signals.wait(connection.fileno(), select.POLLIN)
        if not connection.recv(1, socket.MSG_PEEK):
            raise LazyPagesError("criu restore hung up before any task was there: see its log")
    return connection.detach()


def _connect_guardian() -> socket.socket:
    """A connection to what a killed daemon left behind in the work directory; it may be killed just now."""
    deadline = time.monotonic() + GUARDIAN_SECONDS
    while True:
        guardian = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            guardian.connect(GUARDIAN_SOCKET)
        except OSError as error:
            guardian.close()
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            where = f"{os.getcwd()}/{GUARDIAN_SOCKET}"  # noqa: PTH109
            raise LazyPagesError(
                f"nothing to resume: no killed daemon's tasks are held at {where}: {error.strerror}"
            ) from error
        return guardian


def _run(
    engine: Engine, restore_fd: int, signals: StopSignals, stats: Stats, log: Log, collapse: Collapse | None
) -> None:
    """Serve until the engine ends; raises LazyPagesError, or Stopped once a signal has stopped it."""
    import threading

    ended, tell_end = os.pipe()
    result: list[int] = []

    def run_engine() -> None:
        try:
            result.append(engine.run(restore_fd))
        finally:
            os.close(tell_end)

    thread = threading.Thread(target=run_engine, name="engine", daemon=True)
    thread.start()
    interval = STATS_INTERVAL_MS if stats.wanted or log.level >= INFO else None
    told_at = time.monotonic()
    stopped = False
    while True:
        try:
            searching = collapse is not None and collapse.searching
            if signals.ready(ended, select.POLLIN, collapse.interval_ms if collapse and searching else interval):
                break
            if collapse and searching:
                collapse.look_up()
        except Stopped:
            stopped = True
            engine.stop()
            signals.disarm()  # a second signal ends us at once
        stats.write("serving")
        if time.monotonic() - told_at >= PROGRESS_INTERVAL_S:
            told_at = time.monotonic()
            counters = engine.stats()
            log.info(f"uffd: {counters['remaining_pages']} of {counters['total_pages']} pages remaining")
    os.close(ended)
    thread.join()
    if stopped:
        raise Stopped
    if result and result[0] == -errno.ESRCH:
        raise TaskLostError(engine.error())
    if not result or result[0] < 0:
        reason = os.strerror(-result[0]) if result else "it raised an exception"
        raise LazyPagesError(engine.error() or f"the engine failed: {reason}")
    counters = engine.stats()
    log.debug(f"uffd: UFFD transferred pages: ({counters['copied_pages']}/{counters['total_pages']})")
    log.info(f"uffd: {counters['zero_pages']} zero pages, {counters['dropped_pages']} not needed any more")


class Stats:
    """The --stats-fd stream: one JSON object a line: the keys of struct cl_stats, "ended", "state", "error"."""

    def __init__(self, engine: Engine, fd: int) -> None:
        """`fd` -1: nobody wants them."""
        self._engine = engine
        self._fd = fd

    @property
    def wanted(self) -> bool:
        return self._fd >= 0

    def write(self, state: str) -> None:
        """Write one line. A reader that is gone or too slow loses lines; it never holds up the daemon."""
        if not self.wanted:
            return
        # A pipe ready for writing takes PIPE_BUF (4096) bytes at once, and a line is shorter.
        try:
            if self._ready(0):
                os.write(self._fd, self._line(state, "", self._engine.ended()[:MAX_ENDED_SERVING]))
        except OSError:
            self._fd = -1

    def write_last(self, state: str, error: str = "") -> None:
        """Write the last line, however long it is; a reader that doesn't read is waited for, but not for ever."""
        if not self.wanted:
            return
        line = self._line(state, error, self._engine.ended())
        deadline = time.monotonic() + LAST_LINE_SECONDS
        try:
            while line and self._ready(max(0.0, deadline - time.monotonic())):
                line = line[os.write(self._fd, line[: select.PIPE_BUF]) :]
        except OSError:
            self._fd = -1

    def _line(self, state: str, error: str, ended: list[dict[str, int | str]]) -> bytes:
        import json

        return json.dumps({**self._engine.stats(), "ended": ended, "state": state, "error": error}).encode() + b"\n"

    def _ready(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(seconds * 1000))
