"""A container moves by `runc checkpoint --lazy-pages` and `runc restore --lazy-pages`, with our daemon in between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from drop_in import SHIM, SILENT, running, status, wait_for
from paths import SUPPORT

from testbed import Testbed
from testbed.host import Host

TASK_C = SUPPORT / "patterned_task.c"
HERE = "/tmp/runc-lazy"  # on both hosts
RUNC = ["runc", "--root", f"{HERE}/state", "--log", f"{HERE}/runc.log"]
NAME = "moved"
MEGABYTES = 24
PORT = 27777


def logs(host: Host) -> str:
    """What runc and criu said on this host, for a failing test."""
    return host.run(["sh", "-c", f"tail -n 15 {HERE}/runc.log {HERE}/work/*.log"], check=False).stdout


def container_config(testbed: Testbed) -> dict[str, Any]:
    """runc's own sample, less what this task doesn't need: it runs in /data, a directory of the host."""
    testbed.src.run(["runc", "spec", "--bundle", HERE])
    config: dict[str, Any] = json.loads(testbed.src.read(f"{HERE}/config.json"))
    config["process"] |= {"terminal": False, "args": ["/task", str(MEGABYTES)], "cwd": "/data"}
    config["root"]["readonly"] = False  # criu's restore makes a directory in it
    data = {"destination": "/data", "source": f"{HERE}/data", "type": "bind", "options": ["rbind", "rw"]}
    config["mounts"].append(data)
    return config


@pytest.fixture
def bundle(testbed: Testbed) -> Iterator[Testbed]:
    """Both hosts with the same bundle in HERE, and criu told what this machine lacks."""
    hosts = (testbed.src, testbed.dst)
    try:
        for host in hosts:
            directories = [f"{HERE}/{name}" for name in ("rootfs/data", "data", "images", "work")]
            host.run(["mkdir", "-p", *directories])
            host.write("/etc/criu/runc.conf", "network-lock nftables\n")
        testbed.src.write(f"{HERE}/task.c", TASK_C.read_text())
        testbed.src.run(["cc", "-O1", "-static", "-o", f"{HERE}/rootfs/task", f"{HERE}/task.c"])
        testbed.src.run(["scp", "-q", f"{HERE}/rootfs/task", f"dst:{HERE}/rootfs/task"])
        config = container_config(testbed)
        for host in hosts:
            config["linux"]["cgroupsPath"] = f"{testbed.cgroup}/{NAME}-{host.name}"  # cgroups are the machine's
            host.write(f"{HERE}/config.json", json.dumps(config))
        yield testbed
    finally:
        for host in hosts:
            host.run([*RUNC, "delete", "--force", NAME], check=False)
            host.run(["rm", "-rf", HERE, "/etc/criu/runc.conf"])


def move(testbed: Testbed, daemon: list[str]) -> None:
    """By runc's own commands; `daemon` serves, and says so in the file `ready`."""
    src, dst = testbed.src, testbed.dst
    src.run(["sh", "-c", SILENT, "sh", *RUNC, "run", "--detach", "--bundle", HERE, NAME])
    wait_for("container", lambda: (src.root / f"{HERE[1:]}/data/info").exists())

    checkpoint = [*RUNC, "checkpoint", "--lazy-pages", "--page-server", f"{src.address}:{PORT}", "--status-fd", "9"]
    checkpoint += ["--image-path", f"{HERE}/images", "--work-path", f"{HERE}/work", NAME]
    restore = [*RUNC, "restore", "--detach", "--lazy-pages", "--bundle", HERE]
    restore += ["--image-path", f"{HERE}/images", "--work-path", f"{HERE}/work", NAME]

    with running(src, checkpoint, f"{HERE}/served") as dump:
        src.run(["sh", "-c", f"tar -C {HERE}/images -c . | ssh dst tar -C {HERE}/images -x"])
        with running(dst, daemon, f"{HERE}/ready") as served:
            restored = dst.run(["sh", "-c", SILENT, "sh", *restore], check=False)
            assert restored.returncode == 0, logs(dst)
            assert status(served) == 0, logs(dst)
        assert status(dump) == 0, logs(src)


def assert_right(testbed: Testbed, log: str) -> None:
    """All pages came lazily; runc knows the container on dst, and its memory is right."""
    dst = testbed.dst
    transferred = next(line for line in log.splitlines() if "UFFD transferred pages:" in line)
    assert int(transferred.rpartition("(")[2].partition("/")[0]) >= MEGABYTES * 256
    assert json.loads(dst.run([*RUNC, "state", NAME]).stdout)["status"] == "running"
    (dst.root / f"{HERE[1:]}/data/ask").touch()
    wait_for("verdict", lambda: (dst.root / f"{HERE[1:]}/data/answer").exists())
    assert dst.read(f"{HERE}/data/answer") == "right\n"


def options(testbed: Testbed) -> list[str]:
    """Of the daemon."""
    directories = ["-D", f"{HERE}/images", "-W", f"{HERE}/work"]
    return [*directories, "--page-server", "--address", testbed.src.address, "--port", str(PORT)]


def test_runc_moves_a_container_lazily_and_its_memory_is_right(bundle: Testbed) -> None:
    daemon = ["criu-lazy", "lazy-pages", *options(bundle), "-o", "lazy-pages.log", "-v4", "--status-fd", "9"]
    move(bundle, daemon)
    assert_right(bundle, bundle.dst.read(f"{HERE}/work/lazy-pages.log"))


def test_a_shim_that_runs_criu_gets_criu_lazy(bundle: Testbed) -> None:
    dst = bundle.dst
    own = dst.run(["criu", "--version"]).stdout
    assert "lazy-pages is criu-lazy's now" in dst.run(["criu-lazy", "drop-in", "install"]).stdout
    try:
        assert dst.run(["which", "criu"]).stdout == "/usr/local/sbin/criu\n"
        assert dst.run(["env", "-i", "/usr/local/sbin/criu", "--version"]).stdout == own
        log, socket = f"{HERE}/shim.log", f"{HERE}/work/lazy-pages.socket"
        move(bundle, ["sh", "-c", SHIM, "sh", log, socket, *options(bundle)])
        assert_right(bundle, dst.read(log))
    finally:
        dst.run(["criu-lazy", "drop-in", "remove"])
    assert dst.run(["which", "criu"]).stdout != "/usr/local/sbin/criu\n"
