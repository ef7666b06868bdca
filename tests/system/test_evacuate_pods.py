"""Pods of podman's are evacuated as one: all of a pod's containers are here, or all of them there."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import configuration, prepare_podman
from evacuating import Evacuation, clean
from lazy_source import eventually
from migrating import COMMITTED, FAILED, ROLLED_BACK, UNDECIDED, Migration, kill_agent
from redis_containers import ADDRESS, COMMAND, MAKE_ROOT, put_address, take_addresses

from demo.load import LoadClient
from testbed import Host, Testbed

POD = "web"
MEMBERS = ("web-a", "web-b")
MEGABYTES = "16"
INFRA = ["--infra-image", "patterned", "--infra-command", "/pause"]
HELD = ", hooks: {before_restore: [{run: 'touch /run/held; while test -e /run/held; do sleep 0.05; done'}]}"
# `make evacuations`
KILLS = int(os.environ.get("CRIU_LAZY_EVACUATE_PODS", 1))


@pytest.fixture(scope="module")
def pods() -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"pods-{os.getpid()}", own_cgroups=True) as started:
        prepare_podman(started)
        yield started


def plan_for(runtime: str, more: str = "", to: str = "dst", criu: str = "", selects: str = f"pod: {POD}") -> str:
    cgroups = ", manage_cgroups: ignore" if runtime == "crun" else ""
    return (
        f"destinations: [{{ssh: {to}}}]\n"
        f"profile: {{criu: {{network_lock: nftables{cgroups}{criu}}}{more}}}\n"
        f"move: [{{containers: {{engine: podman, {selects}}}}}]\n"
    )


class Pod:
    """Two containers that tick, each in a volume of its own, and both with the volume `both`."""

    def __init__(self, testbed: Testbed, runtime: str, *options: str) -> None:
        self.testbed = testbed
        self.runtime = runtime
        self.of_members: list[list[str]] = [[] for _ in MEMBERS]
        self.options = options or ("--publish", "8080:80", "--label", "app=shop", "--hostname", "shop")

    def podman(self, *words: str) -> str:
        return self.testbed.src.run(["podman", "--runtime", self.runtime, *words]).stdout

    def run(self) -> None:
        self.podman("pod", "create", f"--name={POD}", *INFRA, *self.options)
        for name, more in zip(MEMBERS, self.of_members, strict=True):
            options = ["--volume", f"{name}:/data", "--volume", "both:/more", "--workdir", "/data", *more]
            self.podman("run", "--detach", "--pod", POD, "--name", name, *options, "patterned", "/tick", MEGABYTES)
        for name in MEMBERS:
            eventually((self.data(self.testbed.src, name) / "info").exists, f"{name} has started")

    @staticmethod
    def data(host: Host, name: str) -> Path:
        return host.root / f"var/lib/containers/storage/volumes/{name}/_data"

    @staticmethod
    def inspect(host: Host, name: str) -> dict[str, Any]:
        return dict(json.loads(host.run(["podman", "inspect", name]).stdout)[0])

    def described(self, host: Host) -> dict[str, Any]:
        """What is to be the same wherever it is."""
        pod = json.loads(host.run(["podman", "pod", "inspect", POD]).stdout)
        pod = pod[0] if isinstance(pod, list) else pod
        infra = self.inspect(host, pod["InfraContainerID"])
        networks = {
            name: (each["IPAddress"], each["MacAddress"])
            for name, each in infra["NetworkSettings"]["Networks"].items()
        }
        members = {
            name: {key: self.inspect(host, name)[key] for key in ("Id", "Name", "Image", "OCIRuntime")}
            for name in MEMBERS
        }
        return {
            "name": pod["Name"], "labels": pod.get("Labels"), "shared": sorted(pod["SharedNamespaces"]),
            "ports": infra["HostConfig"]["PortBindings"], "hostname": infra["Config"]["Hostname"],
            "networks": networks, "members": members, "runtime": infra["OCIRuntime"],
        }  # fmt: skip

    def is_right_at(self, host: Host) -> None:
        """All of it lives there, known to podman, and nothing of it anywhere else."""
        for other in (self.testbed.src, self.testbed.dst):
            listed = other.run(["podman", "pod", "ps", "--format", "{{.Name}} {{.Status}}"]).stdout.split("\n")
            names = other.run(["podman", "ps", "--all", "--format", "{{.Names}} {{.State}}"]).stdout
            if other is not host:
                assert (listed, names) == ([""], ""), (other, listed, names)
                continue
            assert listed == [f"{POD} Running", ""], listed
            assert sorted(names.splitlines())[1:] == [f"{name} running" for name in MEMBERS], names
        infra = json.loads(host.run(["podman", "inspect", MEMBERS[0]]).stdout)[0]["HostConfig"]["NetworkMode"]
        namespaces = set()
        for name in (*MEMBERS, infra.partition(":")[2]):
            pid = self.inspect(host, name)["State"]["Pid"]
            namespaces.add(tuple((host.root / f"proc/{pid}/ns/{kind}").readlink() for kind in ("net", "ipc", "uts")))
        assert len(namespaces) == 1, "they share the pod's namespaces"
        for name in MEMBERS:
            self.answers(host, name)

    def answers(self, host: Host, name: str) -> None:
        """It lives there, its memory is right, and no tick is missing."""
        data = self.data(host, name)
        (data / "answer").unlink(missing_ok=True)
        (data / "ask").touch()
        path = data / "answer"
        assert eventually(lambda: path.exists() and path.read_text(), f"{name} answers") == "right\n"
        ticks = [int(line) for line in (data / "ticks").read_text().splitlines()]
        assert ticks == list(range(len(ticks)))
        assert host.run(["podman", "exec", name, "/hello"]).stdout == "hello\n"

    def remove(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["podman", "pod", "rm", "--force", "--time", "0", POD], check=False)
            host.run(["podman", "volume", "rm", "--force", *MEMBERS, "both"], check=False)


@pytest.fixture(params=["crun"])
def pod(request: pytest.FixtureRequest, pods: Testbed) -> Iterator[Pod]:
    made = Pod(pods, request.param)
    try:
        made.run()
        yield made
    finally:
        made.remove()
        clean(pods)
        for host in (pods.src, pods.dst):
            host.run(["sh", "-c", "rm -rf /run/held /srv/hold* /run/criu-passed"])


def assert_moved(pod: Pod, run: Evacuation, to: Host) -> None:
    assert run.end() == COMMITTED, (run.stderr, run.report)
    assert run.states == dict.fromkeys(MEMBERS, "committed")
    pod.is_right_at(to)


def assert_stayed(pod: Pod, run: Evacuation, *says: str) -> None:
    assert run.end() == FAILED, (run.stderr, run.report)
    assert set(run.states.values()) <= {"failed", "rolled-back"}, run.report
    told = " ".join(item["message"] for item in run.items.values()) + run.stderr
    for words in says:
        assert words in told, told
    pod.is_right_at(pod.testbed.src)


@pytest.mark.parametrize("pod", ["runc", "crun"], indirect=True)
def test_a_pod_goes_there_and_back_as_one(pod: Pod) -> None:
    """With its name, address, ports, labels, and the volume that both have; podman can do with it what it could."""
    src, dst = pod.testbed.src, pod.testbed.dst
    (pod.data(src, "both") / "kept").write_text("all of it\n")
    described, before = pod.described(src), (configuration(src), configuration(dst))
    assert_moved(pod, Evacuation(pod.testbed, plan_for(pod.runtime)), dst)
    assert pod.described(dst) == described
    assert (pod.data(dst, "both") / "kept").read_text() == "all of it\n"
    assert_moved(pod, Evacuation(pod.testbed, plan_for(pod.runtime, to="src"), source=dst), src)
    assert pod.described(src) == described
    assert (configuration(src), configuration(dst)) == before
    src.run(["podman", "pod", "stop", "--time", "0", POD])
    src.run(["podman", "pod", "start", POD])
    assert src.run(["podman", "exec", MEMBERS[1], "/hello"]).stdout == "hello\n"
    src.run(["podman", "pod", "rm", "--force", "--time", "0", POD])
    assert src.run(["podman", "ps", "--all", "--quiet"]).stdout == ""


def test_those_with_the_hosts_pids_keep_them(pods: Testbed) -> None:
    """One, or both; where a pid is taken, it is said before."""
    for of_members in ([["--pid=host"], []], [["--pid=host"], ["--pid=host"]]):
        pod = Pod(pods, "crun")
        pod.of_members = of_members
        try:
            pod.run()
            pids = [pod.inspect(pods.src, name)["State"]["Pid"] for name in MEMBERS]
            assert_moved(pod, Evacuation(pods, plan_for("crun")), pods.dst)
            assert pod.inspect(pods.dst, MEMBERS[0])["State"]["Pid"] == pids[0]
        finally:
            pod.remove()
            clean(pods)


def test_one_that_can_t_be_restored_leaves_all_of_it_running(pod: Pod) -> None:
    """The other one waits, restored, and is undone."""
    dst = pod.testbed.dst
    once = '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != pre-restore ] || mkdir /run/criu-passed\n'
    dst.write("/srv/hold.sh", once, mode=0o755)
    run = Evacuation(pod.testbed, plan_for(pod.runtime, criu=", restore_options: [--action-script, /srv/hold.sh]"))
    assert_stayed(pod, run, "dst: ", "of the same pod: dst: ")
    assert (dst.root / "run/criu-passed").exists(), "one was restored"
    assert_moved(pod, Evacuation(pod.testbed, plan_for(pod.runtime)), dst)


def test_one_that_is_killed_while_it_waits_leaves_all_of_it_running(pod: Pod) -> None:
    """For the other one, with a daemon that tells nothing of it."""
    dst = pod.testbed.dst
    hold = "mkdir /run/criu-passed 2>/dev/null || while test -e /run/criu-passed; do sleep 0.05; done"
    dst.write("/srv/hold.sh", f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != pre-restore ] || {{ {hold}; }}\n', mode=0o755)
    criu = ", restore_options: [--action-script, /srv/hold.sh]"
    run = Evacuation(pod.testbed, plan_for(pod.runtime, ", daemon: stock", criu=criu))
    # By its name: its command line is in a page that has not come.
    eventually(lambda: dst.run(["pgrep", "-x", "tick"], check=False).stdout, "one is restored", 60)
    time.sleep(1)  # it waits for "go"
    dst.run(["pkill", "-9", "-x", "tick"])
    time.sleep(0.5)
    dst.run(["rmdir", "/run/criu-passed"])
    assert_stayed(pod, run, "of the same pod: dst: ")


def test_one_that_is_restored_later_does_not_wait_for_the_one_that_waits_for_it(pod: Pod) -> None:
    hook = ", hooks: {before_restore: [{run: 'mkdir /run/held 2>/dev/null || sleep 3'}]}"
    assert_moved(pod, Evacuation(pod.testbed, plan_for(pod.runtime, hook)), pod.testbed.dst)


def test_one_that_is_restored_early_waits_for_longer_than_a_restore_may_take(pod: Pod) -> None:
    hook = ", hooks: {before_restore: [{run: 'mkdir /run/held 2>/dev/null || sleep 14'}]}, timeouts: {restore: 8}"
    assert_moved(pod, Evacuation(pod.testbed, plan_for(pod.runtime, hook)), pod.testbed.dst)


def test_what_changes_in_it_before_the_freeze_is_seen(pod: Pod) -> None:
    shm = """/proc/$(podman inspect --format "{{.State.Pid}}" web-a)/root/dev/shm/kept"""
    run = Evacuation(pod.testbed, plan_for(pod.runtime, f", hooks: {{before_dump: [{{run: 'touch {shm}'}}]}}"))
    assert_stayed(pod, run, "has files in /dev/shm in its shared IPC namespace, which stays")
    assert run.states == dict.fromkeys(MEMBERS, "rolled-back")


def test_a_dry_run_makes_nothing(pod: Pod) -> None:
    dst = pod.testbed.dst
    run = Evacuation(pod.testbed, plan_for(pod.runtime), "--dry-run")
    assert run.end() == COMMITTED, (run.stderr, run.report)
    assert not dst.run(["podman", "volume", "ls", "--quiet"]).stdout
    pod.is_right_at(pod.testbed.src)


def test_the_plan_that_init_writes_moves_it_as_one(pod: Pod) -> None:
    src = pod.testbed.src
    plan = src.run(["criu-lazy", "init", "--evacuate", "dst", "-o", "-"]).stdout
    entries = [{key: entry[key] for key in entry if key != "profile"} for entry in yaml.safe_load(plan)["move"]]
    assert entries == [{"containers": {"engine": "podman", "pod": POD}}], plan
    src.write("/root/e-written.yaml", plan)
    src.run(["criu-lazy", "evacuate", "--dry-run", "/root/e-written.yaml"])


def test_all_of_it_is_tried_elsewhere(pod: Pod) -> None:
    """The second restore of all fails."""
    dst = pod.testbed.dst
    second = "mkdir /run/criu-passed 2>/dev/null || ! mkdir /run/criu-passed/again 2>/dev/null"
    dst.write("/srv/hold.sh", f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != pre-restore ] || {second}\n', mode=0o755)
    plan = plan_for(pod.runtime, criu=", restore_options: [--action-script, /srv/hold.sh]")
    run = Evacuation(pod.testbed, plan.replace("{ssh: dst}", "{ssh: dst, name: one}, {ssh: dst, name: two}"))
    assert_moved(pod, run, dst)
    assert {item["place"] for item in run.items.values()} == {"two"}
    assert "of the same pod: dst: " in run.stderr


def test_a_killed_agent_leaves_all_of_it_running(pod: Pod) -> None:
    """Of the one whose agent has made the pod, or of the other."""
    dst = pod.testbed.dst
    run = Evacuation(pod.testbed, plan_for(pod.runtime, more=HELD))
    held = pod.testbed.src.root / "run/held"
    eventually(held.exists, "they are frozen", 60)
    kill_agent(dst)
    held.unlink()
    assert_stayed(pod, run, "the agent was killed by SIGKILL", "of the same pod: ")
    assert not dst.run(["podman", "pod", "ps", "--quiet"]).stdout


def test_one_that_can_t_be_dumped_leaves_all_of_it_running(pod: Pod) -> None:
    once = '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != network-lock ] || mkdir /run/criu-passed\n'
    pod.testbed.src.write("/srv/hold.sh", once, mode=0o755)
    run = Evacuation(pod.testbed, plan_for(pod.runtime, criu=", dump_options: [--action-script, /srv/hold.sh]"))
    assert_stayed(pod, run, "checkpoint ended with status", "of the same pod: ")
    assert_moved(pod, Evacuation(pod.testbed, plan_for(pod.runtime)), pod.testbed.dst)


def test_a_lost_link_leaves_all_of_it_running(pod: Pod) -> None:
    run = Evacuation(pod.testbed, plan_for(pod.runtime, more=HELD))
    held = pod.testbed.src.root / "run/held"
    eventually(held.exists, "they are frozen", 60)
    pod.testbed.link.cut()
    held.unlink()
    assert run.end() == FAILED, (run.stderr, run.report)
    pod.testbed.link.mend()
    dst = pod.testbed.dst
    eventually(lambda: not dst.run(["podman", "pod", "ps", "--quiet"]).stdout, "the destination has undone it", 30)
    pod.is_right_at(pod.testbed.src)


def test_a_driver_that_is_killed_when_one_is_restored_settles_all_of_it(pod: Pod) -> None:
    """None was told that it may run."""
    src, dst = pod.testbed.src, pod.testbed.dst
    first = '[ "$CRTOOLS_SCRIPT_ACTION" = post-restore ] && ! mkdir /run/criu-passed 2>/dev/null && sleep 30'
    dst.write("/srv/hold.sh", f"#!/bin/sh\n{first}\nexit 0\n", mode=0o755)
    run = Evacuation(pod.testbed, plan_for(pod.runtime, criu=", restore_options: [--action-script, /srv/hold.sh]"))
    eventually((dst.root / "run/criu-passed").exists, "one is restored", 60)
    run.kill()
    assert not any(run.journal(name).get("went") for name in MEMBERS)
    eventually(lambda: not dst.run(["podman", "pod", "ps", "--quiet"]).stdout, "the destination has undone it", 30)
    dst.run(["rm", "/srv/hold.sh"])
    dst.write("/srv/hold.sh", "#!/bin/sh\n", mode=0o755)
    run = Evacuation(pod.testbed, "", "--resume", again=run)
    assert_moved(pod, run, dst)
    assert not src.run(["podman", "pod", "ps", "--quiet"]).stdout


def test_a_driver_that_is_killed_at_any_time_leaves_it_whole(pod: Pod) -> None:
    src, dst = pod.testbed.src, pod.testbed.dst
    chance = random.Random(os.environ["CRIU_LAZY_SEED"])
    pod.testbed.link.set(rate_mbit=100, rtt_ms=0.2)
    here, there = src, dst
    for _ in range(KILLS):
        run = Evacuation(pod.testbed, plan_for(pod.runtime, ", strategy: lazy", to=there.name), source=here)
        eventually(lambda run=run: len(run.record()) == len(MEMBERS), "it is on record", 30)
        time.sleep(10 * chance.random())
        run.kill()
        run = Evacuation(pod.testbed, "", "--resume", again=run, source=here)
        assert run.end() == COMMITTED, (run.stderr, run.report)
        assert run.states == dict.fromkeys(MEMBERS, "committed")
        pod.is_right_at(there)
        here, there = there, here


def test_one_whose_driver_was_killed_after_go_is_complete(pod: Pod) -> None:
    dst = pod.testbed.dst
    pod.testbed.link.set(rate_mbit=10, rtt_ms=0.2)
    run = Evacuation(pod.testbed, plan_for(pod.runtime, ", strategy: lazy"))
    run_there = {"running", "drained"}
    eventually(lambda: {run.journal(name).get("state") for name in MEMBERS} <= run_there, "both run there", 90)
    run.kill()
    pod.testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert_moved(pod, Evacuation(pod.testbed, "", "--resume", again=run), dst)


def test_one_whose_restore_fails_after_go_is_undecided_and_can_run_on_here(pod: Pod) -> None:
    """The other one runs there by then, and what came of it is not to be undone."""
    src, dst = pod.testbed.src, pod.testbed.dst
    once = '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ] || mkdir /run/criu-passed\n'
    dst.write("/srv/hold.sh", once, mode=0o755)  # criu runs all scripts, and fails then
    run = Evacuation(pod.testbed, plan_for(pod.runtime, criu=", restore_options: [--action-script, /srv/hold.sh]"))
    assert run.end() == UNDECIDED, (run.stderr, run.report)
    states = {state: name for name, state in run.states.items()}
    assert set(states) == {"undecided", "committed"}, run.report
    stays, moved = states["undecided"], states["committed"]
    assert dst.run(["podman", "ps", "--format", "{{.Names}}"]).stdout.split()[1:] == [moved]
    assert src.run(["podman", "ps", "--format", "{{.Names}}"]).stdout.split()[1:] == [stays]
    assert "nothing of it is left at dst" in run.items[stays]["message"]
    profile = f"/var/lib/criu-lazy/{run.name}.evacuation/{run.name}.{stays}.yaml"
    assert "nothing of it is left" in src.run(["criu-lazy", "migrate", "--status", profile], check=False).stdout
    aborted = src.run(["criu-lazy", "migrate", "--abort", "--force", profile], check=False)
    assert aborted.returncode == 0, (aborted.stdout, aborted.stderr)
    for name, host in ((stays, src), (moved, dst)):
        pod.answers(host, name)


NETWORK = f", network: {{addresses: ['{ADDRESS}/24 dev svc0']}}, strategy: lazy"


@pytest.fixture
def with_address(pod: Pod) -> Iterator[Pod]:
    """It has a service address, which its first member's migration moves."""
    put_address(pod.testbed.src)
    yield pod
    take_addresses(pod.testbed)


def have_address(testbed: Testbed) -> list[Host]:
    show = ["ip", "address", "show", "to", ADDRESS]
    return [host for host in (testbed.src, testbed.dst) if host.run(show).stdout]


def profile_of(run: Evacuation, name: str) -> str:
    return f"/var/lib/criu-lazy/{run.name}.evacuation/{run.name}.{name}.yaml"


def test_service_addresses_stay_with_those_that_run_there(with_address: Pod) -> None:
    """The one that carries them is not restored, after "go". It is decided while the other's memory follows."""
    pod, testbed = with_address, with_address.testbed
    src, dst = testbed.src, testbed.dst
    stays, moves = MEMBERS
    fails = f'[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ] || ! readlink "$CRTOOLS_IMAGE_DIR" | grep {stays}'
    dst.write("/srv/hold.sh", f"#!/bin/sh\n{fails}\n", mode=0o755)
    testbed.link.set(rate_mbit=10, rtt_ms=0.2)
    network = f"{NETWORK}, source: {{address: {src.address}}}"
    run = Evacuation(testbed, plan_for(pod.runtime, network, criu=", restore_options: [--action-script, /srv/hold.sh]"))
    eventually(lambda: run.record().get(stays, {}).get("state") == "undecided", "one is not restored", 60)
    assert run.journal(moves)["state"] == "running"
    eventually(lambda: have_address(testbed) == [dst], "the other has the address")
    testbed.client.run(["ping", "-c", "1", "-W", "5", ADDRESS])
    told = src.run(["criu-lazy", "migrate", "--status", profile_of(run, stays)], check=False).stdout
    assert f"service addresses: {ADDRESS}/24 dev svc0: at dst" in told
    assert f"{run.name}.{moves}, of the same pod: running" in told, told
    refusals = {"--abort": "under way with the others of its pod", "--commit": "the last page of all of its pod"}
    for option, says in refusals.items():
        refused = src.run(["criu-lazy", "migrate", option, profile_of(run, moves)], check=False)
        assert refused.returncode == 2 and says in refused.stderr
    aborted = src.run(["criu-lazy", "migrate", "--abort", "--force", profile_of(run, stays)], check=False)
    assert aborted.returncode == 0 and "left at dst, for the others" in aborted.stdout, (aborted.stdout, aborted.stderr)
    assert f"here, ip address add {ADDRESS}/24 dev svc0" in aborted.stdout
    testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    for option in ((), ("--status",), ("--resume",)):
        run = Evacuation(testbed, "", *option, again=run) if option else run
        assert run.end() == ROLLED_BACK, (run.stderr, run.report)
        assert run.states == {stays: "failed" if option == ("--resume",) else "rolled-back", moves: "committed"}
    assert f"{moves}, of the same pod, has moved without it" in run.items[stays]["message"]
    for name, host in ((stays, src), (moves, dst)):
        pod.answers(host, name)
    assert have_address(testbed) == [dst]
    testbed.client.run(["ping", "-c", "1", "-W", "5", ADDRESS])


def test_one_of_which_no_container_is_restored_after_go_runs_on_here(with_address: Pod) -> None:
    pod, testbed = with_address, with_address.testbed
    fails = '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]\n'
    testbed.dst.write("/srv/hold.sh", fails, mode=0o755)
    network = f"{NETWORK}, source: {{address: {testbed.src.address}}}"
    run = Evacuation(testbed, plan_for(pod.runtime, network, criu=", restore_options: [--action-script, /srv/hold.sh]"))
    assert_stayed(pod, run, "the engine's restore")
    assert run.states == dict.fromkeys(MEMBERS, "rolled-back")
    assert have_address(testbed) == [testbed.src]
    testbed.client.run(["ping", "-c", "1", "-W", "5", ADDRESS])


def test_service_addresses_stay_when_the_one_that_brought_them_is_killed_there(with_address: Pod) -> None:
    pod, testbed = with_address, with_address.testbed
    src, dst = testbed.src, testbed.dst
    killed, moves = MEMBERS
    testbed.link.set(rate_mbit=10, rtt_ms=0.2)
    run = Evacuation(testbed, plan_for(pod.runtime, f"{NETWORK}, source: {{address: {src.address}}}"))
    eventually(lambda: {run.journal(name).get("state") for name in MEMBERS} == {"running"}, "they run there", 60)
    dst.run(["kill", "-KILL", str(pod.inspect(dst, killed)["State"]["Pid"])])
    eventually(lambda: run.record()[killed]["state"] == "undecided", "it is undecided", 60)
    testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert run.end() == UNDECIDED, (run.stderr, run.report)
    assert run.states == {killed: "undecided", moves: "committed"}
    assert "stay there for the others of its pod" in run.items[killed]["message"]
    aborted = src.run(["criu-lazy", "migrate", "--abort", "--force", profile_of(run, killed)], check=False)
    assert aborted.returncode == 0 and "left at dst, for the others" in aborted.stdout, (aborted.stdout, aborted.stderr)
    for name, host in ((killed, src), (moves, dst)):
        pod.answers(host, name)
    assert have_address(testbed) == [dst]


def test_a_second_signal_as_one_waits_for_the_other_s_pages_leaves_both_undecided(pod: Pod) -> None:
    src = pod.testbed.src
    pod.testbed.link.set(rate_mbit=20, rtt_ms=0.2)
    run = Evacuation(pod.testbed, plan_for(pod.runtime, ", strategy: lazy"))
    complete, misses = MEMBERS
    rate = ["criu-lazy", "migrate", profile_of(run, misses), "--rate"]
    eventually(lambda: run.journal(misses).get("state") == "running", "it runs there", 90)
    src.run([*rate, "8192"])
    eventually(lambda: run.journal(complete).get("state") == "drained", "one is complete", 90)
    run.process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert [run.journal(name)["state"] for name in MEMBERS] == ["drained", "running"]
    run.process.send_signal(signal.SIGINT)
    assert run.end() == UNDECIDED, (run.stderr, run.report)
    assert run.states == dict.fromkeys(MEMBERS, "undecided")
    told = run.items[complete]["message"]
    assert "every page arrived" in told and "--commit" in told and "killing" not in told, told
    assert "--commit, which waits for the pages that still come" in run.items[misses]["message"]
    told = src.run(["criu-lazy", "migrate", "--status", profile_of(run, complete)], check=False).stdout
    assert "every page arrived: --commit ends it" in told
    assert f"{run.name}.{misses}, of the same pod: undecided\n" in told, told
    told = src.run([*rate, "0"], check=False)
    assert told.returncode == UNDECIDED and "pages may take" not in told.stdout, (told.stdout, told.stderr)
    pod.testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert_moved(pod, Evacuation(pod.testbed, "", "--resume", again=run), pod.testbed.dst)


def logs_of_failed_restores(host: Host) -> str:
    """What criu said there, its last lines."""
    find = "find /var/lib/criu-lazy -path '*.failed*' -name '*restore*.log' -exec tail -n 40 {} +"
    return str(host.run(["sh", "-c", find], check=False).stdout)


def test_its_clients_connections_live_on_and_those_within_it(pods: Testbed) -> None:
    """Redis with a published port, and a replica of it, reached by 127.0.0.1."""
    src, dst = pods.src, pods.dst
    src.run(["sh", "-c", MAKE_ROOT, "sh", "/tmp/redis-root"])
    src.run(["sh", "-c", "tar -c -C /tmp/redis-root . | podman import - redis"])
    src.run(["sh", "-c", "podman save redis | ssh dst podman load"])
    put_address(src)
    replica = ["/redis-server", "--save", "", "--port", "6380", "--repl-diskless-sync-delay", "0"]
    replica += ["--protected-mode", "no", "--replicaof", "127.0.0.1", "6379"]
    asked = ["redis-cli", "-h", ADDRESS, "-p"]

    def ask(port: str, *words: str) -> str:
        return str(pods.client.run([*asked, port, *words], check=False).stdout).strip()

    try:
        src.run(["podman", "pod", "create", "--name", POD, *INFRA, "--publish=6379:6379", "--publish=6380:6380"])
        for name, command in zip(MEMBERS, (COMMAND, replica), strict=True):
            src.run(["podman", "run", "--detach", "--pod", POD, "--name", name, "redis", *command])
        eventually(lambda: "master_link_status:up" in ask("6380", "info", "replication"), "it follows")
        load = LoadClient(pods, 1500)
        network = f", source: {{address: {src.address}}}, network: {{addresses: ['{ADDRESS}/24 dev svc0']}}"
        load.gap_ms()
        # The first one writes on when the second is dumped, and is restored before it: its queue has what wasn't sent.
        late = '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != {} ] || ! readlink "$CRTOOLS_IMAGE_DIR" | grep {} || sleep 2\n'
        src.write("/srv/hold.sh", late.format("pre-dump", MEMBERS[0]), mode=0o755)
        dst.write("/srv/hold.sh", late.format("pre-restore", MEMBERS[1]), mode=0o755)
        options = ", ".join(f"{kind}_options: [--action-script, /srv/hold.sh]" for kind in ("dump", "restore"))
        run = Evacuation(pods, plan_for("crun", network, criu=f", {options}"))
        assert run.end() == COMMITTED, (run.stderr, logs_of_failed_restores(dst))
        assert run.states == dict.fromkeys(MEMBERS, "committed"), (run.stderr, run.report)
        told = load.latest["operations"]
        eventually(lambda: load.latest["operations"] > told, "the client goes on")
        ask("6379", "set", "told", "it has moved")
        eventually(lambda: ask("6380", "get", "told") == "it has moved", "the replica goes on")
        for fact in ("sync_full:1", "sync_partial_ok:0"):
            assert fact in ask("6379", "info", "stats"), "by the connection that it had"
        seen = load.end()
        assert (seen["checked"], seen["wrong"], seen["errors"]) == (1500, 0, 0), seen
        print(f"downtimes {[item['downtime_s'] for item in run.items.values()]}, client waited {load.gap_ms():.0f} ms")
        assert src.run(["podman", "ps", "--all", "--quiet"]).stdout == ""
        assert sorted(dst.run(["podman", "ps", "--format", "{{.Names}}"]).stdout.split())[1:] == list(MEMBERS)
    finally:
        for host in (src, dst):
            host.run(["podman", "pod", "rm", "--force", "--time", "0", POD], check=False)
        take_addresses(pods)
        clean(pods)


def test_a_pod_that_is_not_there_is_none(pods: Testbed) -> None:
    program = "from criu_lazy_ext.engines.podman_pod import find; print(find(['podman'], 'gone'))"
    assert pods.src.run(["python3", "-c", program]).stdout == "None\n"


def test_what_can_t_move_of_a_pod_is_said_before(pod: Pod) -> None:
    src, dst = pod.testbed.src, pod.testbed.dst

    def refused(plan: str) -> str:
        run = Evacuation(pod.testbed, plan)
        assert run.end() in (FAILED, 2), run.stderr
        return run.stderr + json.dumps(run.report)

    part = f"web-a is in the pod {POD}, which moves as one, with web-b: containers: {{engine: podman, pod: {POD}}}"
    assert part in refused(plan_for(pod.runtime, selects="match: '*-a'"))
    text = "container: {engine: podman, name: web-a%s}\ndestination: {ssh: dst}\n"
    for key, says in (("", f"is in the pod {POD!r}, which would stay here"), (f", pod: {POD}", "container.pod: a pod")):
        migration = Migration(pod.testbed, text % key)
        assert migration.end() in (FAILED, 2)
        assert says in migration.stderr
    shm = src.root / f"proc/{pod.inspect(src, MEMBERS[0])['State']['Pid']}/root/dev/shm/kept"
    shm.write_text("here")
    assert "has files in /dev/shm in its shared IPC namespace, which stays" in refused(plan_for(pod.runtime))
    shm.unlink()
    src.run(["podman", "create", "--pod", POD, "--name", "third", "patterned", "/tick", "1"])
    assert "has containers that don't run, which would be lost: podman rm third" in refused(plan_for(pod.runtime))
    src.run(["podman", "rm", "third"])
    dst.run(["podman", "pod", "create", "--name", POD, *INFRA])
    assert f"podman has a pod {POD!r} already: if it is of no use" in refused(plan_for(pod.runtime))
    dst.run(["podman", "pod", "rm", "--force", "--time", "0", POD])
    pod.is_right_at(src)
