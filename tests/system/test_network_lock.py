"""A task's live connections outlast its migrations, and every kind of roll back: CRIU's lock on them is undone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import migrating
import pytest
from lazy_source import eventually
from migrating import (
    COMMITTED,
    ROLLED_BACK,
    UNDECIDED,
    Migration,
    assert_clean,
    kill,
    kill_agent,
    kill_all_that_serve,
    kill_pids,
    pids_of,
)
from paths import SUPPORT

from testbed import Host, Testbed
from testbed.host import ENVIRONMENT

ADDRESS, PORT, CONNECTIONS = "10.78.0.100", 7000, 20

PROFILE = """
task: {pidfile: /run/connected.pid}
destination: {ssh: TO}
strategy: lazy
timeouts: {silence: 3}
criu: {LOCK OPTIONS}
network: {addresses: ["10.78.0.100/24 dev svc0"]}
"""
HOOKED = """
task: {pidfile: /run/connected.pid}
destination: {ssh: dst}
strategy: lazy
timeouts: {silence: 3}
source: {rate: 2M}
hooks:
  after_dump:
    - run: ip address del 10.78.0.100/24 dev svc0
  before_restore:  # nothing is said to the clients, also after the restore
    - run: >
        nft 'add table inet moving; add chain inet moving out { type filter hook output priority 0; };
        add rule inet moving out ip saddr 10.78.0.100 drop'
        && ip address add 10.78.0.100/24 dev svc0
      on: destination
  after_rollback:
    - run: ip address replace 10.78.0.100/24 dev svc0 && arping -q -U -c 1 -I svc0 10.78.0.100
"""


def profile(to: str = "dst", lock: str = "", options: str = "") -> str:
    criu = ", ".join(filter(None, (lock and f"network_lock: {lock}", options)))
    return PROFILE.replace("TO", to).replace("LOCK OPTIONS", criu)


class Server:
    """connected_server.py on src, with its clients."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        testbed.src.run(["ip", "address", "replace", f"{ADDRESS}/24", "dev", "svc0"])
        self.announce()  # the client may know the address at another host, and would ask that for a minute or two
        for host, program in ((testbed.src, "server"), (testbed.dst, "server"), (testbed.client, "client")):
            host.write(f"/srv/connected_{program}.py", (SUPPORT / f"connected_{program}.py").read_text())
        arguments = [ADDRESS, str(PORT)]
        self.pid = testbed.src.start(["python3", "/srv/connected_server.py", *arguments])
        for host in (testbed.src, testbed.dst):
            host.write("/run/connected.pid", f"{self.pid}\n")
        eventually(lambda: f":{PORT}" in testbed.src.run(["ss", "-Hltn"]).stdout, "it listens")
        command = ["python3", "/srv/connected_client.py", *arguments, str(CONNECTIONS)]
        self.clients = testbed.client.popen(command, stdin=-1, stdout=-1, text=True)
        try:
            self.assert_served(testbed.src)
        except BaseException:  # nothing of it is left to the next test
            self.end()
            raise

    def announce(self) -> None:
        """Tell the neighbours that the address is at src."""
        self.testbed.src.run(["arping", "-q", "-U", "-c", "1", "-I", "svc0", ADDRESS], check=False)

    def ask(self) -> dict[str, Any]:
        self.clients.stdin.write("\n")
        self.clients.stdin.flush()
        return dict(json.loads(self.clients.stdout.readline()))

    def assert_served(self, host: Host) -> None:
        """By this very process on `host` each connection goes on as it was, and none has ever failed. (Ending the
        repair mode clears SO_REUSEADDR, which is set again at once: an answer in between may say 0.)"""
        assert self.pid in pids_of(host, "connected_server.py")
        before = self.ask()["answers"]

        def go_on() -> bool:
            now = self.ask()
            assert now["errors"] == []
            return all(new > old for new, old in zip(now["answers"], before, strict=True)) and all(now["reuse"])

        eventually(go_on, f"each connection goes on: {self.ask()}")

    def is_well(self) -> bool:
        return not self.ask()["errors"] and self.pid in pids_of(self.testbed.src, "connected_server.py")

    def end(self) -> None:
        self.clients.kill_session()
        self.clients.wait()
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["pkill", "-9", "-f", "connected_server.py"], check=False)
            host.run(["ip", "address", "del", f"{ADDRESS}/24", "dev", "svc0"], check=False)
            host.run(["nft", "flush", "ruleset"])


@pytest.fixture(scope="module")
def servers(testbed: Testbed) -> Iterator[list[Server]]:
    """The one that runs, if any: most tests leave theirs as it was."""
    running: list[Server] = []
    testbed.link.set(rate_mbit=200, rtt_ms=0.2)
    yield running
    testbed.link.set()
    for server in running:
        server.end()
    for host in (testbed.src, testbed.dst):
        host.run(["sh", "-c", "rm -rf /var/lib/criu-lazy* /root/m*.yaml /run/held"])


@pytest.fixture
def server(testbed: Testbed, servers: list[Server]) -> Iterator[Server]:
    if not servers:
        servers.append(Server(testbed))
    yield servers[0]
    if testbed.link.is_cut:
        testbed.link.mend()
    if servers and not servers[0].is_well():
        servers.pop().end()


RUN_IPTABLES = """#!/bin/sh
export LD_LIBRARY_PATH=$(echo /opt/iptables/usr/lib/*-linux-gnu)
export XTABLES_LIBDIR=$LD_LIBRARY_PATH/xtables
exec /opt/iptables/usr/sbin/{program} "$@"
"""


@pytest.fixture(scope="module")
def iptables(testbed: Testbed) -> Callable[[str], dict[str, str]]:
    """The environment on src in which there are iptables, `nft` or `legacy`: else the hosts have none."""
    tools = itertools.product(("nft", "legacy"), ("iptables", "ip6tables"), ("", "-save", "-restore"))
    for variant, tool, end in tools:
        script = RUN_IPTABLES.format(program=f"{tool}-{variant}{end}")
        testbed.src.write(f"/opt/iptables/{variant}/{tool}{end}", script, 0o755)
    return lambda variant: {"PATH": f"/opt/iptables/{variant}:{ENVIRONMENT['PATH']}"}


def rules(host: Host, environment: dict[str, str] | None = None) -> str:
    """All that locks connections on the host: the names of nftables' tables, iptables' rules."""
    found = host.run(["nft", "list", "tables"]).stdout
    return found + (host.run(["iptables-save"], env=environment).stdout if environment else "")


def assert_unlocked(testbed: Testbed, environment: dict[str, str] | None = None) -> None:
    for host in (testbed.src, testbed.dst):
        found = rules(host, environment if host is testbed.src else None)
        assert "CRIU" not in found and "0xc114" not in found


def held(testbed: Testbed, lock: str = "", environment: dict[str, str] | None = None) -> Migration:
    """A migration whose task is dumped, its address at the destination, nothing restored yet."""
    options = "restore_options: [--action-script, /srv/hold.sh]"
    text = profile(lock=lock, options=options)
    return migrating.held(testbed, text, at="pre-restore", host=testbed.dst, seconds=1, environment=environment)


def pids_of_page_server(host: Host) -> list[int]:
    return pids_of(host, "page-server", "--hold")


def kill_guarded_page_server(testbed: Testbed) -> None:
    """With its guardian: its child, of the same command line."""
    kill_pids(testbed.src, *pids_of_page_server(testbed.src))


def kill_page_server(testbed: Testbed) -> None:
    testbed.src.run(["kill", "-9", str(pids_of_page_server(testbed.src)[0])])


def stop_migrate(testbed: Testbed) -> None:
    """By two signals: once the task runs there, the first ends nothing."""
    pids = list(map(str, pids_of(testbed.src, "criu-lazy migrate")))
    testbed.src.run(["sh", "-c", f"kill -INT {' '.join(pids)}; kill -TERM {' '.join(pids)}"])


def has_undone(server: Server) -> None:
    """The destination's half."""
    eventually(lambda: not pids_of(server.testbed.dst, "criu-lazy agent"), "the destination has undone its part")


DEATHS: dict[str, Callable[[Testbed], object]] = {
    "SIGINT": stop_migrate,
    "agent": lambda testbed: kill_agent(testbed.dst),
    "link": lambda testbed: testbed.link.cut(),
    "dump": lambda testbed: kill(testbed.src, "criu dump"),
    "page server": kill_page_server,
    "page server and guardian": kill_guarded_page_server,
}


@pytest.mark.parametrize("death", DEATHS)
def test_connections_go_on_after_a_roll_back(server: Server, death: str) -> None:
    testbed = server.testbed
    migration = held(testbed)
    assert "CRIU" in rules(testbed.src)
    DEATHS[death](testbed)
    assert migration.end() == ROLLED_BACK, migration.stderr
    assert "the source task runs on" in migration.report["message"]
    assert "; but" not in migration.report["message"]
    if death == "link":
        testbed.link.mend()
    server.assert_served(testbed.src)
    assert_unlocked(testbed)


def test_connections_go_on_after_a_failed_restore(server: Server) -> None:
    refused = profile(options="restore_options: [--no-such-option]") + "accept: [restore-options]\n"
    migration = Migration(server.testbed, refused)
    assert migration.end() == ROLLED_BACK, migration.stderr
    server.assert_served(server.testbed.src)
    assert_unlocked(server.testbed)


@pytest.mark.parametrize("also", ["nobody else", "page server and guardian"])
def test_connections_go_on_after_migrate_was_killed(server: Server, also: str) -> None:
    testbed = server.testbed
    migration = held(testbed)
    victims = pids_of(testbed.src, "criu-lazy migrate")
    victims += pids_of_page_server(testbed.src) if also == "page server and guardian" else []
    kill_pids(testbed.src, *victims)
    migration.end()
    eventually(lambda: not pids_of(testbed.src, "criu dump"), "the dump has given up")
    assert "rolled-back" in migration.decide("--status").stdout
    server.assert_served(testbed.src)
    assert_unlocked(testbed)


def test_connections_go_on_there_and_back_and_there_again(server: Server) -> None:
    testbed = server.testbed
    for source, destination in ((testbed.src, testbed.dst), (testbed.dst, testbed.src), (testbed.src, testbed.dst)):
        migration = Migration(testbed, profile(to=destination.name), source=source)
        assert migration.end() == COMMITTED, migration.stderr
        assert migration.report["warnings"] == []
        server.assert_served(destination)
        assert_unlocked(testbed)
    assert_clean(testbed)


@pytest.mark.parametrize(("variant", "death"), [("nft", "SIGINT"), ("legacy", "page server and guardian")])
def test_connections_locked_by_iptables_go_on_after_a_roll_back(
    server: Server, iptables: Callable[[str], dict[str, str]], variant: str, death: str
) -> None:
    testbed, environment = server.testbed, iptables(variant)
    theirs = ["INPUT", "-s", "10.9.9.9", "-m", "mark", "!", "--mark", "0xbeef", "-j", "DROP"]
    testbed.src.run(["iptables", "-A", *theirs], env=environment)
    migration = held(testbed, "iptables", environment)
    assert "0xc114" in rules(testbed.src, environment)
    DEATHS[death](testbed)
    assert migration.end() == ROLLED_BACK, migration.stderr
    server.assert_served(testbed.src)
    assert_unlocked(testbed, environment)
    assert "0xbeef" in rules(testbed.src, environment), "somebody else's rules stay"
    testbed.src.run(["iptables", "-D", *theirs], env=environment)


def test_connections_locked_by_iptables_go_on_there_and_back(
    server: Server, iptables: Callable[[str], dict[str, str]]
) -> None:
    testbed, environment = server.testbed, iptables("legacy")
    for source, destination, lock in ((testbed.src, testbed.dst, "iptables"), (testbed.dst, testbed.src, "nftables")):
        migration = Migration(testbed, profile(destination.name, lock=lock), source=source, environment=environment)
        assert migration.end() == COMMITTED, migration.stderr
        assert migration.report["warnings"] == []
        server.assert_served(destination)
        assert_unlocked(testbed, environment)


def test_a_lock_that_cant_be_removed_is_told(server: Server, iptables: Callable[[str], dict[str, str]]) -> None:
    testbed, environment = server.testbed, iptables("legacy")
    path = "/opt/iptables/legacy/iptables-restore"
    script = testbed.src.read(path)
    testbed.src.write(path, "#!/bin/sh\necho 'no such luck' >&2; exit 1\n", 0o755)
    migration = held(testbed, "iptables", environment)
    stop_migrate(testbed)
    assert migration.end() == ROLLED_BACK, migration.stderr
    for words in ("CRIU's network lock stays", "no such luck", "remove the rules with mark 0xc114"):
        assert words in migration.report["message"]
    testbed.src.write(path, script, 0o755)
    testbed.src.run(["iptables", "-F"], env=environment)  # as the message has it
    server.assert_served(testbed.src)


@pytest.mark.parametrize("death", ["migrate's wait", "dump and page server"])
def test_connections_go_on_where_the_restored_task_was_given_up(
    server: Server, servers: list[Server], death: str
) -> None:
    """As long as it has spoken with nobody: its address is silent."""
    testbed = server.testbed
    migration = Migration(testbed, HOOKED)
    eventually(lambda: migration.is_in("running") or migration.process.poll() is not None, "the restored task runs")
    if migration.process.poll() is not None:
        migration.end()
    assert migration.status == -1, (migration.stderr, migration.report)
    if death == "dump and page server":
        kill_all_that_serve(testbed)
    else:
        stop_migrate(testbed)
    assert migration.end() == UNDECIDED, (migration.stderr, migration.report)
    # It may have met a page that is lost. (Not by its name: its command line may not be there.)
    testbed.dst.run(["kill", "-9", str(server.pid)], check=False)
    testbed.dst.run(["ip", "address", "del", f"{ADDRESS}/24", "dev", "svc0"])
    testbed.dst.run(["nft", "delete", "table", "inet", "moving"])
    assert migration.decide("--abort", "--force").returncode == 0
    has_undone(server)
    server.assert_served(testbed.src)
    assert_unlocked(testbed)
    # Those of the restored task still try to say good-bye to the same clients; they can't be restored there again.
    servers.pop().end()


def test_who_removes_a_lock_that_another_removes_just_then_says_nothing(testbed: Testbed) -> None:
    """The resume's removal may be under way when the migration ends, or an operator ends it."""
    script = """
from concurrent.futures import ThreadPoolExecutor
from criu_lazy_ext.system import network_lock, nftables
with ThreadPoolExecutor(4) as pool:
    for _ in range(100):
        with nftables.Nft.load() as nft:
            nft.run("add table inet CRIU-7")
        removals = [pool.submit(network_lock._remove_table, "7", set(), True) for _ in range(4)]
        assert any([removal.result() for removal in removals])
"""
    testbed.src.run(["/usr/bin/python3", "-c", script])
