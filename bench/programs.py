"""Real programs migrated under load: how fast they work before, during and after, and that they hold the right data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.cases import ProgramCase
from bench.handmade import DIRECTORY, ByHand, Migration, MigrationError, kill_session, lazy_migrate_by_hand
from bench.measure import DAEMONS
from testbed import Host, Testbed, TestbedError, prepare

MODULE = "bench.workload"
RESULT = f"{DIRECTORY}/workload.json"
REDIS = ("redis-server", "--save", "", "--bind", "0.0.0.0", "--protected-mode", "no", "--appendonly", "no")
JAVA_PACKAGE = "openjdk-21-jdk-headless"
JAVA_LAYER_DIRECTORY = Path("opt/java")
# Data is about two thirds of the heap. Pages never touched before would look like ones that came over the link.
JVM_OPTIONS = ("-XX:+AlwaysPreTouch", "-XX:-UsePerfData", "-Xshare:off")

FILL_SECONDS = 120.0
CHECK_SECONDS = 180.0
TRANSFER_SECONDS = 240.0
WARM_UP_SECONDS = 3.0  # a JVM compiles what it runs often
BEFORE_SECONDS = 2.0
AFTER_SECONDS = 2.0  # how long it works on after the daemon's end
WINDOW_SECONDS = 0.5  # "back" is a window like this one at BACK_SHARE of the speed before
WINDOW_STEP_SECONDS = 0.05
BACK_SHARE = 0.9


@dataclass
class ProgramRun:
    """The figures of one migration of a program."""

    case: str
    daemon: str
    repeat: int
    mib: int  # of records
    finished: bool  # all pages came (always: a program can't be held)
    seconds: float  # from resume until the last page
    exit_s: float
    mb_per_s: float
    before_per_s: float  # operations a second, of the BEFORE_SECONDS up to the dump
    during_per_s: float  # the same from resume until the last page
    during_share: float  # that, over the one before
    lost_s: float  # so many seconds of work were lost from the resume until AFTER_SECONDS after the daemon's end
    back_s: float | None  # from resume until it works at BACK_SHARE again; None: not that soon
    cpu_s_per_gb: float | None
    source_cpu_s_per_gb: float | None
    requests: int | None
    dump_s: float
    restore_s: float
    checked: int  # records, at the end
    windows_per_s: list[float]  # operations a second in windows of WINDOW_SECONDS since the resume

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Timeline:
    """How many operations were done by when; between two samples they are spread evenly."""

    def __init__(self, samples: Sequence[Sequence[float]]) -> None:
        """`samples`: (CLOCK_MONOTONIC seconds, operations), both growing. Raises MigrationError if there are none."""
        if not samples:
            raise MigrationError("the program did nothing")
        self._at = [sample[0] for sample in samples]
        self._operations = [sample[1] for sample in samples]

    def operations(self, at: float) -> float:
        """Done by then."""
        i = bisect_left(self._at, at)
        if i == 0:
            return self._operations[0]
        if i == len(self._at):
            return self._operations[-1]
        share = (at - self._at[i - 1]) / (self._at[i] - self._at[i - 1])
        return self._operations[i - 1] + share * (self._operations[i] - self._operations[i - 1])

    def rate(self, start: float, end: float) -> float:
        """Operations a second."""
        return (self.operations(end) - self.operations(start)) / (end - start)

    def lost(self, start: float, end: float, rate: float) -> float:
        """Seconds of work at that rate which were not done in between."""
        return (end - start) - (self.operations(end) - self.operations(start)) / rate

    def back_at(self, start: float, end: float, rate: float) -> float | None:
        """When the first window that begins after `start`, ends before `end`, and has that rate, begins."""
        steps = int((end - WINDOW_SECONDS - start) / WINDOW_STEP_SECONDS)
        windows = (start + step * WINDOW_STEP_SECONDS for step in range(steps + 1))
        return next((at for at in windows if self.rate(at, at + WINDOW_SECONDS) >= rate), None)


class OwnLoad:
    """A program that works by itself: Python, SQLite, the JVM."""

    def __init__(self, tb: Testbed, name: str, mib: int) -> None:
        self._tb = tb
        for host in (tb.src, tb.dst):
            host.run(["sh", "-c", f"mkdir -p {DIRECTORY} && rm -f {RESULT}"])
        if name == "jvm":
            heap = f"{mib * 3 // 2}m"
            command = ["/opt/java/bin/java", f"-Xms{heap}", f"-Xmx{heap}", *JVM_OPTIONS, "-cp", "/opt/java/bench"]
            command += ["Workload", str(mib), RESULT]
        else:
            command = ["/usr/bin/python3", "-m", MODULE, name, "--mib", str(mib), "--result", RESULT]
        self.pid = tb.src.start(command)
        self._await(tb.src, "filled", FILL_SECONDS)

    def pause(self) -> float:
        """Before the dump; when the work ended."""
        return time.monotonic()

    def resume(self) -> None:
        """After the restore."""

    def end(self) -> dict[str, Any]:
        """Let it check its data; the outcome. Raises MigrationError if there is none."""
        self._tb.dst.run(["kill", "-TERM", str(self.pid)])
        return self._await(self._tb.dst, "checked", CHECK_SECONDS)

    def kill(self) -> None:
        """End it wherever it is."""
        kill_session(self._tb.src, self.pid)
        kill_session(self._tb.dst, self.pid)

    def _await(self, host: Host, state: str, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads((host.root / RESULT.lstrip("/")).read_text())
                if found.get("state") == state:
                    return dict(found)
            if not (host.root / f"proc/{self.pid}").exists():
                raise MigrationError(f"the program {self.pid} on {host.name} ended before it was {state}")
            time.sleep(0.02)
        raise MigrationError(f"the program {self.pid} on {host.name} was not {state} after {seconds:g} s")


class RedisLoad:
    """redis-server, and the client that works it from the client host; if paused, the client connects anew afterwards.

    `address`: by which the client reaches it.
    """

    def __init__(self, tb: Testbed, mib: int, address: str, write_percent: int = 50) -> None:
        self._tb = tb
        self.pid = tb.src.start(REDIS)
        self._await_server()
        command = ["python3", "-m", MODULE, "redis", address, "--mib", str(mib)]
        command += ["--write-percent", str(write_percent)]
        self._client = tb.client.popen(command, stdin=-1, stdout=-1, text=True)
        try:
            self._answer("filled")
        except BaseException:
            self.kill()
            raise

    def pause(self) -> float:
        self._order("pause")
        return float(self._answer("paused")["at"])

    def resume(self) -> None:
        self._order(f"go {self._tb.dst.service_address}")

    def end(self) -> dict[str, Any]:
        self._order("end")
        outcome = self._answer("checked")
        self.kill()
        return outcome

    def kill(self) -> None:
        self._client.kill_session()
        self._client.wait()
        kill_session(self._tb.src, self.pid)
        kill_session(self._tb.dst, self.pid)

    def _await_server(self) -> None:
        deadline = time.monotonic() + FILL_SECONDS
        while self._tb.src.run(["redis-cli", "ping"], check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise MigrationError("redis-server doesn't answer")
            time.sleep(0.05)

    def _order(self, order: str) -> None:
        assert self._client.stdin is not None
        self._client.stdin.write(f"{order}\n")
        self._client.stdin.flush()

    def _answer(self, state: str) -> dict[str, Any]:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            found = json.loads(line)
            if found["state"] == state:
                return dict(found)
        raise MigrationError(f"the Redis client ended with status {self._client.wait()} before it was {state}")


def measure_program(tb: Testbed, case: ProgramCase, daemon: str, repeat: int, mib: int) -> ProgramRun:
    """Migrate the program once and check all its records. Raises MigrationError; no program is left then."""
    if case.program == "jvm":
        install_java(tb)
    is_redis = case.program == "redis"
    load = RedisLoad(tb, mib, tb.src.service_address) if is_redis else OwnLoad(tb, case.program, mib)
    with killed_at_failure(load):
        time.sleep(WARM_UP_SECONDS)
        paused = load.pause()
        done = lazy_migrate_by_hand(
            tb, load.pid, ByHand(daemon=DAEMONS[daemon], on_resume=load.resume, timeout=TRANSFER_SECONDS)
        )
        time.sleep(AFTER_SECONDS)
        ended = time.monotonic()
        outcome = load.end()
    require_all_right(outcome, mib)
    return figures(case, daemon, repeat, mib, done, outcome, paused, ended)


def require_all_right(outcome: dict[str, Any], mib: int) -> None:
    """Raises MigrationError unless each of the records was checked, and none was ever wrong."""
    expected = mib * (1 << 20) // 1024
    if outcome["wrong"] or outcome["checked"] != expected:
        raise MigrationError(f"{outcome['wrong']} records were wrong; {outcome['checked']} of {expected} were checked")


def figures(
    case: ProgramCase,
    daemon: str,
    repeat: int,
    mib: int,
    done: Migration,
    outcome: dict[str, Any],
    paused: float,
    ended: float,
) -> ProgramRun:
    """A migration and a program's outcome as figures. `paused`, `ended`: when it began, when the work was stopped."""
    timeline = Timeline(outcome["timeline"])
    resumed, last_page = done.resumed_at, done.resumed_at + done.transfer_seconds
    before = timeline.rate(paused - BEFORE_SECONDS, paused)
    during = timeline.rate(resumed, last_page)
    back_at = timeline.back_at(resumed, ended, BACK_SHARE * before)
    windows = int((ended - resumed) / WINDOW_SECONDS)
    starts = [resumed + i * WINDOW_SECONDS for i in range(windows)]
    return ProgramRun(
        case=case.name,
        daemon=daemon,
        repeat=repeat,
        mib=mib,
        finished=True,
        seconds=done.transfer_seconds,
        exit_s=done.exit_seconds,
        mb_per_s=done.rate / 1e6,
        before_per_s=before,
        during_per_s=during,
        during_share=during / before,
        lost_s=timeline.lost(resumed, ended, before),
        back_s=None if back_at is None else back_at - resumed,
        cpu_s_per_gb=done.per_gb(done.cpu_seconds),
        source_cpu_s_per_gb=done.per_gb(done.source_cpu_seconds),
        requests=done.engine.get("requests"),
        dump_s=done.dump_seconds,
        restore_s=done.restore_seconds,
        checked=outcome["checked"],
        windows_per_s=[round(timeline.rate(start, start + WINDOW_SECONDS), 1) for start in starts],
    )


@contextlib.contextmanager
def killed_at_failure(load: OwnLoad | RedisLoad) -> Iterator[None]:
    """No program is left if the body fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            load.kill()
        raise


def install_java(tb: Testbed) -> None:
    """Put a Java runtime with Workload.class into /opt/java of src and dst. Raises TestbedError.

    It is made once and kept beside the testbed's other layers; hosts that don't ask for it are not touched.
    """
    layer = java_layer()
    for host in (tb.src, tb.dst):
        target = host.root / JAVA_LAYER_DIRECTORY
        if not target.exists():
            shutil.copytree(layer, target, symlinks=True)


def java_layer() -> Path:
    """A directory with the runtime that jlink makes of Debian's JDK, and the compiled Workload."""
    source = Path(__file__).with_name("Workload.java").read_text()
    script = f"""
        mkdir -p /usr/share/man/man1
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install {JAVA_PACKAGE} >/dev/null 2>&1
        jlink --add-modules java.base,jdk.unsupported --strip-debug --no-man-pages --no-header-files --output /opt/java
        javac -nowarn -d /opt/java/bench /build/Workload.java
    """
    digest = hashlib.sha256((source + script).encode()).hexdigest()[:12]
    layers = prepare.prepare()
    with prepare.locked(prepare.CACHE / "lock"):
        layer = layers.recipe_directory / f"java-{digest}"
        prepare.make(layer, lambda target: _build_java(layers.recipe_directory / "base", target, script, source))
    return layer


def _build_java(base: Path, target: Path, script: str, source: str) -> None:
    prepare.say(f"making a Java runtime of Debian's {JAVA_PACKAGE} (once; some seconds)")
    upper = target.with_name("java-build")
    files = {
        "build/Workload.java": source,
        "usr/sbin/policy-rc.d": prepare.POLICY_NO_SERVICES,
        "etc/resolv.conf": prepare.read_or_empty("/etc/resolv.conf"),
    }
    prepare.build_over([base], upper, script, f"can't install {JAVA_PACKAGE}; see `apt-get update`", files=files)
    made = upper / JAVA_LAYER_DIRECTORY
    if not made.is_dir():
        raise TestbedError(f"{JAVA_PACKAGE} has no jlink")
    made.rename(target)
