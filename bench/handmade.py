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
DIRECTORY = "/var/tmp/handmade"
READY_SECONDS = 60.0
SIMULATED = ("flow", "fork_advice", "readahead", "schedule", "address_space")  # the parts of c_src that simulate.c runs
SAMPLE_SECONDS = 0.003
PEAK_EVERY = 16  # samples
# The kernel counts resident pages per CPU and sums them up later; libraries' data pages come only when used.
SETTLED_PAGES = 256


class MigrationError(CriuLazyError):
    """A step of a migration by hand failed; the message holds the end of its log."""


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
        source = Path(__file__).with_name(f"{program}.c").read_text()
        tb.src.write(f"/usr/local/src/{program}.c", source)
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
    parts = [*engine.glob("**/*.h"), *(engine / f"destination/{part}.c" for part in SIMULATED)]
    files = {"simulate.c": here / "simulate.c"} | {str(part.relative_to(engine)): part for part in parts}
    for name, part in files.items():
        tb.src.write(f"{where}/{name}", part.read_text())
    sources = [f"{where}/{name}" for name in files if name.endswith(".c")]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{where}"]
    build = ["cc", *flags, "-o", "/usr/local/bin/simulate", *sources, "-lm"]
    tb.src.run(build)


def start_memtask(tb: Testbed, *options: str) -> MemTask:
    """Start memtask on tb.src with `options` (without --status) and wait until its memory is filled."""
    install(tb, "memtask")
    path = f"{DIRECTORY}/memtask.json"
    for host in (tb.src, tb.dst):
        host.run(["sh", "-c", f"mkdir -p {DIRECTORY} && rm -f {path} {path}.child {path}.new"])
    started = tb.src.run(["memtask", *options, "--status", path])
    return MemTask(int(started.stdout), path)


@contextlib.contextmanager
def migrated_memtask(tb: Testbed, *options: str) -> Iterator[MemTask]:
    """Start memtask as start_memtask does, to be migrated and verified in the context; on an error none is left."""
    task = start_memtask(tb, *options)
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
    engine: dict[str, Any] = dataclasses.field(default_factory=dict)  # our daemon's last --stats-fd line
    window_status: dict[str, Any] = dataclasses.field(default_factory=dict)  # memtask's state then

    @property
    def rate(self) -> float:
        """Bytes per second from resume until the last page, or over the window."""
        return self.transfer_bytes / self.transfer_seconds if self.transfer_seconds > 0 else 0.0

    def per_gb(self, seconds: float) -> float | None:
        """Seconds of CPU time for each GB of memory transferred."""
        return seconds / (self.transfer_bytes / 1e9) if self.transfer_bytes else None


def lazy_migrate_by_hand(
    tb: Testbed,
    task: MemTask | int,
    *,
    daemon: Sequence[str] = OURS,
    daemon_options: Sequence[str] = (),
    dump_options: Sequence[str] = (),
    restore_options: Sequence[str] = (),
    window_seconds: float | None = None,
    before_restore: Callable[[], None] | None = None,
    on_resume: Callable[[], None] | None = None,
    timeout: float = 300,
    log_level: int = 2,
    push_streams: int = 0,
    encrypt: bool = False,
) -> Migration:
    """Move `task` (a MemTask, or the pid of any session leader) from tb.src to tb.dst; returns after the last page.

    `window_seconds` (MemTask only): if pages are missing by then, measure up to there, and hold the task's pattern
    so that the rest comes fast. `before_restore` is called when only the restore is missing, `on_resume` as soon
    as the restored task runs. Raises MigrationError, with the end of the log of what failed; nothing of the migration
    runs on then, and the restored task is gone (the source task may live).

    `push_streams`, with our daemon: criu-lazy page-server stands before the dump and pushes by so many connections;
    `encrypt`: by TLS.
    """
    pid = task if isinstance(task, int) else task.pid
    images = f"{DIRECTORY}/images"
    for host in (tb.src, tb.dst):
        host.run(["sh", "-c", f"rm -rf {images} && mkdir -p {images}"])
    result = Migration()
    verbosity = f"-v{log_level}"
    with contextlib.ExitStack() as stack:
        # Dump: the task is frozen, its metadata written, the page server listens.
        began = time.monotonic()
        dump = ["criu", "dump", "--lazy-pages", "-o", "dump.log", verbosity, "-t", str(pid), "-D", images]
        dump += ["--address", tb.src.address, "--port", str(PORT), *dump_options]
        sources = [stack.enter_context(_started(tb.src, dump, f"{images}/dump.log"))]
        result.dump_seconds = time.monotonic() - began
        full_pages = _resident_pages(tb.src, pid) or 0
        _check_lazy(tb.src, images, full_pages)

        began = time.monotonic()
        _copy_images(tb, images)
        result.copy_seconds = time.monotonic() - began

        serve = [*daemon, "-o", "lazy-pages.log", "--page-server", verbosity, "-D", images]
        port = PORT
        if push_streams:
            port = PUSH_PORT
            push = ["criu-lazy", "page-server", "--upstream", f"{tb.src.address}:{PORT}", "--address", tb.src.address]
            if encrypt:
                key = _new_key(tb)
                push += ["--tls-psk", key]
            else:
                push.append("--plain")
            push += ["--port", str(port), "--tree", str(pid), "--images", images, "-o", f"{images}/page-server.log"]
            sources.append(stack.enter_context(_started(tb.src, push, f"{images}/page-server.log")))
            serve += [f"--push={push_streams}"]
            if encrypt:
                serve += ["--tls-psk", key]
        serve += ["--address", tb.src.address, "--port", str(port), *daemon_options]
        stats = _StatsReader() if tuple(daemon[:2]) == OURS else None
        if stats is not None:
            stack.callback(stats.close)
            serve += ["--stats-fd", str(stats.write_fd)]
        log = f"{images}/lazy-pages.log"
        server = stack.enter_context(_started(tb.dst, serve, log, stats.write_fd if stats else None))
        if stats is not None:
            stats.start()
        if before_restore is not None:
            before_restore()

        began = time.monotonic()
        restore = ["criu", "restore", "-d", "--lazy-pages", "-o", "restore.log", verbosity, "-D", images]
        restore += restore_options
        restored = tb.dst.run(restore, check=False, timeout=timeout)
        resumed = time.monotonic()
        result.restore_seconds, result.resumed_at = resumed - began, resumed
        if restored.returncode != 0:
            raise MigrationError(f"criu restore failed: {_tail(tb.dst, f'{images}/restore.log')}")
        kill_if_failed = stack.enter_context(contextlib.ExitStack())
        kill_if_failed.callback(kill_session, tb.dst, pid)

        if on_resume is not None:
            on_resume()
        curve = _ResidentCurve(tb.dst, pid, full_pages)
        # What starting an interpreter, loading images and dumping takes is no cost of the transfer.
        cost, source_cost = _Cost([server]), _Cost(sources)
        while not cost.ends(server, SAMPLE_SECONDS):
            curve.sample()
            if curve.samples % PEAK_EVERY == 0:
                cost.sample_peaks()
                source_cost.sample_peaks()
            elapsed = time.monotonic() - resumed
            if elapsed > timeout:
                raise MigrationError(f"not all pages came in {timeout:g} s: {_tail(tb.dst, log)}")
            if result.finished and window_seconds is not None and elapsed > window_seconds:
                assert isinstance(task, MemTask)
                result.finished = False
                result.transfer_seconds, result.transfer_bytes = elapsed, curve.grown_bytes()
                result.cpu_seconds, result.source_cpu_seconds = cost.so_far(), source_cost.so_far()
                result.window_status = task.status(tb.dst)
                task.toggle(tb.dst)
        result.exit_seconds = time.monotonic() - resumed
        source_cost.sample_peaks()
        curve.sample()
        if server.returncode != 0:
            raise MigrationError(f"{' '.join(daemon)} ended with status {server.returncode}: {_tail(tb.dst, log)}")
        if result.finished:
            result.transfer_seconds, result.transfer_bytes = curve.last_page_at() - resumed, curve.grown_bytes()
            result.cpu_seconds = cost.spent
        for source, name in zip(sources, ("criu dump", "criu-lazy page-server"), strict=False):
            if not source_cost.ends(source, 60):
                raise MigrationError(f"{name} didn't end")
            if source.returncode != 0:
                log = f"{images}/{'dump' if source is sources[0] else 'page-server'}.log"
                raise MigrationError(f"{name} ended with status {source.returncode}: {_tail(tb.src, log)}")
            kill_if_failed.pop_all()  # from criu dump's end on the restored task is the only one
        if result.finished:
            result.source_cpu_seconds = source_cost.spent
        result.peak_bytes, result.source_peak_bytes = cost.peak_bytes(), source_cost.peak_bytes()
        if stats is not None:
            result.engine = stats.last()
    return result


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
