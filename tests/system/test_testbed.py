"""The testbed: its hosts are apart, fit for CRIU, joined as asked, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paths import CHECKOUT

from testbed import Host, Testbed, TestbedError, instances
from testbed.command import main
from testbed.prepare import Sources, remove_unfinished, telling_lines
from testbed.recipe import Recipe

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the testbed needs root")


def eventually(happened: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait until it has happened; `seconds` only bounds the wait of a test that fails anyway."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def namespaces(pid: int | str) -> set[Path]:
    return {Path(f"/proc/{pid}/ns/{kind}").readlink() for kind in NAMESPACES}


def processes_of(hosts: list[int]) -> list[dict[str, int]]:
    """Every process that shares a namespace with one of the hosts, as pid and start time, which never recur.

    (Numbers of namespaces do: the next one made gets a dead one's.)
    """
    hosts_namespaces = set.union(*(namespaces(pid) for pid in hosts))
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and namespaces(entry.name) & hosts_namespaces:
                found.append(instances.process_identity(int(entry.name)))
    return [identity for identity in found if identity is not None]


def alive(processes: list[dict[str, int]]) -> list[dict[str, int]]:
    return [process for process in processes if instances.process_identity(process["pid"]) == process]


# --- hosts ------------------------------------------------------------------------------------------------------


def test_each_host_has_namespaces_of_its_own(testbed: Testbed) -> None:
    all_namespaces = [namespaces("self"), *(namespaces(host.pid) for host in testbed.hosts.values())]
    assert len(set.union(*all_namespaces)) == len(all_namespaces) * len(NAMESPACES)
    assert [host.run(["hostname"]).stdout.strip() for host in testbed.hosts.values()] == ["src", "dst", "client"]


def test_a_command_sees_only_its_own_host(testbed: Testbed) -> None:
    testbed.src.write("/var/only-here", "yes")
    assert testbed.src.read("/var/only-here") == "yes"
    assert (testbed.src.root / "var/only-here").read_text() == "yes"
    assert testbed.dst.run(["test", "-e", "/var/only-here"], check=False).returncode == 1
    assert not Path("/var/only-here").exists()


def test_ssh_needs_no_password_and_asks_nothing(testbed: Testbed) -> None:
    assert testbed.src.run(["ssh", "dst", "hostname"]).stdout == "dst\n"
    assert testbed.dst.run(["ssh", "src", "hostname"]).stdout == "src\n"


def test_the_client_reaches_both_hosts_services(testbed: Testbed) -> None:
    for host in (testbed.src, testbed.dst):
        testbed.client.run(["ping", "-q", "-c", "1", "-W", "5", host.service_address])


def test_the_checkouts_package_is_installed(testbed: Testbed) -> None:
    where = "import criu_lazy_ext, sys; sys.stdout.write(criu_lazy_ext.__path__[0])"
    for host in (testbed.src, testbed.dst):
        installed = host.root / host.run(["python3", "-c", where]).stdout.lstrip("/")
        assert (installed / "cli.py").read_bytes() == (CHECKOUT / "criu_lazy_ext/cli.py").read_bytes()
        host.run(["python3", "-c", "import criu_lazy_ext._engine, pycriu"])
        assert host.run(["criu-lazy", "--version"]).stdout.startswith("criu-lazy ")


def test_a_started_task_holds_nothing_of_the_driver(testbed: Testbed) -> None:
    task = testbed.src.start(["sleep", "1000"], log="/tmp/sleep.log")
    outer = testbed.src.outer_pid(task)
    try:
        assert namespaces(outer) == namespaces(testbed.src.pid)
        descriptors = {entry.name: str(entry.readlink()) for entry in Path(f"/proc/{outer}/fd").iterdir()}
        assert descriptors == {"0": "/dev/null", "1": "/tmp/sleep.log", "2": "/tmp/sleep.log"}
        parent, _, session = testbed.src.run(["ps", "-o", "ppid=,pgid=,sid=", "-p", str(task)]).stdout.split()
        assert (int(parent), int(session)) == (1, task)
    finally:
        testbed.src.run(["kill", "-9", str(task)])


def test_orphans_are_reaped(testbed: Testbed) -> None:
    orphan = int(testbed.src.run(["sh", "-c", "sleep 0.01 >&- 2>&- & echo $!"]).stdout)
    gone = ["test", "!", "-e", f"/proc/{orphan}"]
    eventually(lambda: testbed.src.run(gone, check=False).returncode == 0, "the orphan was reaped")


def test_pids_of_src_and_dst_lie_apart(testbed: Testbed) -> None:
    pids = [int(host.run(["sh", "-c", "echo $$"]).stdout) for host in (testbed.src, testbed.dst)]
    assert pids[0] > 10_000 > pids[1] > 300


def test_a_command_that_takes_too_long_is_killed_with_its_children(testbed: Testbed) -> None:
    with pytest.raises(TestbedError, match=r"took longer than 0\.5 s"):
        testbed.src.run(["sh", "-c", "echo $$ >/tmp/slow; sleep 1000; true"], timeout=0.5)
    pid = testbed.src.read("/tmp/slow").strip()
    left = testbed.src.run(["ps", "-o", "pid=", "-g", pid], check=False).stdout
    assert left == ""


def test_popen_signals_the_command_and_tells_its_end(testbed: Testbed) -> None:
    with testbed.src.popen(["sh", "-c", "trap 'exit 7' TERM; echo ready; sleep 1000 & wait"], stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(30) == 7


def test_a_failing_command_says_what_it_said(testbed: Testbed) -> None:
    with pytest.raises(TestbedError, match=r"host dst: `cat /nowhere` failed with status 1: .*No such file"):
        testbed.dst.run(["cat", "/nowhere"])


# --- the link ---------------------------------------------------------------------------------------------------


@pytest.fixture
def link_testbed(testbed: Testbed) -> Iterator[Testbed]:
    yield testbed
    testbed.link.mend()
    testbed.link.set(rate_mbit=None, rtt_ms=0.0)


def shortest_round_trip_ms(testbed: Testbed, to: str = "dst") -> float:
    said = testbed.src.run(["ping", "-q", "-c", "5", "-i", "0.01", to]).stdout
    found = re.search(r"rtt min/avg/max/mdev = ([\d.]+)/", said)
    assert found, said
    return float(found.group(1))


@pytest.mark.parametrize("rtt_ms", [1.0, 20.0])
def test_no_packet_is_faster_than_the_round_trip_asked_for(link_testbed: Testbed, rtt_ms: float) -> None:
    link_testbed.link.set(rtt_ms=rtt_ms)
    assert shortest_round_trip_ms(link_testbed) >= rtt_ms - 0.1
    assert shortest_round_trip_ms(link_testbed, to="dst6") >= rtt_ms - 0.1


@pytest.mark.parametrize("rtt_ms", [0.0, 2.0])
def test_no_stream_is_faster_than_the_rate_asked_for(link_testbed: Testbed, rtt_ms: float) -> None:
    link_testbed.link.set(rate_mbit=80, rtt_ms=rtt_ms)
    # 80 Mbit/s is 10 MB/s of frames; one bucket full may come on top.
    assert 0 < link_testbed.link.plain_tcp_rate(seconds=1) <= 10.1e6


ECHO_SERVER = """
import socket
server = socket.create_server(("", 5300))
print("ready", flush=True)
connection, _ = server.accept()
while block := connection.recv(65536):
    connection.sendall(block)
"""
ECHO_CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 5300))
for line in sys.stdin.buffer:
    connection.sendall(line)
    answer = b""
    while not answer.endswith(b"\\n"):
        answer += connection.recv(65536)
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
"""


class Echo:
    """One TCP connection from src to dst, over which lines are sent and come back."""

    def __init__(self, testbed: Testbed) -> None:
        self.server = testbed.dst.popen(["python3", "-c", ECHO_SERVER], stdout=-1)
        assert self.server.stdout is not None
        assert self.server.stdout.readline() == b"ready\n"
        client = ["python3", "-c", ECHO_CLIENT, testbed.dst.address]
        self.client = testbed.src.popen(client, stdin=-1, stdout=-1, bufsize=0)
        self.sent = 0

    def send(self) -> None:
        assert self.client.stdin is not None
        self.sent += 1
        self.client.stdin.write(b"%d\n" % self.sent)

    def comes_back(self) -> bool:
        assert self.client.stdout is not None
        return bool(self.client.stdout.readline() == b"%d\n" % self.sent)

    def is_silent(self, seconds: float) -> bool:
        assert self.client.stdout is not None
        os.set_blocking(self.client.stdout.fileno(), False)
        time.sleep(seconds)
        silent = self.client.stdout.read() is None
        os.set_blocking(self.client.stdout.fileno(), True)
        return silent

    def close(self) -> None:
        for process in (self.client, self.server):
            process.kill_session()
            process.communicate()


@pytest.mark.parametrize("rtt_ms", [0.0, 2.0])
def test_a_connection_survives_every_change_of_the_link(link_testbed: Testbed, rtt_ms: float) -> None:
    link = link_testbed.link
    link.set(rate_mbit=1000, rtt_ms=rtt_ms)
    echo = Echo(link_testbed)
    try:
        for change in ((None, 0.0), (1000, 1.0), (10, 0.0), (100, 5.0), (1000, rtt_ms)):
            link.set(*change)
            echo.send()
            assert echo.comes_back()
        link.cut()
        echo.send()
        assert echo.is_silent(0.5)
        link.mend()
        assert echo.comes_back()
    finally:
        echo.close()


def test_a_link_out_of_range_is_refused(testbed: Testbed) -> None:
    with pytest.raises(TestbedError, match="link rate 0 Mbit/s"):
        testbed.link.set(rate_mbit=0)
    with pytest.raises(TestbedError, match="round-trip time -1 ms"):
        testbed.link.set(rtt_ms=-1)
    with pytest.raises(TestbedError, match=r"loss 0\.1: shares from 0 to 1"):
        testbed.link.set(loss=0.1)


def test_a_link_loses_its_share_and_takes_its_time_more_or_less(link_testbed: Testbed) -> None:
    link_testbed.link.set(rtt_ms=20, jitter=0.5, loss=0.2)
    asked = ["ping", "-c", "100", "-i", "0.01", "-W", "1", link_testbed.dst.address]
    said = link_testbed.src.run(asked, check=False).stdout
    took = [float(ms) for ms in re.findall(r"time=([\d.]+) ms", said)]
    assert 30 < len(took) < 95  # of 100, each lost with a chance of 36 %
    assert min(took) >= 10 and max(took) - min(took) > 5


def test_the_delay_line_refuses_what_it_does_not_know(testbed: Testbed) -> None:
    path = instances.directory_of(testbed.name) / "link.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.bind("")
        control.settimeout(30)
        too_much = (b"delay 99999999999999999999 0 0", b"delay 5 6 0", b"delay 5 0 1000001")
        for wrong in (b"", b"delay", b"delay 5", b"delay -1 0 0", b"delay 5 0 0x", *too_much, b"x" * 4000):
            control.sendto(wrong, str(path))
            assert control.recv(100) == b"error", wrong
    assert testbed.link.statistics()["queued_bytes"] == 0


# --- fit for CRIU -----------------------------------------------------------------------------------------------


def redis(host: Host, *command: str) -> str:
    return host.run(["redis-cli", "-s", "/run/redis.sock", *command]).stdout.strip()


def start_redis(host: Host, series: str) -> int:
    # criu 4.1 can't dump a TCP socket on this kernel.
    port = "6379" if series == "4.2" else "0"
    server = ["redis-server", "--port", port, "--unixsocket", "/run/redis.sock", "--save", "", "--dir", "/tmp"]
    pid = host.start([*server, "--enable-debug-command", "yes"])
    ping = ["redis-cli", "-s", "/run/redis.sock", "ping"]
    eventually(lambda: host.run(ping, check=False).stdout == "PONG\n", "redis answers")
    return pid


@needs_root
@pytest.mark.parametrize("series", ["4.2", "4.1"])
def test_stock_criu_migrates_redis_lazily(series: str) -> None:
    with Testbed.start(criu=(series, series), name=f"stock-{os.getpid()}") as testbed:
        src, dst = testbed.src, testbed.dst
        assert src.run(["criu", "--version"]).stdout.startswith(f"Version: {series}")
        pid = start_redis(src, series)
        redis(src, "debug", "populate", "20000", "key", "1000")
        digest = redis(src, "debug", "digest")
        for host in (src, dst):
            host.run(["mkdir", "/images", "/work"])
        directories = ["-D", "/images", "-W", "/work"]
        connections = ["--tcp-established", "--network-lock", "nftables"] if series == "4.2" else []
        server = ["--address", src.address, "--port", "27000"]
        ready = ["--status-fd", "1"]

        dump_command = ["criu", "dump", "--lazy-pages", "-t", str(pid), *directories, *connections, *server, *ready]
        with src.popen(dump_command, stdout=-1, stderr=-1) as dump:
            assert dump.stdout is not None
            assert dump.stdout.read(1) == b"\0"
            src.run(["sh", "-c", "tar -C /images -c . | ssh dst tar -C /images -x"])
            daemon_command = ["criu", "lazy-pages", "--page-server", *directories, *server, *ready]
            with dst.popen(daemon_command, stdout=-1, stderr=-1) as daemon:
                assert daemon.stdout is not None
                assert daemon.stdout.read(1) == b"\0"
                dst.run(["criu", "restore", "--lazy-pages", "-d", *directories, *connections])
                assert redis(dst, "debug", "digest") == digest
                assert daemon.wait(60) == 0
            assert dump.wait(60) == 0

        assert redis(dst, "dbsize") == "20000"
        assert src.run(["test", "-e", f"/proc/{pid}"], check=False).returncode == 1


# --- nothing is left --------------------------------------------------------------------------------------------

DRIVER = """
import sys, time
from testbed import Testbed
testbed = Testbed.start(name=sys.argv[1])
testbed.link.set(rate_mbit=1000, rtt_ms=1)
for host in testbed.hosts.values():
    host.start(["sleep", "1000"])
print(*(host.pid for host in testbed.hosts.values()), flush=True)
time.sleep(1000)
"""


def assert_nothing_left(name: str, identity: str, processes: list[dict[str, int]]) -> None:
    """No process: then no namespace, as nothing else holds one (see the delay line's descriptors: it is marked)."""
    assert instances.marked_processes(identity) == []
    eventually(lambda: alive(processes) == [], "its processes are gone")
    assert not instances.directory_of(name).exists()
    assert f"/{name}/" not in Path("/proc/self/mountinfo").read_text()


def sysctls_without_testbeds() -> dict[str, str] | None:
    """The machine's own sysctls; None while testbeds run, others' than this test's included."""
    with instances.registry_lock():
        if instances.names():
            return None
        return {key: instances.sysctl_path(key).read_text().strip() for key in instances.SYSCTLS}


@needs_root
def test_stop_leaves_nothing() -> None:
    before = sysctls_without_testbeds()
    with Testbed.start(name=f"stopped-{os.getpid()}") as stopped:
        state = instances.load(stopped.name)
        assert state is not None
        stopped.src.start(["sleep", "1000"])
        processes = processes_of([host.pid for host in stopped.hosts.values()])
        assert len(processes) >= 6, "three hosts, two sshds and the task"
    assert_nothing_left(stopped.name, state["id"], processes)
    assert sysctls_without_testbeds() in (before, None) or before is None


@needs_root
def test_the_next_start_cleans_up_after_a_killed_driver() -> None:
    before = sysctls_without_testbeds()
    name = f"killed-{os.getpid()}"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, name], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    processes = processes_of([int(pid) for pid in driver.stdout.readline().split()])
    state = instances.load(name)
    assert state is not None
    assert len(instances.marked_processes(state["id"])) == 4, "three hosts and the delay line"
    with instances.registry_lock():  # nobody else starts one
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        assert alive(processes) == processes, "the hosts outlive their driver until the next start"

    with Testbed.start(name=f"next-{os.getpid()}"):
        assert_nothing_left(name, state["id"], processes)
    assert sysctls_without_testbeds() in (before, None) or before is None


@needs_root
@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.6, 0.8])
def test_a_driver_killed_while_it_starts_leaves_nothing_either(seconds: float) -> None:
    name = f"early-{os.getpid()}"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, name], cwd=CHECKOUT, stdout=subprocess.DEVNULL)
    time.sleep(seconds)  # wherever that is
    state = instances.load(name)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    with Testbed.start(name=name) as testbed:
        assert testbed.src.run(["ssh", "dst", "true"]).returncode == 0
    assert_nothing_left(name, state["id"] if state else "none", [])


@needs_root
def test_sysctls_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "kernel.printk_ratelimit_burst"  # harms nobody, and no testbed uses it
    before = instances.sysctl_path(key).read_text()
    monkeypatch.setattr(instances, "SYSCTLS", {key: "77"})
    monkeypatch.setattr(instances, "SYSCTLS_FILE", tmp_path / "sysctls.json")
    instances.set_sysctls()
    assert instances.sysctl_path(key).read_text().strip() == "77"
    instances.set_sysctls()  # the second testbed must not take the first one's values for the machine's own
    instances.restore_sysctls()
    assert instances.sysctl_path(key).read_text() == before
    assert not instances.SYSCTLS_FILE.exists()


BUILDER = """
import sys
from pathlib import Path
from testbed.prepare import build_over, make
base, layer = map(Path, sys.argv[1:])
script = "echo begun >/begun; sleep 1000"
make(layer, lambda target: build_over([base], target, script, "never"))
"""


@needs_root
def test_a_killed_preparation_leaves_nothing_that_is_taken_for_whole(testbed: Testbed, tmp_path: Path) -> None:
    state = instances.load(testbed.name)
    assert state is not None
    base = Path(state["package_layer"]).parent / "base"
    layer = tmp_path / "layer"
    mounts = Path("/proc/self/mountinfo").read_text()
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, str(base), str(layer)], cwd=CHECKOUT)
    eventually(lambda: bool(list(tmp_path.glob(".building-*/layer/begun"))), "the script runs")
    contained = [pid for pid in descendants(builder.pid) if namespaces(pid) != namespaces("self")]
    assert contained, "it runs in namespaces of its own"
    processes = [identity for pid in contained if (identity := instances.process_identity(pid))]
    builder.kill()
    builder.wait()
    eventually(lambda: alive(processes) == [], "what it started is gone")
    assert not layer.exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(one for child in children for one in descendants(child))]


@needs_root
def test_containers_cgroups_are_removed() -> None:
    with Testbed.start(name=f"cgroups-{os.getpid()}") as started:
        inside = f"/sys/fs/cgroup/pids{started.cgroup}/src/deep"
        made = started.src.run(["mkdir", "-p", inside], check=False)
        if made.returncode != 0:
            pytest.skip(f"no cgroup v1 pids hierarchy here: {made.stderr}")
        assert Path(inside).is_dir()
    assert not Path(inside).parent.parent.exists()


def test_a_name_is_used_once(testbed: Testbed) -> None:
    with pytest.raises(TestbedError, match=f"belongs to process {os.getpid()}"):
        Testbed.start(name=testbed.name)
    assert testbed.src.run(["true"]).returncode == 0


@needs_root
def test_what_can_not_be_is_refused_before_anything_starts() -> None:
    with pytest.raises(TestbedError, match=r"criu series '3\.0': known are 4\.1, 4\.2"):
        Testbed.start(criu=("3.0", "4.2"))
    with pytest.raises(TestbedError, match=r"testbed name '\.\./x'"):
        Testbed.start(name="../x")
    with pytest.raises(TestbedError, match="is not running: start it with"):
        Testbed.attach("nobody")


# --- the command ------------------------------------------------------------------------------------------------


@needs_root
def test_the_command_starts_steers_and_ends_a_testbed(capfd: pytest.CaptureFixture[str]) -> None:
    name = ["--name", f"command-{os.getpid()}"]
    # In a process of its own, as users have it: the hosts outlive it.
    command = [sys.executable, "-m", "criu_lazy_ext.cli", "testbed", *name]
    subprocess.run([*command, "up", "--criu", "4.2,4.1"], cwd=CHECKOUT, check=True)
    try:
        assert main([*name, "exec", "dst", "--", "sh", "-c", "criu --version; exit 5"]) == 5
        assert "Version: 4.1" in capfd.readouterr().out
        assert main([*name, "link", "--rate-mbit", "500", "--rtt-ms", "3"]) == 0
        assert main([*name, "link", "--cut"]) == 0
        capfd.readouterr()
        assert main([*name, "status"]) == 0
        assert "500 Mbit/s, round trip 3 ms, CUT" in capfd.readouterr().out
        assert main([*name, "link", "--mend", "--rate-mbit", "unlimited"]) == 0
        assert "unlimited, round trip 3 ms\n" in capfd.readouterr().out
    finally:
        assert main([*name, "down"]) == 0
    assert name[1] not in instances.names()


# --- pure -------------------------------------------------------------------------------------------------------


def test_only_c_sources_ask_for_a_compiler() -> None:
    sources = Sources({"setup.py": b"", "c_src/a.c": b"1", "criu_lazy_ext/cli.py": b"1"})
    python_changed = Sources({**sources.files, "criu_lazy_ext/cli.py": b"2"})
    c_changed = Sources({**sources.files, "c_src/a.c": b"2"})
    assert python_changed.engine_digest() == sources.engine_digest()
    assert c_changed.engine_digest() != sources.engine_digest()
    assert len({sources.digest(), python_changed.digest(), c_changed.digest()}) == 3


def test_the_recipe_names_the_root() -> None:
    recipe = Recipe(mirror="http://mirror.example/debian")
    assert recipe.digest() == Recipe(mirror="http://mirror.example/debian").digest()
    assert recipe.digest() != Recipe(mirror="http://mirror.example/debian", packages=("criu",)).digest()


def test_a_failed_build_shows_the_compilers_errors() -> None:
    noise = [f"line {number}" for number in range(100)]
    assert telling_lines([*noise, "c_src/a.c:3:1: error: unknown type", *noise]) == [
        "c_src/a.c:3:1: error: unknown type"
    ]
    assert telling_lines(noise) == noise[-15:]
