"""Lazy migrations by hand between two testbed hosts: an unmodified `criu dump --lazy-pages`, a copy of the images,
a lazy-pages daemon (stock's or ours), `criu restore --lazy-pages`; and memtask, the task that is migrated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import resource
import secrets
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError
from testbed import Host, HostProcess, Testbed

STOCK = ("criu", "lazy-pages")
OURS = ("criu-lazy", "lazy-pages")

PORT = 27000
PUSH_PORT = 27001
PROXY_PORT = 27002
DIRECTORY = "/var/tmp/handmade"
READY_SECONDS = 60.0
# The parts of c_src that simulate.c runs.
SIMULATED = (
    "images/image",
    "base/shared_bits",
    *(
        f"destination/{part}"
        for part in ("address_space", "flow", "fork_advice", "readahead", "regions", "schedule", "undo_log")
    ),
)
SAMPLE_SECONDS = 0.003
PEAK_EVERY = 16  # samples
# The kernel counts resident pages per CPU and sums them up later; libraries' data pages come only when used.
SETTLED_PAGES = 256
MOST_POINTS = 200


class MigrationError(CriuLazyError):
    """A step of a migration by hand failed; the message holds the end of its log."""


def answer_of(process: HostProcess, timeout: float, command: str = "migrate") -> Any:
    """The JSON that `criu-lazy COMMAND` prints at its end. Raises MigrationError if its status isn't 0."""
    try:
        said, errors = process.communicate(timeout=timeout)
    finally:
        process.kill_session()
    if process.returncode != 0:
        raise MigrationError(f"criu-lazy {command} ended with status {process.returncode}: {errors.strip()[-500:]}")
    return json.loads(said)


# --- memtask ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class MemTask:
    """A running memtask; it keeps its pid and paths when it moves."""

    pid: int
    status_path: str

    def status(self, host: Host, timeout: float = 60) -> dict[str, Any]:
        """Ask for its state (the keys are in memtask.c). Raises MigrationError when it doesn't answer."""
        path = host.root / self.status_path.lstrip("/")
        before = _read_json(path)
        host.run(["kill", "-USR2", str(self.pid)])
        return self._await(host, lambda now: now["seq"] > before.get("seq", 0), timeout)

    def toggle(self, host: Host) -> None:
        """Hold the pattern, or let it go on."""
        host.run(["kill", "-USR1", str(self.pid)])

    def verify(self, host: Host, timeout: float = 300) -> dict[str, Any]:
        """End it with a check of every page; returns its last state. Raises MigrationError if a byte was wrong."""
        host.run(["kill", "-TERM", str(self.pid)])
        verdict = self._await(host, lambda now: now.get("state") == "verified", timeout)
        if verdict["errors"] or verdict["children_bad"]:
            in_child = host.run(["sh", "-c", f"cat {self.status_path}.child 2>&-"], check=False).stdout
            raise MigrationError(
                f"memtask saw wrong memory: {verdict['errors']} times, the first: {verdict['first_error']!r}; "
                f"in {verdict['children_bad']} forked children: {in_child!r}"
            )
        return verdict

    def kill(self, host: Host) -> None:
        """End it and its children, if it is there."""
        kill_session(host, self.pid)

    def _await(self, host: Host, wanted: Any, timeout: float) -> dict[str, Any]:
        path = host.root / self.status_path.lstrip("/")
        process = host.root / f"proc/{self.pid}"
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            state = _read_json(path)
            if state and wanted(state):
                return state
            if not process.exists():
                state = _read_json(path)
                if state and wanted(state):
                    return state
                raise MigrationError(f"memtask {self.pid} on {host.name} ended without a word")
            time.sleep(0.01)
        raise MigrationError(f"memtask {self.pid} on {host.name} gave no answer in {timeout:g} s")


def install(tb: Testbed, *programs: str) -> None:
    """Compile `programs` (names of this directory's C files) into /usr/local/bin of both hosts. Raises TestbedError."""
    for program in programs:
        built = f"/usr/local/bin/{program}"
        if (tb.dst.root / built.lstrip("/")).exists():
            continue
        for source in Path(__file__).parent.glob(f"{program}*.[ch]"):
            tb.src.write(f"/usr/local/src/{source.name}", source.read_text())
        tb.src.run(["cc", "-std=c11", "-O2", "-o", built, f"/usr/local/src/{program}.c", "-pthread", "-lm"])
        # The same file on both: the restored task maps it.
        tb.dst.write(built, (tb.src.root / built.lstrip("/")).read_bytes(), mode=0o755)


def install_simulator(tb: Testbed) -> None:
    """Compile simulate.c with the engine's own schedule into /usr/local/bin of tb.src. Raises TestbedError."""
    if (tb.src.root / "usr/local/bin/simulate").exists():
        return
    here = Path(__file__).resolve().parent
    engine = here.parent / "c_src"
    where = "/usr/local/src/simulate"
    parts = [*engine.glob("**/*.h"), *(engine / f"{part}.c" for part in SIMULATED)]
    files = {name: here / name for name in ("simulate.c", "traces.h")} | {"check.h": here.parent / "tests/c/check.h"}
    files |= {str(part.relative_to(engine)): part for part in parts}
    for name, part in files.items():
        tb.src.write(f"{where}/{name}", part.read_text())
    sources = [f"{where}/{name}" for name in files if name.endswith(".c")]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{where}"]
    build = ["cc", *flags, "-o", "/usr/local/bin/simulate", *sources, "-lm"]
    tb.src.run(build)


def start_memtask(tb: Testbed, *options: str, name: str = "memtask") -> MemTask:
    """Start memtask on tb.src with `options` (without --status) and wait until its memory is filled. `name`: of its
    file; no other task's that runs."""
    install(tb, "memtask")
    path = f"{DIRECTORY}/{name}.json"
    for host in (tb.src, tb.dst):
        host.run(["sh", "-c", f"mkdir -p {DIRECTORY} && rm -f {path} {path}.child {path}.new"])
    started = tb.src.run(["memtask", *options, "--status", path])
    return MemTask(int(started.stdout), path)


@contextlib.contextmanager
def migrated_memtask(tb: Testbed, *options: str, name: str = "memtask") -> Iterator[MemTask]:
    """Start memtask as start_memtask does, to be migrated and verified in the context; on an error none is left."""
    task = start_memtask(tb, *options, name=name)
    try:
        yield task
    except BaseException:
        with contextlib.suppress(Exception):
            task.kill(tb.src)
            task.kill(tb.dst)
        raise


def kill_session(host: Host, pid: int) -> None:
    """SIGKILL a task's session in a host, if it is there."""
    host.run(["pkill", "-KILL", "-s", str(pid)], check=False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# --- migration ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Migration:
    """What one migration by hand took. Times in seconds; `resumed` is when `criu restore` had returned."""

    resumed_at: float = 0.0  # on CLOCK_MONOTONIC
    dump_seconds: float = 0.0  # until the page server listened: the task is frozen for most of it
    copy_seconds: float = 0.0  # of the images
    restore_seconds: float = 0.0
    transfer_seconds: float = 0.0  # resumed until the last page (or the end of the window)
    exit_seconds: float = 0.0  # resumed until the daemon had ended (which says that the source may go)
    transfer_bytes: int = 0  # that the task's resident memory grew by in that time
    finished: bool = True  # False: the window ended before the last page
    cpu_seconds: float = 0.0  # the daemon's, user and system, from the resume to its end, or to the window's
    source_cpu_seconds: float = 0.0  # the same of criu dump, and of our page server
    peak_bytes: int = 0  # the most memory that the daemon had resident (shared memory with it)
    source_peak_bytes: int = 0  # criu dump's most, and our page server's
    # Seconds since the resume, bytes that had come by then.
    arrived: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    engine: dict[str, Any] = dataclasses.field(default_factory=dict)  # our daemon's last --stats-fd line
    window_status: dict[str, Any] = dataclasses.field(default_factory=dict)  # memtask's state then

    @property
    def rate(self) -> float:
        """Bytes per second from resume until the last page, or over the window."""
        return self.transfer_bytes / self.transfer_seconds if self.transfer_seconds > 0 else 0.0

    def per_gb(self, seconds: float) -> float | None:
        """Seconds of CPU time for each GB of memory transferred."""
        return seconds / (self.transfer_bytes / 1e9) if self.transfer_bytes else None


@dataclasses.dataclass(frozen=True)
class ByHand:
    """How one migration by hand is to be made.

    `window_seconds` (MemTask only): if pages are missing by then, measure up to there, and hold the task's pattern
    so that the rest comes fast. `on_resume` is called as soon as the restored task runs. `push_streams`, with our
    daemon: criu-lazy page-server stands before the dump and pushes by so many connections; `encrypt`: by TLS.
    `proxied`: the daemon's connections go through a TCP proxy on its host.
    """

    daemon: Sequence[str] = OURS
    daemon_options: Sequence[str] = ()
    dump_options: Sequence[str] = ()
    restore_options: Sequence[str] = ()
    window_seconds: float | None = None
    on_resume: Callable[[], None] | None = None
    timeout: float = 300
    log_level: int = 2
    push_streams: int = 0
    encrypt: bool = False
    proxied: bool = False


def lazy_migrate_by_hand(tb: Testbed, task: MemTask | int, how: ByHand = ByHand()) -> Migration:
    """Move `task` (a MemTask, or the pid of any session leader) from tb.src to tb.dst; returns after the last page.

    Raises MigrationError, with the end of the log of what failed; nothing of the migration
    runs on then, and the restored task is gone (the source task may live).
    """
    with contextlib.ExitStack() as stack:
        migration = _Steps(tb, task, how, stack)
        migration.dump()
        migration.copy_images()
        migration.start_daemon()
        migration.restore()
        migration.follow()
        migration.end()
    return migration.result


class _Steps:
    """The steps of one migration by hand, in their order; what they start ends with `stack`."""

    def __init__(self, tb: Testbed, task: MemTask | int, how: ByHand, stack: contextlib.ExitStack) -> None:
        self._tb, self._task, self._how, self._stack = tb, task, how, stack
        self._pid = task if isinstance(task, int) else task.pid
        self._images = f"{DIRECTORY}/images"
        self._verbosity = f"-v{how.log_level}"
        self._full_pages = 0
        self._sources: list[HostProcess] = []
        self._stats = _StatsReader() if tuple(how.daemon[:2]) == OURS else None
        if self._stats is not None:
            stack.callback(self._stats.close)
        self.result = Migration()
        for host in (tb.src, tb.dst):
            host.run(["sh", "-c", f"rm -rf {self._images} && mkdir -p {self._images}"])

    def dump(self) -> None:
        """Freeze the task and write its metadata, until the dump listens."""
        began = time.monotonic()
        command = ["criu", "dump", "--lazy-pages", "-o", "dump.log", self._verbosity, "-t", str(self._pid)]
        command += ["-D", self._images, "--address", self._tb.src.address, "--port", str(PORT), *self._how.dump_options]
        self._sources.append(self._start(self._tb.src, command, "dump.log"))
        self.result.dump_seconds = time.monotonic() - began
        self._full_pages = _resident_pages(self._tb.src, self._pid) or 0
        _check_lazy(self._tb.src, self._images, self._full_pages)

    def copy_images(self) -> None:
        began = time.monotonic()
        _copy_images(self._tb, self._images)
        self.result.copy_seconds = time.monotonic() - began

    def start_daemon(self) -> None:
        """The page server, if there is to be one, and the daemon at the destination."""
        serve = [*self._how.daemon, "-o", "lazy-pages.log", "--page-server", self._verbosity, "-D", self._images]
        port, key = PORT, _new_key(self._tb) if self._how.push_streams and self._how.encrypt else None
        if self._how.push_streams:
            port = PUSH_PORT
            upstream = f"{self._tb.src.address}:{PORT}"
            push = ["criu-lazy", "page-server", "--upstream", upstream, "--address", self._tb.src.address]
            push += ["--tls-psk", key] if key is not None else ["--plain"]
            push += ["--port", str(port), "--tree", str(self._pid), "--images", self._images]
            push += ["-o", f"{self._images}/page-server.log"]
            self._sources.append(self._start(self._tb.src, push, "page-server.log"))
            serve += [f"--push={self._how.push_streams}", *(["--tls-psk", key] if key is not None else [])]
        address = self._tb.src.address
        if self._how.proxied:
            self._start_proxy(port)
            address, port = "127.0.0.1", PROXY_PORT
        serve += ["--address", address, "--port", str(port), *self._how.daemon_options]
        if self._stats is not None:
            serve += ["--stats-fd", str(self._stats.write_fd)]
        self._server = self._start(self._tb.dst, serve, "lazy-pages.log", self._stats.write_fd if self._stats else None)
        if self._stats is not None:
            self._stats.start()

    def _start_proxy(self, port: int) -> None:
        program = f"{DIRECTORY}/relay.py"
        self._tb.dst.write(program, (Path(__file__).parent / "relay.py").read_text())
        command = ["python3", program, str(PROXY_PORT), self._tb.src.address, str(port)]
        proxy = self._stack.enter_context(self._tb.dst.popen(command, stdout=subprocess.PIPE, text=True))
        self._stack.callback(proxy.kill_session)
        assert proxy.stdout is not None
        if proxy.stdout.readline().strip() != "ready":
            raise MigrationError("the TCP proxy did not get ready")

    def restore(self) -> None:
        """Until `criu restore` has returned: the task runs."""
        began = time.monotonic()
        command = ["criu", "restore", "-d", "--lazy-pages", "-o", "restore.log", self._verbosity, "-D", self._images]
        restored = self._tb.dst.run([*command, *self._how.restore_options], check=False, timeout=self._how.timeout)
        self._resumed = self.result.resumed_at = time.monotonic()
        self.result.restore_seconds = self._resumed - began
        if restored.returncode != 0:
            raise MigrationError(f"criu restore failed: {_tail(self._tb.dst, f'{self._images}/restore.log')}")
        self._kill_if_failed = self._stack.enter_context(contextlib.ExitStack())
        self._kill_if_failed.callback(kill_session, self._tb.dst, self._pid)
        if self._how.on_resume is not None:
            self._how.on_resume()

    def follow(self) -> None:
        """Watch the task's memory grow until the daemon has ended."""
        result = self.result
        curve = _ResidentCurve(self._tb.dst, self._pid, self._full_pages)
        # What starting an interpreter, loading images and dumping takes is no cost of the transfer.
        self._cost, self._source_cost = _Cost([self._server]), _Cost(self._sources)
        while not self._cost.ends(self._server, SAMPLE_SECONDS):
            curve.sample()
            if curve.samples % PEAK_EVERY == 0:
                self._cost.sample_peaks()
                self._source_cost.sample_peaks()
            elapsed = time.monotonic() - self._resumed
            if elapsed > self._how.timeout:
                log = _tail(self._tb.dst, f"{self._images}/lazy-pages.log")
                raise MigrationError(f"not all pages came in {self._how.timeout:g} s: {log}")
            window = self._how.window_seconds
            if result.finished and window is not None and elapsed > window:
                self._end_window(elapsed, curve)
        result.exit_seconds = time.monotonic() - self._resumed
        self._source_cost.sample_peaks()
        curve.sample()
        result.arrived = curve.since(self._resumed)
        if result.finished:
            result.transfer_seconds = curve.last_page_at() - self._resumed
            result.transfer_bytes, result.cpu_seconds = curve.grown_bytes(), self._cost.spent

    def _end_window(self, elapsed: float, curve: _ResidentCurve) -> None:
        assert isinstance(self._task, MemTask)
        self.result.finished = False
        self.result.transfer_seconds, self.result.transfer_bytes = elapsed, curve.grown_bytes()
        self.result.cpu_seconds, self.result.source_cpu_seconds = self._cost.so_far(), self._source_cost.so_far()
        self.result.window_status = self._task.status(self._tb.dst)
        self._task.toggle(self._tb.dst)

    def end(self) -> None:
        """See that all that was started ended well."""
        if self._server.returncode != 0:
            log = _tail(self._tb.dst, f"{self._images}/lazy-pages.log")
            raise MigrationError(f"{' '.join(self._how.daemon)} ended with status {self._server.returncode}: {log}")
        names = (("criu dump", "dump.log"), ("criu-lazy page-server", "page-server.log"))
        for source, (name, log) in zip(self._sources, names, strict=False):
            if not self._source_cost.ends(source, 60):
                raise MigrationError(f"{name} didn't end")
            if source.returncode != 0:
                said = _tail(self._tb.src, f"{self._images}/{log}")
                raise MigrationError(f"{name} ended with status {source.returncode}: {said}")
            self._kill_if_failed.pop_all()  # from criu dump's end on the restored task is the only one
        if self.result.finished:
            self.result.source_cpu_seconds = self._source_cost.spent
        self.result.peak_bytes = self._cost.peak_bytes()
        self.result.source_peak_bytes = self._source_cost.peak_bytes()
        if self._stats is not None:
            self.result.engine = self._stats.last()

    def _start(self, host: Host, argv: Sequence[str], log: str, keep_fd: int | None = None) -> HostProcess:
        return self._stack.enter_context(_started(host, argv, f"{self._images}/{log}", keep_fd))


@contextlib.contextmanager
def _started(host: Host, argv: Sequence[str], log: str, keep_fd: int | None = None) -> Iterator[HostProcess]:
    """Start a criu command that tells by --status-fd when it is ready, and wait for that. It ends with the context."""
    ready, tell = os.pipe()
    kept = [tell] if keep_fd is None else [tell, keep_fd]
    # Not a pipe: nobody reads while it runs.
    with tempfile.TemporaryFile() as output:
        process = host.popen([*argv, "--status-fd", str(tell)], pass_fds=kept, stdout=output, stderr=output)
        os.close(tell)
        try:
            readable, _, _ = select.select([ready], [], [], READY_SECONDS)
            if not readable or not os.read(ready, 1):
                status = process.wait(10) if readable else "none: it hangs"
                output.seek(0)
                said = output.read().decode(errors="replace").strip()[-500:]
                what = f"{' '.join(argv[:2])} did not get ready (status {status})"
                raise MigrationError(f"{what}: {said} {_tail(host, log)}")
            yield process
        finally:
            os.close(ready)
            if process.poll() is None:
                process.kill_session()
            process.wait()


def _check_lazy(host: Host, images: str, full_pages: int) -> None:
    """A thread whose stack pointer is page aligned makes criu dump put all pages into the images."""
    in_images = sum(image.stat().st_size for image in (host.root / images.lstrip("/")).glob("pages-*.img"))
    if in_images > full_pages * resource.getpagesize() / 2:
        raise MigrationError(f"criu dump wrote {in_images >> 20} MiB of pages into {images}: they are not lazy")


def _copy_images(tb: Testbed, images: str) -> None:
    source, target = (host.root / images.lstrip("/") for host in (tb.src, tb.dst))
    for image in source.iterdir():
        if image.suffix != ".log":
            shutil.copyfile(image, target / image.name)


class _Cost:
    """What the processes of one end take from now on."""

    def __init__(self, processes: Sequence[HostProcess]) -> None:
        self._peaks = dict.fromkeys(processes, 0)
        self._began = {process: _cpu_seconds(process) for process in processes}
        self.spent = 0.0  # user and system seconds of those that have ended
        self.sample_peaks()

    def so_far(self) -> float:
        """User and system seconds of them all, while none has ended."""
        return sum(_cpu_seconds(process) - began for process, began in self._began.items())

    def ends(self, process: HostProcess, seconds: float) -> bool:
        """Wait that long for the end of one. No other child may be waited for meanwhile."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.spent += took - self._began[process]
        return True

    def sample_peaks(self) -> None:
        """Note how much memory they had at the most; nothing tells once they have ended."""
        for process, most in self._peaks.items():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.inner_pid()}/status").read_text()
                found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
                self._peaks[process] = max(most, int(found[1]) * 1024 if found else 0)

    def peak_bytes(self) -> int:
        """The most of each, summed."""
        return sum(self._peaks.values())


def _cpu_seconds(process: HostProcess) -> float:
    """User and system time of a process that runs. Raises MigrationError if it doesn't."""
    try:
        fields = Path(f"/proc/{process.inner_pid()}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise MigrationError("the daemon or its source ended before it could be measured") from error
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _new_key(tb: Testbed) -> str:
    """The path, on both hosts, of a new key for TLS between page server and daemon."""
    path, key = f"{DIRECTORY}/key", f"{secrets.token_hex(32)}\n"
    for host in (tb.src, tb.dst):
        host.write(path, key, mode=0o600)
    return path


def _tail(host: Host, path: str) -> str:
    lines = host.run(["sh", "-c", f"grep -E 'Error|Warn' {path} | tail -n 5; tail -n 2 {path}"], check=False).stdout
    return f"{path} on {host.name} ends: {lines.strip()!r}"


def _resident_pages(host: Host, pid: int) -> int | None:
    """A task's anonymous memory that is there: reading it needs no page of the task. None where there is no task."""
    try:
        status = (host.root / f"proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 // resource.getpagesize() if found else None


class _ResidentCurve:
    """How a restored task's memory grows to the `full_pages` that it had at the source."""

    def __init__(self, host: Host, pid: int, full_pages: int) -> None:
        self._host, self._pid, self._full_pages = host, pid, full_pages
        self._samples: list[tuple[float, int]] = []
        self.sample()
        if not self._samples:
            raise MigrationError(f"the restored task {pid} ended at once")

    @property
    def samples(self) -> int:
        return len(self._samples)

    def sample(self) -> None:
        """Note how much there is now."""
        pages = _resident_pages(self._host, self._pid)
        if pages is not None:
            self._samples.append((time.monotonic(), pages))

    def grown_bytes(self) -> int:
        """How much came so far; not what huge pages, given back after the last page, add to it."""
        pages = min(self._full_pages, self._samples[-1][1]) - self._samples[0][1]
        return max(0, pages) * resource.getpagesize()

    def since(self, start: float) -> list[tuple[float, int]]:
        """Seconds since `start`, bytes that had come by then; up to the last growth, some MOST_POINTS of them."""
        first = self._samples[0][1]
        last = next(i for i, (_, pages) in enumerate(self._samples) if pages >= self._samples[-1][1])
        thinned = [*self._samples[: last : max(1, last // MOST_POINTS)], self._samples[last]]
        return [(when - start, max(0, pages - first) * resource.getpagesize()) for when, pages in thinned]

    def last_page_at(self) -> float:
        """When, of all samples, there were first all pages."""
        full = min(self._full_pages, self._samples[-1][1]) - SETTLED_PAGES
        return next(when for when, pages in self._samples if pages >= full)


class _StatsReader:
    """Reads our daemon's --stats-fd so that its pipe never fills up; keeps the last line."""

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()
        self._lines: list[str] = [""]
        self._thread = threading.Thread(target=self._read, name="stats", daemon=True)

    def start(self) -> None:
        """After the daemon has its end of the pipe."""
        os.close(self.write_fd)
        self.write_fd = -1
        self._thread.start()

    def _read(self) -> None:
        with open(self._read_fd, encoding="utf-8", closefd=False) as lines:
            for line in lines:
                self._lines[0] = line

    def last(self) -> dict[str, Any]:
        """The last line, once the daemon has ended."""
        self._thread.join()
        found = json.loads(self._lines[0] or "{}")
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
        else:
            self._thread.join()
        os.close(self._read_fd)
