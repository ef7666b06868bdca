"""Service addresses move with the task (`network:`), and no client of theirs loses anything, whoever dies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest
from lazy_source import eventually
from migrating import (
    COMMITTED,
    FAILED,
    HOLD_RESTORE,
    ROLLED_BACK,
    Migration,
    held,
    kill_agent,
    kill_ours,
    kill_pids,
    pids_of,
)
from service import PORT, SYN_RETRY_S, Service

from testbed import Testbed

# `make moves` has 20, with 500 new connections a second.
MOVES, RATE = int(os.environ.get("CRIU_LAZY_MOVES", "3")), float(os.environ.get("CRIU_LAZY_MOVES_RATE", "250"))


@pytest.fixture(scope="module")
def services(testbed: Testbed) -> Iterator[dict[int, Service]]:
    """Those that run, by their IP version: most tests leave theirs as it was."""
    running: dict[int, Service] = {}
    testbed.link.set()
    yield running
    for service in running.values():
        service.end()


@pytest.fixture
def service(request: pytest.FixtureRequest, testbed: Testbed, services: dict[int, Service]) -> Iterator[Service]:
    version = getattr(request, "param", 4)
    for other in [known for known in services if known != version]:
        services.pop(other).end()
    if version not in services:
        services[version] = Service(testbed, version, rate=RATE)
    service = services[version]
    yield service
    if testbed.link.is_cut:
        testbed.link.mend()
    if service.hosts_with_address() != ["src"] or service.filters() or service.ask()["errors"]:
        services.pop(version).end()


@pytest.mark.parametrize(("service", "moves"), [(6, 2), (4, MOVES)], indirect=["service"])
def test_a_busy_service_moves_there_and_back(service: Service, moves: int) -> None:
    ends = [service.testbed.src, service.testbed.dst]
    for number in range(moves):
        source, destination = ends[number % 2], ends[1 - number % 2]
        service.ask()
        migration = Migration(service.testbed, service.profile(destination.name), source=source)
        assert migration.end() == COMMITTED, migration.stderr
        # Of one start in 256, all children sleep at a page's start.
        assert [text for text in migration.report["warnings"] if "the stack pointer" not in text] == []
        service.assert_served(destination)
        service.assert_only_at(destination)
        seen, phases = service.seen, migration.report["phases_s"]
        held_s = phases["running"] - phases["dumping"]
        print(
            f"move {number + 1}: new ones held off for {held_s:.3f} s, downtime {migration.report['downtime_s']:.3f} s;"
            f" {seen['shorts']} short ones, the longest {seen['longest_short_s']:.3f} s; a long one waited "
            f"{seen['longest_wait_s']:.3f} s at most; errors: {len(seen['errors'])}"
        )
        # Of a quiet machine: held_s, and the first retry after that. A busy one may not take all retries at once.
        assert seen["longest_short_s"] < 2 * held_s + 3 * SYN_RETRY_S


# What the client sees first of an IPv4 address: "MAC announces" and "MAC says", for TCP with something in it.
WATCHER = """
import socket, sys
address = socket.inet_aton(sys.argv[1])
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
frames.bind(("svc0", 3))
print("watches", flush=True)
seen = set()
def see(*what):
    if what not in seen:
        seen.add(what)
        print(*what, flush=True)
while True:
    frame = frames.recv(65536)
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\\x08\\x06" and packet[14:18] == address:
        see(frame[6:12].hex(":"), "announces")
    elif kind == b"\\x08\\x00" and packet[9] == 6 and packet[12:16] == address:
        header = (packet[0] & 15) * 4
        if int.from_bytes(packet[2:4], "big") > header + (packet[header + 12] >> 4) * 4:
            see(frame[6:12].hex(":"), "says")
"""


def test_the_address_is_announced_before_anything_is_said_from_it(service: Service) -> None:
    """Else who is answered sends what it says next to the host that has no such address any more."""
    testbed = service.testbed
    ends = [testbed.src, testbed.dst]
    for source, destination in (ends, reversed(ends)):
        own = json.loads(destination.run(["ip", "-json", "link", "show", "svc0"]).stdout)[0]["address"]
        watcher = testbed.client.popen(["python3", "-c", WATCHER, service.address], stdout=-1, text=True)
        assert watcher.stdout is not None and watcher.stdout.readline() == "watches\n"
        migration = Migration(testbed, service.profile(destination.name), source=source)
        assert migration.end() == COMMITTED, migration.stderr
        service.assert_served(destination)
        watcher.kill_session()
        seen = [line.split()[1] for line in watcher.communicate()[0].splitlines() if line.startswith(own)]
        assert seen == ["announces", "says"]


def kill_destination(testbed: Testbed) -> None:
    """All of its half: nobody is left to undo it."""
    kill_pids(testbed.dst, *pids_of(testbed.dst, "criu-lazy agent"))


def kill_page_servers(testbed: Testbed) -> None:
    """With its guardian: its child, of the same command line."""
    kill_pids(testbed.src, *pids_of(testbed.src, "page-server", "--hold"))


def kill_migrate(testbed: Testbed) -> None:
    kill_pids(testbed.src, *pids_of(testbed.src, "criu-lazy migrate"))


def kill_migrate_and_page_servers(testbed: Testbed) -> None:
    kill_pids(testbed.src, *pids_of(testbed.src, "criu-lazy migrate"), *pids_of(testbed.src, "page-server", "--hold"))


DEATHS: dict[str, Callable[[Testbed], object]] = {
    "agent": lambda testbed: kill_agent(testbed.dst),
    "page server and guardian": kill_page_servers,
    "link": lambda testbed: testbed.link.cut(),
    "migrate": kill_migrate,
    "migrate, page server and guardian": kill_migrate_and_page_servers,
}


@pytest.mark.parametrize(("service", "death"), [(4, death) for death in DEATHS] + [(6, "agent")], indirect=["service"])
def test_no_client_loses_anything_in_a_roll_back(service: Service, death: str) -> None:
    """With the address at the destination, where nothing is to answer."""
    testbed = service.testbed
    migration = held(testbed, service.profile(more=HOLD_RESTORE), at="pre-restore", host=testbed.dst, seconds=1)
    assert service.hosts_with_address() == ["dst"]
    assert len(service.filters()) == 3 + (":" not in service.address), "ours at both, and criu's; ARP's there"
    DEATHS[death](testbed)
    if death.startswith("migrate"):
        migration.end()
        eventually(lambda: not pids_of(testbed.src, "criu dump"), "the dump has given up")
        assert "rolled-back" in migration.decide("--status").stdout
    else:
        assert migration.end() == ROLLED_BACK, (migration.stderr, migration.report)
        assert "the source task runs on" in migration.report["message"]
    if death == "link":
        assert "not known here" in migration.report["message"], "nobody tells"
        testbed.link.mend()
    service.assert_served(testbed.src)
    service.assert_only_at(testbed.src)


# Says its ports: of a connection that was answered, and of one that is none yet. At a line, it asks by the one, and
# opens the other; then it says what comes.
PATIENT = """
import select, socket, sys
address = (sys.argv[1], int(sys.argv[2]))
one, other = (socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) for _ in range(2))
one.settimeout(20)
one.connect(address)
one.sendall(b"first\\n")
assert one.recv(100) == b"first\\n"
other.bind(("", 0))
other.setblocking(False)
print(one.getsockname()[1], other.getsockname()[1], flush=True)
sys.stdin.readline()
one.sendall(b"second\\n")
other.connect_ex(address)
print("sent", flush=True)
print("answered" if one.recv(100) == b"second\\n" else "failed", flush=True)
select.select([], [other], [], 20)
print("connected" if other.getpeername() else "failed", flush=True)
"""
UNTIL_GONE = "touch /run/held; while test -e /run/held; do sleep 0.02; done"


@pytest.mark.parametrize("goes", ["there", "ahead", "back"])
@pytest.mark.parametrize("service", [4, 6], indirect=True)
def test_what_is_sent_in_the_freeze_is_sent_once(service: Service, goes: str) -> None:
    """Nothing leaves the client's host after its first try: a request, and what opens a connection. It goes to the
    source, or to the destination, where the address is, and mute."""
    testbed = service.testbed
    patient = testbed.client.popen(
        ["python3", "-c", PATIENT, service.address, str(PORT)], stdin=-1, stdout=-1, text=True
    )
    try:
        ports = ", ".join(patient.stdout.readline().split())
        if goes == "ahead":
            migration = held(testbed, service.profile(more=HOLD_RESTORE), at="pre-restore", host=testbed.dst)
            own = json.loads(testbed.dst.run(["ip", "-json", "link", "show", "svc0"]).stdout)[0]["address"]
            entry = ["replace", service.address, "lladdr", own, "nud", "reachable", "dev", "svc0"]
            testbed.client.run(["ip", "neigh", *entry])
        else:
            ends = "false" if goes == "back" else "true"
            hooks = f"hooks: {{before_restore: [{{run: '{UNTIL_GONE}; {ends}'}}]}}\n"
            migration = held(testbed, service.profile(hooks=hooks))
        patient.stdin.write("\n")
        patient.stdin.flush()
        assert patient.stdout.readline() == "sent\n"
        mute = "add table inet mute; add chain inet mute out { type filter hook output priority 0; }; "
        mute += f"add rule inet mute out tcp sport {{ {ports} }} tcp dport {PORT} drop"
        testbed.client.run(["nft", mute])
        testbed.src.run(["rm", "-f", "/run/held"])
        assert migration.end() == (ROLLED_BACK if goes == "back" else COMMITTED), migration.stderr
        assert patient.stdout.readline() == "answered\n"
        assert patient.stdout.readline() == "connected\n"
    finally:
        patient.kill_session()
        testbed.client.run(["nft", "delete table inet mute"], check=False)
    if goes != "back":
        service.assert_served(testbed.dst)
        back = Migration(testbed, service.profile("src"), source=testbed.dst)
        assert back.end() == COMMITTED, back.stderr
    service.assert_served(testbed.src)
    service.assert_only_at(testbed.src)


CLIENT = "10.78.0.3"
# From there: as whole as IP can tell, with a TCP header of no length.
MALFORMED = """
import socket, struct, sys
source, target = map(socket.inet_aton, sys.argv[1:3])
tcp = bytearray(struct.pack("!HHIIBBHHH", 40000, int(sys.argv[3]), 1000, 1, 0, 16, 100, 0, 0) + b"x" * 1185)
pseudo = source + target + struct.pack("!II", len(tcp), 6)
total = sum(struct.unpack(f"!{(len(pseudo) + len(tcp) + 1) // 2}H", pseudo + tcp + b"\\0"))
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
struct.pack_into("!H", tcp, 16, ~total & 0xFFFF)
ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0) + source + target
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(ip + tcp, (sys.argv[2], 0))
"""


@pytest.mark.parametrize("goes", ["there", "back"])
def test_a_malformed_packet_in_the_freeze_is_nothing(service: Service, goes: str) -> None:
    testbed = service.testbed
    ends = "false" if goes == "back" else "true"
    hooks = f"hooks: {{before_restore: [{{run: '{UNTIL_GONE}; {ends}'}}]}}\n"
    migration = held(testbed, service.profile(hooks=hooks))
    testbed.client.run(["python3", "-c", MALFORMED, CLIENT, service.address, str(PORT)])
    testbed.src.run(["rm", "-f", "/run/held"])
    assert migration.end() == (ROLLED_BACK if goes == "back" else COMMITTED), (migration.stderr, migration.report)
    if goes == "there":
        assert "Traceback" not in migration.stderr
        service.assert_served(testbed.dst)
        back = Migration(testbed, service.profile("src"), source=testbed.dst)
        assert back.end() == COMMITTED, back.stderr
    service.assert_served(testbed.src)
    service.assert_only_at(testbed.src)


FIREWALL = """table inet wall {
    chain in {
        type filter hook input priority 0; policy drop
        iif lo accept
        ct state established,related accept
        ip saddr 10.78.0.33 drop
        tcp dport 7000 accept
        meta l4proto icmp accept
        iifname != "svc0" accept
    }
}
"""
# `LISTENER PORT` accepts one, on any address; `CALLER ADDRESS PORT FROM` says when it has asked, and then how it went.
LISTENER = """
import socket, sys
one = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("listens", flush=True)
one.accept()
"""
CALLER = """
import select, socket, sys
one = socket.socket()
one.bind((sys.argv[3], 0))
one.setblocking(False)
one.connect_ex((sys.argv[1], int(sys.argv[2])))
print("asked", flush=True)
print("connected" if select.select([], [one], [], 4)[1] else "nothing", flush=True)
"""


@pytest.mark.parametrize(("port", "caller"), [(9999, "10.78.0.3"), (PORT, "10.78.0.33")])
def test_nobody_gets_past_the_destinations_firewall(service: Service, port: int, caller: str) -> None:
    """To another program than the task, or from a host that may not, by a packet that comes in the freeze."""
    testbed = service.testbed
    testbed.dst.write("/tmp/wall.nft", FIREWALL)
    testbed.dst.run(["nft", "-f", "/tmp/wall.nft"])
    testbed.client.run(["ip", "address", "add", "10.78.0.33/24", "dev", "svc0"])
    listener = testbed.dst.popen(["python3", "-c", LISTENER, "9999"], stdout=-1, text=True)
    calls = None
    try:
        assert listener.stdout.readline() == "listens\n"
        migration = held(testbed, service.profile(hooks=f"hooks: {{before_restore: [{{run: '{UNTIL_GONE}'}}]}}\n"))
        calls = testbed.client.popen(
            ["python3", "-c", CALLER, service.address, str(port), caller], stdout=-1, text=True
        )
        assert calls.stdout.readline() == "asked\n"
        testbed.src.run(["rm", "-f", "/run/held"])
        assert migration.end() == COMMITTED, migration.stderr
        assert calls.stdout.readline() == "nothing\n"
        service.assert_served(testbed.dst)
    finally:
        listener.kill_session()
        if calls is not None:
            calls.kill_session()
        testbed.dst.run(["nft", "delete table inet wall"], check=False)
        testbed.client.run(["ip", "address", "del", "10.78.0.33/24", "dev", "svc0"], check=False)
    back = Migration(testbed, service.profile("src"), source=testbed.dst)
    assert back.end() == COMMITTED, back.stderr
    service.assert_served(testbed.src)
    service.assert_only_at(testbed.src)


REFUSED = "criu: {restore_options: [--no-such-option]}\naccept: [restore-options]\n"


def test_no_client_loses_anything_where_the_restore_fails(service: Service) -> None:
    migration = Migration(service.testbed, service.profile(more=REFUSED))
    assert migration.end() == ROLLED_BACK, migration.stderr
    service.assert_served(service.testbed.src)
    service.assert_only_at(service.testbed.src)


def test_what_criu_does_once_the_task_runs_is_no_downtime(service: Service) -> None:
    testbed = service.testbed
    migration = held(testbed, service.profile(more=HOLD_RESTORE), at="post-resume", host=testbed.dst, seconds=4)
    assert migration.end() == COMMITTED, migration.stderr
    service.assert_served(testbed.dst)
    assert migration.report["downtime_s"] + 4 < migration.report["phases_s"]["running"]


def test_addresses_that_nobody_is_left_to_take_off_are_mute_and_told(service: Service) -> None:
    testbed = service.testbed
    migration = held(testbed, service.profile(more=HOLD_RESTORE), at="pre-restore", host=testbed.dst, seconds=1)
    kill_destination(testbed)
    assert migration.end() == ROLLED_BACK, (migration.stderr, migration.report)
    message = migration.report["message"]
    assert "whether dst has taken" in message and f"ip address del {service.moved} dev svc0" in message
    service.assert_served(testbed.src)
    assert service.hosts_with_address() == ["src", "dst"]
    testbed.client.run(["ip", "neigh", "flush", "dev", "svc0"])  # only one of them tells where it is
    service.assert_served(testbed.src)
    again = Migration(testbed, service.profile())
    assert again.end() == FAILED
    assert f"{service.address}/24 dev svc0 is here already: ip address del" in again.report["message"]
    testbed.dst.run(["sh", "-ec", message.partition("do it there: ")[2]])
    service.assert_only_at(testbed.src)
    kill_ours(testbed.dst)
    testbed.dst.run(["pkill", "-9", "-x", "forking_server"], check=False)


def test_who_gives_the_restored_task_up_is_told_of_its_addresses(service: Service) -> None:
    testbed = service.testbed
    migration = Migration(testbed, service.profile(more="source: {rate: 200K}\n"))
    eventually(lambda: migration.is_in("running") or migration.process.poll() is not None, "the restored task runs")
    kill_pids(testbed.src, *pids_of(testbed.src, "criu-lazy migrate"), *pids_of(testbed.src, "ssh", "criu-lazy agent"))
    migration.end()
    assert "service addresses: 10.78.0.100/24 dev svc0: at dst" in migration.decide("--status").stdout
    refused = migration.decide("--abort", "--force")
    assert refused.returncode == 1 and "10.78.0.100 is answered for by another host" in refused.stderr
    assert service.hosts_with_address() == ["dst"]
    testbed.dst.run(["sh", "-ec", refused.stderr.partition("at dst, ")[2].partition("; then again")[0]], check=False)
    testbed.dst.run(["pkill", "-9", "-x", "forking_server"])
    assert migration.decide("--abort", "--force").returncode == 0
    service.assert_only_at(testbed.src)
    assert service.pid in pids_of(testbed.src, "forking_server")


def refusal(service: Service, *addresses: str, more: str = "") -> str:
    """Of `--dry-run` with these addresses."""
    listed = ", ".join(f'"{address}"' for address in addresses)
    text = service.profile(more=more).replace(f'["{service.moved} dev svc0"]', f"[{listed}]")
    migration = Migration(service.testbed, text, "--dry-run")
    assert migration.end() == FAILED
    return migration.stderr


def test_addresses_that_cannot_move_are_refused(service: Service) -> None:
    src, moved = service.testbed.src, f"{service.moved} dev svc0"
    said = refusal(service, "10.78.0.99/24 dev svc0", "10.78.0.100/16 dev svc0", "10.78.0.1/24 dev svc0")
    assert "10.78.0.99/24 dev svc0 is not here" in said
    assert f"10.78.0.100/16 dev svc0 is not here, but {moved}" in said
    assert f"the kernel would delete {moved} together with 10.78.0.1/24 dev svc0: sysctl net.ipv4.conf.svc0" in said
    src.run(["ip", "route", "add", "192.0.2.0/24", "dev", "svc0", "src", "10.78.0.100"])
    assert "a route has 10.78.0.100 for its source, and would be lost with it" in refusal(service, moved)
    src.run(["ip", "route", "del", "192.0.2.0/24"])
    assert "there is no device eth7 for 10.78.0.100" in refusal(service, f"{moved} -> eth7")
    more = "source: {address: 10.78.0.100}\n"
    assert "source.address ends at 10.78.0.100, which moves" in refusal(service, moved, more=more)
