"""`criu-lazy migrate` of containers: their engine knows them afterwards where they run, and nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from containers import (
    CHANGED_BYTES,
    HERE,
    NAME,
    RESTART,
    Container,
    ContainerdContainer,
    PodmanContainer,
    assert_moved,
    assert_stayed,
    configuration,
    prepare_containerd,
    prepare_podman,
    start_containerd,
)
from drop_in import SHIM, SILENT, running, status
from lazy_source import eventually
from migrating import (
    COMMITTED,
    FAILED,
    HOLD,
    ROLLED_BACK,
    Migration,
    held,
    kill,
    kill_agent,
    kill_ours,
    kill_pids,
    processes,
)
from paths import CONFIGS
from postgres import PgBench, Postgres
from redis_containers import (
    ADDRESS,
    ADDRESS6,
    Client6,
    RedisContainer,
    RedisContainerdContainer,
    RedisPodmanContainer,
    Replica,
    moving_with_its_address,
    put_address,
    put_address6,
    take_addresses,
)

from demo.load import LoadClient
from testbed import Host, Testbed

LIMIT_BYTES = 256 << 20
# `make container-moves`
MOVES = int(os.environ.get("CRIU_LAZY_CONTAINER_MOVES", 1))
KINDS = os.environ.get("CRIU_LAZY_CONTAINER_ENGINES", "runc crun podman-crun containerd").split()


@pytest.fixture(scope="module")
def own_cgroups() -> Iterator[Testbed]:
    """Hosts with cgroup2, each with a root of its own."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"containers-{os.getpid()}", own_cgroups=True) as started:
        yield started


@pytest.fixture(scope="module")
def with_podman(own_cgroups: Testbed) -> Testbed:
    prepare_podman(own_cgroups)
    return own_cgroups


@pytest.fixture(scope="module")
def with_containerd(with_podman: Testbed) -> Testbed:
    prepare_containerd(with_podman)
    return with_podman


@pytest.fixture(params=["runc", "crun", "podman-runc", "podman-crun"])
def container(request: pytest.FixtureRequest, own_cgroups: Testbed) -> Iterator[Container]:
    """A running one, on src. Of podman's, other options may follow."""
    kind, *options = request.param.split()
    if kind.startswith("podman"):
        made: Container = PodmanContainer(request.getfixturevalue("with_podman"), kind.partition("-")[2], options)
    elif kind == "containerd":
        made = ContainerdContainer(request.getfixturevalue("with_containerd"))
    else:
        made = Container(own_cgroups, kind)
    try:
        made.run()
        yield made
    finally:
        made.remove()
        clean(own_cgroups)


def only(*engines: str) -> pytest.MarkDecorator:
    """For a test that need not be run with each engine."""
    return pytest.mark.parametrize("container", engines, indirect=True)


def clean(testbed: Testbed) -> None:
    testbed.link.mend()
    testbed.link.set()
    for host in (testbed.src, testbed.dst):
        kill_ours(host)
        host.run(["sh", "-c", "rm -rf /var/lib/criu-lazy* /root/m*.yaml /run/held /srv/hold*"])


@only("runc", "crun", "podman-crun --label=app=shop --network=none", "containerd")
def test_a_plan_selects_it(container: Container) -> None:
    """By what its engine says runs there."""
    src = container.testbed.src
    if container.engine == "containerd":
        src.run(["ctr", "containers", "label", NAME, "app=shop"])
    labels = container.engine in ("podman", "containerd")
    for selector, finds in (
        ("match: 'b?x'", True), ("match: 'c*'", False), ("label: app=shop", labels), ("label: app", labels),
        ("label: app=other", False),
    ):  # fmt: skip
        plan = f"destinations: [{{ssh: dst}}]\nmove: [{{containers: {{engine: {container.engine}, {selector}}}}}]\n"
        src.write("/root/m-plan.yaml", plan)
        done = src.run(["criu-lazy", "evacuate", "--dry-run", "/root/m-plan.yaml"], check=False)
        assert (f"{NAME}: container {NAME}, " in done.stdout) is finds, (selector, done)
        assert finds or "nothing runs here that this means" in done.stderr


@only("runc", "crun", "podman-crun", "containerd")
def test_a_plan_of_what_runs_here_has_it_once(with_podman: Testbed, container: Container) -> None:
    src = container.testbed.src
    src.run(["rm", "-f", "/root/m-plan.yaml"])
    said = src.run(["criu-lazy", "init", "--evacuate", "dst", "client", "-o", "/root/m-plan.yaml"]).stdout
    assert said.endswith("written; criu-lazy evacuate --dry-run /root/m-plan.yaml says whether it can be done\n")
    plan = yaml.safe_load(src.read("/root/m-plan.yaml"))
    assert plan["destinations"] == [{"ssh": "dst"}, {"ssh": "client"}]
    [entry] = plan["move"]
    assert entry["container"] == {"engine": container.engine, "name": NAME}
    has_v1 = len(Path("/proc/self/cgroup").read_text().splitlines()) > 1
    assert ("profile" in entry) == (has_v1 and "manage_cgroups" in container.profile()), entry
    container.remove()
    nothing = src.run(["criu-lazy", "init", "--evacuate", "dst", "-o", "/root/none.yaml"], check=False)
    assert nothing.returncode == 1 and "no container of podman, runc, crun, containerd runs here" in nothing.stderr


@only("runc", "crun")
def test_there_and_back_the_runtime_knows_it_where_it_runs(container: Container) -> None:
    src, dst = container.testbed.src, container.testbed.dst
    before = configuration(src), configuration(dst)
    migration = Migration(container.testbed, container.profile())
    assert_moved(container, migration)
    assert migration.report["files"]["bytes"] > 100_000, "its root came along"
    assert "frozen_seconds" in migration.report["files"]
    assert dst.read(f"/proc/{container.pid(dst)}/cgroup").splitlines()[-1] == f"0::/{NAME}"

    back = Migration(container.testbed, container.profile().replace("ssh: dst", "ssh: src"), source=dst)
    assert back.end() == 0, back.stderr
    assert container.listed(dst) == []
    container.serves(src)
    assert (configuration(src), configuration(dst)) == before
    src.run([container.engine, "kill", NAME, "KILL"])
    eventually(lambda: container.state(src) == "stopped", "it is killed")
    src.run([container.engine, "delete", NAME])
    assert container.listed(src) == []
    assert not (src.root / f"sys/fs/cgroup/{NAME}").exists()


@only("podman-runc", "podman-crun")
def test_there_and_back_podman_knows_it_where_it_runs(container: PodmanContainer) -> None:
    """With its restart policy, its address and published port, its volume, and what changed in its root."""
    src, dst = container.testbed.src, container.testbed.dst
    before = configuration(src), configuration(dst)
    container.change_root(src)
    described = container.inspect(src)
    migration = Migration(container.testbed, container.profile(more="precopy: {rounds: 1}\n"))
    assert_moved(container, migration)
    assert migration.report["precopy"]["used"]
    assert migration.report["files"]["bytes"] > CHANGED_BYTES > migration.report["files"]["frozen_bytes"]
    container.assert_root_changed(dst)
    moved = container.inspect(dst)
    for key in ("Id", "Name", "Image", "OCIRuntime"):
        assert moved[key] == described[key]
    assert moved["HostConfig"]["RestartPolicy"] == described["HostConfig"]["RestartPolicy"]
    assert moved["HostConfig"]["PortBindings"] == described["HostConfig"]["PortBindings"]
    networks = [each["NetworkSettings"]["Networks"]["podman"] for each in (described, moved)]
    for key in ("IPAddress", "MacAddress"):
        assert networks[0][key] == networks[1][key]

    back = Migration(container.testbed, container.profile().replace("ssh: dst", "ssh: src"), source=dst)
    assert back.end() == 0, (back.stderr, back.report)
    assert container.listed(dst) == []
    container.serves(src)
    container.assert_root_changed(src)
    assert (configuration(src), configuration(dst)) == before
    kill_pids(src, container.pid(src))
    eventually(lambda: container.inspect(src)["RestartCount"] == 1, "podman starts it anew, as its policy says")
    src.run(["podman", "stop", "--time", "0", NAME])
    assert container.state(src) == "exited"
    src.run(["podman", "start", NAME])
    assert src.run(["podman", "exec", NAME, "/hello"]).stdout == "hello\n"
    src.run(["podman", "rm", "--force", "--time", "0", NAME])
    assert container.listed(src) == []


@only("containerd")
def test_there_and_back_containerd_knows_it_where_it_runs(container: ContainerdContainer) -> None:
    """With its labels, what changed in its root, and nothing of criu-lazy's in its record."""
    src, dst = container.testbed.src, container.testbed.dst
    known = [json.loads(src.run(["ctr", "containers", "info", NAME]).stdout)]
    migration = Migration(container.testbed, (CONFIGS / "containerd.yaml").read_text() + "precopy: {rounds: 1}\n")
    assert_moved(container, migration)
    assert migration.report["precopy"]["used"]
    assert migration.report["files"]["bytes"] > migration.report["files"]["frozen_bytes"]
    assert dst.read(f"/proc/{container.pid(dst)}/cgroup").splitlines()[-1] == f"0::/default/{NAME}"
    known.append(json.loads(dst.run(["ctr", "containers", "info", NAME]).stdout))
    assert {key for key in known[0] if known[0][key] != known[1][key]} <= {"CreatedAt", "UpdatedAt"}
    assert f"\n{NAME} " not in src.run(["ctr", "snapshots", "ls"]).stdout
    assert "criu-lazy" not in dst.run(["ctr", "snapshots", "info", NAME]).stdout

    back = Migration(container.testbed, container.profile().replace("ssh: dst", "ssh: src"), source=dst)
    assert back.end() == 0, (back.stderr, back.report)
    assert container.listed(dst) == []
    container.serves(src)
    src.run(["ctr", "containers", "label", NAME, f"{RESTART}="])
    src.run(["ctr", "tasks", "kill", "--signal", "KILL", NAME])
    eventually(lambda: container.state(src) == "stopped", "its shim sees its end")
    src.run(["ctr", "tasks", "rm", NAME])
    src.run(["ctr", "containers", "rm", NAME])
    assert container.listed(src) == []


@only("podman-runc --rm --network=none")
def test_podman_s_sample_moves_one_that_goes_when_it_ends(container: PodmanContainer) -> None:
    dst = container.testbed.dst
    assert_moved(container, Migration(container.testbed, (CONFIGS / "podman.yaml").read_text()))
    dst.run(["podman", "stop", "--time", "0", NAME])
    eventually(lambda: container.listed(dst) == [], "podman removes it")


def test_the_sample_moves_it_with_a_volume_as_init_would(with_podman: Testbed) -> None:
    container = Container(with_podman, "runc")
    try:
        with_podman.src.write("/srv/box-data/kept", "all of it\n")
        volume = {"destination": "/more", "source": "/srv/box-data", "type": "bind", "options": ["rbind", "rw"]}
        container.config["mounts"].append(volume)
        container.run()
        written = with_podman.src.run(["criu-lazy", "init", "--container", NAME, "dst", "-o", "-"], check=False).stdout
        for key in ("engine: runc", f"name: {NAME}", "volumes: [/srv/box-data]"):
            assert f"  {key}" in written
        with_podman.dst.run(["mkdir", "/srv/box-data"])
        said = with_podman.src.run(["criu-lazy", "init", "--container", NAME, "dst", "-o", "/root/warned.yaml"]).stdout
        assert "warned of at its top: bind-mounts" in said
        written = with_podman.src.read("/root/warned.yaml")
        assert "# warn: source: /srv/box-data is mounted from this host, and stays here: name it" in written
        left = container.profile() + "accept: [bind-mounts]\n"
        with_podman.src.write("/root/left.yaml", left)
        assert "ok   bind-mounts: source: /srv/box-data is mounted" in with_podman.src.run(
            ["criu-lazy", "check", "/root/left.yaml"]).stdout  # fmt: skip
        dry = Migration(with_podman, left, "--dry-run")
        assert dry.end() == COMMITTED and "box-data" not in dry.stderr
        migration = Migration(with_podman, (CONFIGS / "runc.yaml").read_text())
        assert_moved(container, migration)
        assert f"preflight: container {NAME}, destination dst" in migration.stderr
        assert with_podman.dst.read("/srv/box-data/kept") == "all of it\n"
    finally:
        container.remove()
        clean(with_podman)


@pytest.mark.parametrize("kind", KINDS)
def test_redis_moves_with_its_address_and_its_clients_connection(
    kind: str, with_podman: Testbed, request: pytest.FixtureRequest
) -> None:
    engine, _, runtime = kind.partition("-")
    if runtime:
        container: Container = RedisPodmanContainer(with_podman, runtime)
    elif engine == "containerd":
        container = RedisContainerdContainer(request.getfixturevalue("with_containerd"))
    else:
        container = RedisContainer(with_podman, engine)
    put_address(with_podman.src)
    put_address6(with_podman)
    client6 = None
    try:
        container.run()
        load = LoadClient(with_podman, 4000)
        here, there = with_podman.src, with_podman.dst
        if runtime:
            client6 = Client6(with_podman)
            connection = client6.connection()
            here.write("/root/checked.yaml", container.profile())
            checked = " ".join(here.run(["criu-lazy", "check", "/root/checked.yaml"], check=False).stdout.split())
            services = f"{ADDRESS} port 6379, {ADDRESS6} port 6379"
            assert f"2 connections come through published ports, by {services}: put the address" in checked
        for _ in range(MOVES):
            move(container, load, here, there)
            here, there = there, here
            assert client6 is None or client6.connection() == connection, "so did that by IPv6"
        seen = load.end()
        assert (seen["checked"], seen["wrong"]) == (4000, 0)
        assert seen["errors"] == 0, "its connection lived on"
    finally:
        if client6 is not None:
            client6.end()
        container.remove()
        take_addresses(with_podman)
        clean(with_podman)


def move(container: Container, load: LoadClient, here: Host, there: Host) -> None:
    """Prints how long it was down, as the client saw it and as is reported."""
    text = moving_with_its_address(container)
    text = text.replace("  addresses:  ", f"  addresses:\n    - {ADDRESS6}/64 dev svc0  ")
    text = text.replace("ssh: dst", f"ssh: {there.name}").replace("10.77.0.1 ", f"{here.address} ")
    load.gap_ms()
    migration = Migration(container.testbed, text, source=here)
    assert migration.end(120) == 0, (migration.stderr, migration.report)
    assert (container.listed(here), container.listed(there)) == ([], [NAME])
    told = load.latest["operations"]
    eventually(lambda: load.latest["operations"] > told, "the client goes on")
    downtime_ms = 1e3 * migration.report["downtime_s"]
    who = f"{container.engine} {container.runtime} to {there.name}"
    faults = migration.report["fault_wait_us"]
    page_ms = faults["max"] / 1e3 if faults else 0.0
    print(
        f"{who}: client waited {load.gap_ms():.0f} ms, reported downtime {downtime_ms:.0f} ms, "
        f"longest wait for a page {page_ms:.1f} ms, phases {migration.report['phases_s']}",
        flush=True,
    )


def test_two_containers_that_talk_move_one_after_the_other(own_cgroups: Testbed) -> None:
    """Also while one's memory still follows, they talk."""
    src, dst = own_cgroups.src, own_cgroups.dst
    container = RedisContainer(own_cgroups, "runc")
    put_address(src)
    try:
        container.run()
        replica = Replica(container)
        assert LoadClient(own_cgroups, 1500).end()["wrong"] == 0
        text = moving_with_its_address(container).replace("source:\n", "source:\n  rate: 500K\n")
        migration = Migration(own_cgroups, f"{text}strategy: lazy\n")
        eventually(lambda: migration.is_in("running") or migration.process.poll() is not None, "it runs there")
        replica.follows("one has moved")
        assert migration.is_in("running")
        migration.decide("--rate", "0")
        assert migration.end() == COMMITTED, (migration.stderr, migration.report)
        migration = Migration(own_cgroups, replica.moving())
        assert migration.end() == COMMITTED, (migration.stderr, migration.report)
        replica.follows("both have moved")
        assert (sorted(container.listed(dst)), container.listed(src)) == (sorted([NAME, replica.name]), [])
    finally:
        replica.remove()
        container.remove()
        take_addresses(own_cgroups)
        clean(own_cgroups)


def test_postgresql_moves_with_its_volume_under_load(with_podman: Testbed) -> None:
    src, dst = with_podman.src, with_podman.dst
    container = Postgres(with_podman)
    put_address(src)
    try:
        container.run()
        load = PgBench(container, clients=8)
        migration = Migration(with_podman, moving_with_its_address(container))
        assert migration.end() == COMMITTED, (migration.stderr, migration.report)
        assert (container.listed(src), container.listed(dst)) == ([], [NAME])
        container.assert_consistent(load.end(), load.clients)
    finally:
        container.remove()
        take_addresses(with_podman)
        clean(with_podman)


@only("crun", "podman-runc", "containerd")
def test_a_checkpoint_that_fails_leaves_it_running(container: Container) -> None:
    """Frozen already."""
    src = container.testbed.src
    src.write("/srv/hold.sh", '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != network-lock ]\n', mode=0o755)
    criu = ", dump_options: [--action-script, /srv/hold.sh]"
    assert_stayed(container, Migration(container.testbed, container.profile(criu=criu)), "checkpoint ended with status")


@only("runc", "crun", "podman-crun", "containerd")
def test_a_restore_that_fails_leaves_it_running(container: Container) -> None:
    dst = container.testbed.dst
    dst.write("/srv/hold.sh", '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]\n', mode=0o755)
    criu = ", restore_options: [--action-script, /srv/hold.sh]"
    migration = Migration(container.testbed, container.profile(criu=criu))
    assert_stayed(container, migration, "dst: the engine's restore ended with status 1")
    if isinstance(container, PodmanContainer):
        assert container.inspect(container.testbed.src)["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert_moved(container, Migration(container.testbed, container.profile()))


@only("runc", "podman-runc", "containerd")
def test_a_killed_runtime_changes_nothing(container: Container) -> None:
    """CRIU goes on without it; what it would have removed is removed."""
    src = container.testbed.src
    migration = held(container.testbed, container.profile(more=HOLD))
    kill(src, container.runtime, "checkpoint")
    src.run(["rm", "/run/held"])
    assert_moved(container, migration)


@only("crun", "podman-crun --rm", "containerd")
def test_a_killed_runtime_at_the_destination_leaves_it_running(container: Container) -> None:
    criu = ", restore_options: [--action-script, /srv/hold.sh]"
    text = container.profile(criu=criu)
    migration = held(container.testbed, text, at="post-restore", host=container.testbed.dst, seconds=20)
    kill(container.testbed.dst, f"{container.runtime} ", " restore ", "--image-path")
    assert_stayed(container, migration, "dst: ")


@only("containerd")
def test_a_killed_containerd_at_the_destination_leaves_it_running(container: ContainerdContainer) -> None:
    """It could not be told that the container is none of its own: its record alone is left to be removed."""
    dst = container.testbed.dst
    criu = ", restore_options: [--action-script, /srv/hold.sh]"
    migration = held(container.testbed, container.profile(criu=criu), at="post-restore", host=dst, seconds=20)
    kill_pids(dst, *(process.pid for process in processes(dst) if process.name == "containerd"))
    try:
        assert migration.end() == ROLLED_BACK, (migration.stderr, migration.report)
        container.serves(container.testbed.src)
    finally:
        start_containerd(dst)
    again = Migration(container.testbed, container.profile())
    assert again.end() == FAILED, again.stderr
    assert f"containerd has a container {NAME!r} in the namespace default already: if it is of no use" in again.stderr
    dst.run(["ctr", "containers", "rm", NAME])
    assert_moved(container, Migration(container.testbed, container.profile()))


def test_one_whose_address_other_hosts_see_is_refused(with_podman: Testbed) -> None:
    """While memory follows, both hosts would answer for it."""
    src = with_podman.src
    src.run(["podman", "network", "create", "-d", "macvlan", "-o", "parent=svc0", "--subnet", "10.78.9.0/24", "lan"])
    container = PodmanContainer(with_podman, "crun", ["--network=lan"])
    try:
        container.run()
        migration = Migration(with_podman, container.profile())
        assert migration.end() == FAILED
        assert f"container {NAME!r} has the network 'lan', of the driver macvlan: its addresses" in migration.stderr
        assert container.listed(src) == [NAME]
    finally:
        container.remove()
        clean(with_podman)
        src.run(["podman", "network", "rm", "--force", "lan"])


@only("podman-crun", "containerd")
def test_a_killed_agent_leaves_nothing_of_the_engine_s_restore(container: Container) -> None:
    """Not even what holds podman's published port: the next migration finds it free."""
    dst = container.testbed.dst
    text = container.profile(criu=", restore_options: [--action-script, /srv/hold.sh]")
    migration = held(container.testbed, text, at="post-restore", host=dst, seconds=60)
    kill_agent(dst)
    assert_stayed(container, migration, "the agent was killed by SIGKILL")
    words = ("conmon", "criu", "crun", "runc")
    eventually(lambda: not any(process.name.startswith(words) for process in processes(dst)), "nothing of it is left")
    assert_moved(container, Migration(container.testbed, container.profile()))


@only("crun")
def test_the_drop_in_serves_crun_whose_source_is_stock(container: Container) -> None:
    """By a file of CRIU's, as crun has no option for lazy pages."""
    src, dst = container.testbed.src, container.testbed.dst
    directories = ["--image-path", "/srv/hold/images", "--work-path", "/srv/hold/work"]
    address = ["--address", src.address, "--port", "27777"]
    for host, told in ((src, f"address {src.address}\nport 27777\nstatus-fd 9\n"), (dst, "")):
        host.run(["mkdir", "-p", "/srv/hold/images", "/srv/hold/work"])
        host.write("/srv/hold/criu.conf", f"lazy-pages\nnetwork-lock nftables\n{told}")
    crun = ["env", "CRIU_CONFIG_FILE=/srv/hold/criu.conf", "crun"]
    dst.run(["criu-lazy", "drop-in", "install"])
    try:
        dump = [*crun, "checkpoint", "--manage-cgroups-mode=ignore", *directories, NAME]
        with running(src, dump, "/srv/hold/served") as served:
            src.run(["sh", "-c", f"scp -q -r /srv/hold/images dst:/srv/hold/ && scp -q -r {HERE} dst:/srv/"])
            shim = ["sh", "-c", SHIM, "sh", "/srv/hold/log", "/srv/hold/work/lazy-pages.socket"]
            daemon = [*shim, "-D", "/srv/hold/images", "-W", "/srv/hold/work", "--page-server", *address]
            with running(dst, daemon, "/srv/hold/ready") as serves:
                restore = [*crun, "restore", "--detach", "--manage-cgroups-mode=ignore", "--bundle", HERE]
                dst.run(["sh", "-c", SILENT, "sh", *restore, *directories, NAME])
                assert (status(serves), status(served)) == (0, 0)
        container.serves(dst)
        assert container.listed(src) == []
    finally:
        dst.run(["criu-lazy", "drop-in", "remove"])


@only("crun", "podman-runc")
def test_a_lost_link_leaves_it_running(container: Container) -> None:
    src = container.testbed.src
    migration = held(container.testbed, container.profile(more=HOLD))
    container.testbed.link.cut()
    src.run(["rm", "/run/held"])
    assert migration.end() == 3, migration.stderr
    container.serves(src)
    container.testbed.link.mend()
    eventually(lambda: container.listed(container.testbed.dst) == [], "the destination has undone it")


@only("podman-crun")
def test_an_aborted_commit_gives_podman_the_restart_policy_back(container: PodmanContainer) -> None:
    src, dst = container.testbed.src, container.testbed.dst

    def policy() -> str:
        return str(container.inspect(src)["HostConfig"]["RestartPolicy"]["Name"])

    container.testbed.link.set(rate_mbit=6, rtt_ms=0.2)
    migration = Migration(container.testbed, container.profile(more="strategy: lazy\n"))
    eventually(lambda: migration.is_in("running") and policy() == "no", "nothing starts the frozen one anew")
    migration.process.kill()
    migration.process.wait()
    kill_pids(dst, container.pid(dst))
    aborted = migration.decide("--abort", "--force")
    assert aborted.returncode == 0, (aborted.stdout, aborted.stderr)
    assert policy() == "always"
    dst.run(["podman", "rm", "--force", "--time", "0", NAME])
    container.serves(src)


@only("podman-crun")
def test_init_writes_a_profile_by_which_it_moves(container: Container) -> None:
    src = container.testbed.src
    made = src.run(["criu-lazy", "init", "--container", NAME, "dst", "-o", "-"], check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert_moved(container, Migration(container.testbed, made.stdout))
    unknown = src.run(["criu-lazy", "init", "--container", "other", "dst"], check=False)
    assert "podman, runc, crun, containerd know no container 'other'" in unknown.stderr


@only("runc", "crun", "podman-crun", "containerd")
def test_check_asks_of_a_container_without_a_profile(with_podman: Testbed, container: Container) -> None:
    src, dst = container.testbed.src, container.testbed.dst

    def check(*words: str) -> tuple[int, dict[str, str], str]:
        done = src.run(["criu-lazy", "check", "--container", *words, "--json"], check=False)
        found = json.loads(done.stdout) if done.stdout else []
        return done.returncode, {each["check"]: each["verdict"] + each["host"] for each in found}, done.stderr

    before = container.listed(src)
    code, found, errors = check(NAME, "dst")
    # A profile answers that, where a host has both versions: criu.manage_cgroups.
    failed = {name for name, verdict in found.items() if verdict.startswith("fail")} - {"control-groups"}
    assert errors == "" and not failed and code == (found["control-groups"] != "oksource")
    assert found["engine"] == "oksource" and found["engine-there"] == "okdst" and "file-locks" not in found
    assert check(NAME)[0] == code and "engine-there" not in check(NAME)[1]
    other = "crun" if container.engine == "runc" else "runc"
    code, found, errors = check(NAME, "--engine", other)
    assert code == 2 and f"--container: {other} knows no container '{NAME}'" in errors
    assert check("other", "dst")[0] == 2
    assert container.listed(src) == before and container.listed(dst) == [], "nothing is touched"


@only("runc")
def test_what_can_t_move_is_said_before(container: Container) -> None:
    def refused(text: str) -> str:
        migration = Migration(container.testbed, text)
        assert migration.end() in (FAILED, 2), migration.stderr
        return migration.stderr + str(migration.report.get("message"))

    container.config["process"]["terminal"] = True
    container.testbed.src.write(f"{HERE}/config.json", json.dumps(container.config))
    text = container.profile()
    assert "has a terminal" in refused(text)
    container.config["process"]["terminal"] = False
    container.testbed.src.write(f"{HERE}/config.json", json.dumps(container.config))
    assert f"{container.engine} knows no container 'other'" in refused(text.replace(f"name: {NAME}", "name: other"))
    container.testbed.dst.run(["rm", "-rf", HERE])
    assert "config.json is missing" in refused(container.profile(files="shared"))
    container.testbed.src.run([container.engine, "pause", NAME])
    assert "is paused: only a running container can be moved" in refused(text)
    as_task = f"task: {{pid: {container.pid(container.testbed.src)}}}\ndestination: {{ssh: dst}}\n"
    assert f"is in a frozen control group, /sys/fs/cgroup/{NAME}" in refused(as_task)
    container.testbed.src.run([container.engine, "resume", NAME])
    container.serves(container.testbed.src)


@only("podman-crun")
def test_what_podman_can_t_move_is_said_before(container: PodmanContainer) -> None:
    def refused() -> str:
        migration = Migration(container.testbed, container.profile())
        assert migration.end() in (FAILED, 2), migration.stderr
        return migration.stderr + str(migration.report.get("message"))

    src, dst = container.testbed.src, container.testbed.dst
    src.run(["podman", "pause", NAME])
    looked = src.run(["criu-lazy", "check", "--container", NAME], check=False)
    src.run(["podman", "unpause", NAME])
    told = f"container.name: {NAME!r} is paused: only a running container can be moved\n"
    assert (looked.returncode, looked.stderr.partition("error: ")[2]) == (1, told), "no other engine is spoken of"
    dst.run(["podman", "tag", "patterned", "other"])
    image = container.inspect(src)["Image"][:12]
    dst.run(["podman", "save", "--output", "/tmp/image.tar", "patterned"])
    dst.run(["podman", "rmi", "--force", image])
    try:
        missing = f"image localhost/patterned:latest ({image}) is missing: at the source, podman save "
        missing += "localhost/patterned:latest | ssh dst podman load"
        assert missing in refused()
        src.write("/root/checked.yaml", container.profile())
        checked = src.run(["criu-lazy", "check", "-v", "/root/checked.yaml"], check=False).stdout.splitlines()
        assert "ok   engine (source)" in checked
        assert f"FAIL engine-there: dst: {missing}" in " ".join(checked)
    finally:
        dst.run(["podman", "load", "--input", "/tmp/image.tar"])
    dst.run(["podman", "untag", "patterned"])
    assert f"image {image} has not the name localhost/patterned:latest, which podman looks for: podman tag" in refused()
    dst.run(["podman", "tag", image, "localhost/patterned:latest"])
    dst.run(["podman", "create", "--name", NAME, "patterned", "/tick"])
    assert f"podman has a container {NAME!r} already (created)" in refused()
    dst.run(["podman", "rm", NAME])
    container.serves(src)


@only("crun", "podman-crun")
def test_a_crun_that_can_t_load_criu_is_told_of_before(container: Container) -> None:
    """Debian's crun only recommends the library."""
    container.testbed.src.write("/root/checked.yaml", container.profile())
    [directory] = {path.parent for path in container.testbed.src.root.glob("usr/lib/*/libcriu.so.2*")}
    inside = f"/usr/lib/{directory.name}"
    for host, name in ((container.testbed.src, "source"), (container.testbed.dst, "dst")):
        host.run(["sh", "-c", f"mkdir /srv/held && mv {inside}/libcriu.so.2* /srv/held"])
        try:
            checked = container.testbed.src.run(["criu-lazy", "check", "/root/checked.yaml"], check=False).stdout
        finally:
            host.run(["sh", "-c", f"mv /srv/held/* {inside} && rmdir /srv/held"])
        assert f"{name}: crun can't dump and restore without libcriu.so.2: apt install libcriu2" in checked


@only("runc", "podman-crun --network=none")
def test_who_shares_its_network_is_told_of_before(container: Container) -> None:
    """It would stay there, without its network."""
    src = container.testbed.src
    pid = src.start(["sleep", "1000"])
    try:
        src.write("/root/checked.yaml", container.profile())
        assert " shared-network" not in src.run(["criu-lazy", "check", "/root/checked.yaml"], check=False).stdout
    finally:
        kill_pids(src, pid)
    pid = src.start(["nsenter", "--target", str(container.pid(src)), "--net", "sleep", "1000"])
    try:
        refused = Migration(container.testbed, container.profile())
        assert refused.end() == FAILED, refused.stderr
        assert f"process {pid} (sleep) is in the container's network namespace, and stays here" in refused.stderr
        container.serves(src)
        assert_moved(container, Migration(container.testbed, container.profile(more="accept: [shared-network]\n")))
    finally:
        kill_pids(src, pid)


@only("runc")
def test_a_namespace_that_is_missing_at_the_destination_is_told_of_before(container: Container) -> None:
    src, dst = container.testbed.src, container.testbed.dst
    container.remove()
    container = Container(container.testbed, "runc")
    for namespace in container.config["linux"]["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = "/run/netns/own"
    src.run(["ip", "netns", "add", "own"])
    try:
        container.run()
        refused = Migration(container.testbed, container.profile())
        assert refused.end() == FAILED, refused.stderr
        assert "dst: namespace /run/netns/own, which config.json names, is missing" in refused.stderr
        container.serves(src)
        dst.run(["ip", "netns", "add", "own"])
        assert_moved(container, Migration(container.testbed, container.profile()))
    finally:
        container.remove()
        for host in (src, dst):
            host.run(["ip", "netns", "del", "own"], check=False)


def test_its_limits_hold_at_the_destination(testbed: Testbed) -> None:
    """The machine's own hierarchies have controllers; hosts share them: each has a group of its own for it."""
    container = Container(testbed, "runc")
    try:
        container.config["linux"]["resources"]["memory"] = {"limit": LIMIT_BYTES}
        testbed.dst.run(["mkdir", "-p", HERE])
        testbed.src.run(["scp", "-q", "-r", f"{HERE}/rootfs", f"dst:{HERE}/"])
        for host in (testbed.dst, testbed.src):
            container.config["linux"]["cgroupsPath"] = f"{testbed.cgroup}/{NAME}-{host.name}"
            host.write(f"{HERE}/config.json", json.dumps(container.config))
        container.run()
        hooks = "hooks: {after_dump: [{run: 'scp -q -r /srv/box/rootfs/data dst:/srv/box/rootfs/'}]}\n"
        assert_moved(container, Migration(testbed, container.profile(files="shared", more=hooks)))
        pid = container.pid(testbed.dst)
        groups = dict(line.split(":")[1:] for line in testbed.dst.read(f"/proc/{pid}/cgroup").splitlines())
        assert groups["memory"] == f"{testbed.cgroup}/{NAME}-dst"
        limit = testbed.dst.read(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes")
        assert int(limit) == LIMIT_BYTES
    finally:
        container.remove()
        clean(testbed)


@only("containerd")
def test_what_containerd_can_t_move_is_said_before(container: ContainerdContainer) -> None:
    src, dst = container.testbed.src, container.testbed.dst

    def refused(text: str) -> str:
        src.write("/root/checked.yaml", text)
        done = src.run(["criu-lazy", "check", "/root/checked.yaml"], check=False)
        return " ".join((done.stdout + done.stderr).split())

    assert "can only go by rsync" in refused(container.profile(files="shared"))
    text = container.profile()
    assert "no container 'box' in the namespace other" in refused(text.replace("files:", "namespace: other, files:"))
    dst.run(["ctr", "images", "rm", "--sync", "localhost/patterned:latest"])
    said = refused(text)
    assert "dst: image localhost/patterned:latest is missing, or not unpacked for overlayfs: at the source, ctr" in said
    dst.run(["ctr", "images", "import", "/tmp/patterned.tar"])
