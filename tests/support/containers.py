"""A container that moves between a testbed's hosts, as its engine sees it there."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from lazy_source import TASK_C, eventually
from migrating import COMMITTED, ROLLED_BACK, Migration

from testbed import Host, Testbed

NAME = "box"
HERE = "/srv/box"  # its bundle, on both hosts
HELLO_C = '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n'
# A detached container keeps its runtime's output as its own.
SILENT = '"$@" </dev/null >/dev/null 2>&1'


class Container:
    """A container of `engine` (runc or crun) that runs the patterned task; its files are in HERE."""

    def __init__(self, testbed: Testbed, engine: str, megabytes: int = 32) -> None:
        self.testbed = testbed
        self.engine = engine
        src = testbed.src
        src.run(["mkdir", "-p", f"{HERE}/rootfs/data", f"{HERE}/rootfs/more"])
        for name, text in (("task", TASK_C.read_text()), ("hello", HELLO_C)):
            src.write(f"/tmp/{name}.c", text)
            src.run(["cc", "-O1", "-static", "-o", f"{HERE}/rootfs/{name}", f"/tmp/{name}.c"])
        src.run(["runc", "spec", "--bundle", HERE])
        self.config: dict[str, Any] = json.loads(src.read(f"{HERE}/config.json"))
        self.config["process"] |= {"terminal": False, "args": ["/task", str(megabytes)], "cwd": "/data"}
        self.config["root"]["readonly"] = False

    def run(self) -> None:
        """Run it on src, with the configuration as it is now."""
        src = self.testbed.src
        src.write(f"{HERE}/config.json", json.dumps(self.config))
        src.run(["sh", "-c", SILENT, "sh", self.engine, "run", "--detach", "--bundle", HERE, NAME])
        eventually(lambda: (src.root / HERE[1:] / "rootfs/data/info").exists(), "its task has started")

    def state(self, host: Host) -> str:
        """What the engine says: "running", ...; "" if it knows none."""
        done = host.run([self.engine, "state", NAME], check=False)
        return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else ""

    def pid(self, host: Host) -> int:
        return int(json.loads(host.run([self.engine, "state", NAME]).stdout)["pid"])

    def listed(self, host: Host) -> list[str]:
        return host.run([self.engine, "list", "-q"]).stdout.split()

    def answers(self, host: Host) -> str:
        """What its task says of its memory."""
        data = host.root / HERE[1:] / "rootfs/data"
        (data / "answer").unlink(missing_ok=True)
        (data / "ask").touch()
        return str(eventually(lambda: (data / "answer").exists() and (data / "answer").read_text(), "it answers"))

    def serves(self, host: Host) -> None:
        """The engine can do with it there what it does with a container that it started."""
        assert self.listed(host) == [NAME]
        assert self.state(host) == "running"
        assert self.answers(host) == "right\n"
        assert host.run([self.engine, "exec", NAME, "/hello"]).stdout == "hello\n"

    def remove(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run([self.engine, "delete", "--force", NAME], check=False)
            host.run(["rm", "-rf", HERE], check=False)


def profile(engine: str, files: str = "sync", more: str = "", criu: str = "") -> str:
    """A migration of it. `criu`: more keys of that section."""
    # The machine's hierarchies of cgroup v1 are no business of a container on cgroup2.
    cgroups = ", manage_cgroups: ignore" if engine == "crun" else ""
    return (
        f"container: {{engine: {engine}, name: {NAME}, files: {files}}}\n"
        "destination: {ssh: dst}\ntimeouts: {silence: 3}\n"
        f"criu: {{network_lock: nftables{cgroups}{criu}}}\n{more}"
    )


def assert_moved(container: Container, migration: Migration) -> None:
    testbed = container.testbed
    assert migration.end() == COMMITTED, (migration.stderr, migration.report)
    assert container.listed(testbed.src) == []
    container.serves(testbed.dst)


def assert_stayed(container: Container, migration: Migration, *says: str) -> None:
    """Rolled back: the container runs on at the source, known to its engine, and the destination knows none."""
    assert migration.end() == ROLLED_BACK, (migration.stderr, migration.report)
    for word in (*says, "the source task runs on"):
        assert word in migration.report["message"], migration.report["message"]
    container.serves(container.testbed.src)
    assert container.listed(container.testbed.dst) == []


def configuration(host: Host) -> str:
    """CRIU's configuration files on the host."""
    with contextlib.suppress(OSError):
        return "\n".join(sorted(path.name for path in (host.root / "etc/criu").iterdir()))
    return ""
