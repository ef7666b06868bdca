"""`criu-lazy migrate` of containers: their engine knows them afterwards where they run, and nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from containers import HERE, NAME, Container, assert_moved, assert_stayed, configuration, profile
from lazy_source import eventually
from migrating import FAILED, HOLD, Migration, held, kill, kill_ours
from paths import CONFIGS

from testbed import Testbed

LIMIT_BYTES = 256 << 20


@pytest.fixture(scope="module")
def own_cgroups() -> Iterator[Testbed]:
    """Hosts with cgroup2, each with a root of its own."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"containers-{os.getpid()}", own_cgroups=True) as started:
        yield started


@pytest.fixture(params=["runc", "crun"])
def container(request: pytest.FixtureRequest, own_cgroups: Testbed) -> Iterator[Container]:
    """A running one, on src."""
    made = Container(own_cgroups, request.param)
    try:
        made.run()
        yield made
    finally:
        made.remove()
        clean(own_cgroups)


def clean(testbed: Testbed) -> None:
    testbed.link.mend()
    testbed.link.set()
    for host in (testbed.src, testbed.dst):
        kill_ours(host)
        host.run(["sh", "-c", "rm -rf /var/lib/criu-lazy* /root/m*.yaml /run/held /srv/hold*"])


def test_there_and_back_the_engine_knows_it_where_it_runs(container: Container) -> None:
    src, dst = container.testbed.src, container.testbed.dst
    before = configuration(src), configuration(dst)
    migration = Migration(container.testbed, profile(container.engine))
    assert_moved(container, migration)
    assert migration.report["files"]["bytes"] > 100_000, "its root came along"
    assert "frozen_seconds" in migration.report["files"]
    assert dst.read(f"/proc/{container.pid(dst)}/cgroup").splitlines()[-1] == f"0::/{NAME}"

    back = Migration(container.testbed, profile(container.engine).replace("ssh: dst", "ssh: src"), source=dst)
    assert back.end() == 0, back.stderr
    assert container.listed(dst) == []
    container.serves(src)
    assert (configuration(src), configuration(dst)) == before
    src.run([container.engine, "kill", NAME, "KILL"])
    eventually(lambda: container.state(src) == "stopped", "it is killed")
    src.run([container.engine, "delete", NAME])
    assert container.listed(src) == []
    assert not (src.root / f"sys/fs/cgroup/{NAME}").exists()


def test_writes_while_it_moves_are_not_lost(container: Container) -> None:
    """By write() and by memory alike, until it is frozen."""
    src, dst = container.testbed.src, container.testbed.dst
    src.run(["sh", "-c", f"head -c 40M /dev/urandom >{HERE}/rootfs/data/ballast"])
    more = "hooks: {before_dump: [{run: 'echo late >>/srv/box/rootfs/data/late'}]}\n"
    assert_moved(container, Migration(container.testbed, profile(container.engine, more=more)))
    assert dst.read(f"{HERE}/rootfs/data/late") == "late\n"
    sums = [h.run(["sha256sum", f"{HERE}/rootfs/data/ballast"]).stdout for h in (src, dst)]
    assert sums[0] == sums[1]


def test_the_sample_moves_it_with_a_volume(own_cgroups: Testbed) -> None:
    container = Container(own_cgroups, "runc")
    try:
        own_cgroups.src.write("/srv/box-data/kept", "all of it\n")
        volume = {"destination": "/more", "source": "/srv/box-data", "type": "bind", "options": ["rbind", "rw"]}
        container.config["mounts"].append(volume)
        container.run()
        assert_moved(container, Migration(own_cgroups, (CONFIGS / "runc.yaml").read_text()))
        assert own_cgroups.dst.read("/srv/box-data/kept") == "all of it\n"
    finally:
        container.remove()
        clean(own_cgroups)


def test_a_restore_that_fails_leaves_it_running(container: Container) -> None:
    dst = container.testbed.dst
    dst.write("/srv/hold.sh", '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]\n', mode=0o755)
    criu = ", restore_options: [--action-script, /srv/hold.sh]"
    migration = Migration(container.testbed, profile(container.engine, criu=criu))
    assert_stayed(container, migration, "dst: the engine's restore ended with status 1")
    assert_moved(container, Migration(container.testbed, profile(container.engine)))


def test_a_killed_runtime_changes_nothing(container: Container) -> None:
    """CRIU goes on without it; what it would have removed is removed."""
    src = container.testbed.src
    migration = held(container.testbed, profile(container.engine, more=HOLD))
    kill(src, container.engine, "checkpoint")
    src.run(["rm", "/run/held"])
    assert_moved(container, migration)


def test_a_killed_runtime_at_the_destination_leaves_it_running(container: Container) -> None:
    criu = ", restore_options: [--action-script, /srv/hold.sh]"
    text = profile(container.engine, criu=criu)
    migration = held(container.testbed, text, at="post-restore", host=container.testbed.dst, seconds=20)
    kill(container.testbed.dst, container.engine, "restore")
    assert_stayed(container, migration, "dst: ")


def test_a_lost_link_leaves_it_running(container: Container) -> None:
    src = container.testbed.src
    migration = held(container.testbed, profile(container.engine, more=HOLD))
    container.testbed.link.cut()
    src.run(["rm", "/run/held"])
    assert migration.end() == 3, migration.stderr
    container.serves(src)
    container.testbed.link.mend()
    eventually(lambda: container.listed(container.testbed.dst) == [], "the destination has undone it")


def test_what_can_t_move_is_said_before(container: Container) -> None:
    def refused(text: str) -> str:
        migration = Migration(container.testbed, text)
        assert migration.end() in (FAILED, 2), migration.stderr
        return migration.stderr + str(migration.report.get("message"))

    text = profile(container.engine)
    assert f"{container.engine} knows no container 'other'" in refused(text.replace(f"name: {NAME}", "name: other"))
    container.testbed.dst.run(["rm", "-rf", HERE])
    assert "config.json is missing" in refused(profile(container.engine, files="shared"))
    container.testbed.src.run([container.engine, "pause", NAME])
    assert "is paused: only a running container can be moved" in refused(text)
    container.testbed.src.run([container.engine, "resume", NAME])
    container.serves(container.testbed.src)


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
        assert_moved(container, Migration(testbed, profile("runc", files="shared")))
        pid = container.pid(testbed.dst)
        groups = dict(line.split(":")[1:] for line in testbed.dst.read(f"/proc/{pid}/cgroup").splitlines())
        assert groups["memory"] == f"{testbed.cgroup}/{NAME}-dst"
        limit = testbed.dst.read(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes")
        assert int(limit) == LIMIT_BYTES
    finally:
        container.remove()
        clean(testbed)


def test_rounds_before_the_freeze_serve_a_container(container: Container) -> None:
    migration = Migration(container.testbed, profile(container.engine, more="predump: {rounds: 1}\n"))
    assert_moved(container, migration)
    assert migration.report["predump"]["used"]
