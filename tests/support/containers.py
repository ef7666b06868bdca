"""A container that moves between a testbed's hosts, as its engine sees it there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lazy_source import TASK_C, eventually
from migrating import COMMITTED, ROLLED_BACK, Migration
from paths import SUPPORT

from demo.redis import SILENT
from testbed import Host, Testbed

NAME = "box"
HERE = "/srv/box"  # its bundle, on both hosts
MEGABYTES = "32"
CHANGED_BYTES = 3 << 20
RESTART = "containerd.io/restart.status"  # a label: what containerd sees to
PROGRAMS = {
    "task": TASK_C.read_text(),
    "tick": (SUPPORT / "ticking_task.c").read_text(),
    "pause": "#include <unistd.h>\nint main(void) { return pause(); }\n",
    "hello": '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n',
}
# podman as a testbed's host can have it.
PODMAN_CONF = """[containers]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
firewall_driver = "nftables"
"""


def make_root(host: Host, directory: str) -> None:
    """A root directory with the patterned task, what starts it and ticks, and a greeting."""
    host.run(["mkdir", "-p", f"{directory}/data", f"{directory}/more"])
    for name, text in PROGRAMS.items():
        host.write(f"/tmp/{name}.c", text)
        host.run(["cc", "-O1", "-static", "-o", f"{directory}/{name}", f"/tmp/{name}.c"])


def prepare_podman(testbed: Testbed, *others: str) -> None:
    """The image `patterned` on both hosts, and on the client if it is among the `others`, by its address."""
    for host in (testbed.src, testbed.dst, *([testbed.client] if others else [])):
        host.run(["sh", "-c", "mkdir -p /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers"])
        host.write("/etc/containers/containers.conf", PODMAN_CONF)
    make_root(testbed.src, "/tmp/root")
    testbed.src.run(["sh", "-c", "tar -c -C /tmp/root . | podman import - patterned"])
    for host_name in ("dst", *others):
        testbed.src.run(["sh", "-c", f"podman save patterned | ssh {host_name} podman load"])


def prepare_containerd(testbed: Testbed) -> None:
    """containerd, and the image `patterned` of podman's, on both hosts."""
    for host in (testbed.src, testbed.dst):
        host.run(["podman", "save", "--output", "/tmp/patterned.tar", "patterned"])
        host.run(["sh", "-c", "mkdir -p /var/lib/containerd && mount -t tmpfs tmpfs /var/lib/containerd"])
        host.run(["mount", "-o", "remount,noexec", "/run"])  # as Debian's initramfs-tools mounts it
        start_containerd(host)
        host.run(["ctr", "images", "import", "/tmp/patterned.tar"])


def start_containerd(host: Host) -> None:
    host.start(["containerd"], log="/var/log/containerd.log")
    host.run(["sh", "-c", "until ctr version >/dev/null 2>&1; do sleep 0.1; done"])


class Container:
    """A container of `engine` (runc or crun) that runs the patterned task; its files are in HERE."""

    def __init__(self, testbed: Testbed, engine: str) -> None:
        self.testbed = testbed
        self.engine = engine
        self.data = f"{HERE}/rootfs/data"  # where its task works, on a host
        make_root(testbed.src, f"{HERE}/rootfs")
        testbed.src.run(["runc", "spec", "--bundle", HERE])
        self.config: dict[str, Any] = json.loads(testbed.src.read(f"{HERE}/config.json"))
        self.config["process"] |= {"terminal": False, "args": ["/tick", MEGABYTES], "cwd": "/data"}
        self.config["root"]["readonly"] = False

    @property
    def runtime(self) -> str:
        return self.engine

    def run(self) -> None:
        """Run it on src, with the configuration as it is now."""
        src = self.testbed.src
        src.write(f"{HERE}/config.json", json.dumps(self.config))
        src.run(["sh", "-c", SILENT, "sh", self.engine, "run", "--detach", "--bundle", HERE, NAME])
        eventually((self.path(src) / "info").exists, "its task has started")

    def path(self, host: Host) -> Path:
        return host.root / self.data[1:]

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
        data = self.path(host)
        (data / "answer").unlink(missing_ok=True)
        (data / "ask").touch()
        return str(eventually(lambda: (data / "answer").exists() and (data / "answer").read_text(), "it answers"))

    def ticks(self, host: Host) -> int:
        """How often it has ticked; none may be missing."""
        ticks = [int(line) for line in (self.path(host) / "ticks").read_text().splitlines()]
        assert ticks == list(range(len(ticks)))
        return len(ticks)

    def serves(self, host: Host) -> None:
        """The engine can do with it there what it does with a container that it started, and it works."""
        assert self.listed(host) == [NAME]
        assert self.state(host) == "running"
        assert self.answers(host) == "right\n"
        assert self.execute(host) == "hello\n"
        ticks = self.ticks(host)
        eventually(lambda: self.ticks(host) > ticks, "it ticks")

    def execute(self, host: Host) -> str:
        """What a program in it says."""
        return host.run([self.engine, "exec", NAME, "/hello"]).stdout

    def remove(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run([self.engine, "delete", "--force", NAME], check=False)
            host.run(["rm", "-rf", HERE], check=False)

    def profile(self, files: str = "sync", more: str = "", criu: str = "") -> str:
        """A migration of it. `criu`: more keys of that section."""
        # The machine's hierarchies of cgroup v1 are no business of a container on cgroup2.
        cgroups = ", manage_cgroups: ignore" if self.runtime == "crun" else ""
        return (
            f"container: {{engine: {self.engine}, name: {NAME}, files: {files}}}\n"
            "destination: {ssh: dst}\ntimeouts: {silence: 3}\n"
            f"criu: {{network_lock: nftables{cgroups}{criu}}}\n{more}"
        )


class PodmanContainer(Container):
    """A container of podman's, of the image `patterned`; its task works in the volume `box-data`."""

    def __init__(self, testbed: Testbed, runtime: str, options: Sequence[str] = ()) -> None:
        """`options`: of `podman run`, in place of those of an ordinary one."""
        self.testbed = testbed
        self.engine = "podman"
        self._runtime = runtime
        self.data = "/var/lib/containers/storage/volumes/box-data/_data"
        self.options = options or ["--restart=always", "--network=bridge", "--publish=8080:80"]

    @property
    def runtime(self) -> str:
        return self._runtime

    def run(self) -> None:
        command = ["podman", "--runtime", self.runtime, "run", "--detach", "--name", NAME, *self.options]
        command += ["--volume", "box-data:/data", "--workdir", "/data", "patterned", "/tick", MEGABYTES]
        self.testbed.src.run(command)
        eventually((self.path(self.testbed.src) / "info").exists, "its task has started")

    def inspect(self, host: Host) -> dict[str, Any]:
        return dict(json.loads(host.run(["podman", "inspect", NAME]).stdout)[0])

    def pid(self, host: Host) -> int:
        return int(self.inspect(host)["State"]["Pid"])

    def state(self, host: Host) -> str:
        done = host.run(["podman", "inspect", "--format", "{{.State.Status}}", NAME], check=False)
        return done.stdout.strip()

    def change_root(self, host: Host) -> None:
        """A new file, and a directory less."""
        change = f'cd "$1" && head -c {CHANGED_BYTES} /dev/urandom >changed && chmod 600 changed && rmdir more'
        host.run(["sh", "-c", change, "sh", f"/proc/{self.pid(host)}/root"])

    def assert_root_changed(self, host: Host) -> None:
        root = host.root / f"proc/{self.pid(host)}/root"
        changed = (root / "changed").stat()
        assert (changed.st_size, changed.st_mode & 0o777) == (CHANGED_BYTES, 0o600)
        assert not (root / "more").exists()

    def listed(self, host: Host) -> list[str]:
        return host.run(["podman", "ps", "--all", "--format", "{{.Names}}"]).stdout.split()

    def remove(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["podman", "rm", "--force", "--time", "0", NAME], check=False)
            host.run(["podman", "volume", "rm", "--force", "box-data"], check=False)


class ContainerdContainer(Container):
    """A task of containerd's, by runc, of the image `patterned`; it works in its own root, and is started anew."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.engine = "containerd"
        self.data = f"/run/containerd/io.containerd.runtime.v2.task/default/{NAME}/rootfs/data"

    @property
    def runtime(self) -> str:
        return "runc"

    def run(self) -> None:
        options = ["--detach", "--null-io", "--cwd", "/data", "--cpu-shares", "0"]
        image = "localhost/patterned:latest"
        self.testbed.src.run(["ctr", "run", *options, image, NAME, "/tick", MEGABYTES])
        self.testbed.src.run(["ctr", "containers", "label", NAME, f"{RESTART}=running"])
        eventually((self.path(self.testbed.src) / "info").exists, "its task has started")

    def task(self, host: Host) -> list[str]:
        """Name, pid and state, as `ctr task ls` has them; [] if it knows no task."""
        lines = host.run(["ctr", "tasks", "ls"]).stdout.splitlines()[1:]
        return next((line.split() for line in lines if line.split()[0] == NAME), [])

    def pid(self, host: Host) -> int:
        return int(self.task(host)[1])

    def state(self, host: Host) -> str:
        return (self.task(host) or ["", "", ""])[2].lower()

    def listed(self, host: Host) -> list[str]:
        """Whatever containerd has of it."""
        found = host.run(["ctr", "containers", "ls", "-q"]).stdout.split()
        assert self.task(host)[:1] == found
        return found

    def execute(self, host: Host) -> str:
        # ctr may end before it has copied the output (containerd/containerd#13931).
        command = ["ctr", "tasks", "exec", "--exec-id", "greeting", NAME, "/hello"]
        return str(eventually(lambda: host.run(command).stdout, "ctr tells what the program said"))

    def remove(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["ctr", "containers", "label", NAME, f"{RESTART}="], check=False)
            host.run(["ctr", "tasks", "rm", "--force", NAME], check=False)
            host.run(["ctr", "containers", "rm", NAME], check=False)
            host.run(["ctr", "snapshots", "rm", NAME], check=False)


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


def configuration(host: Host) -> list[str]:
    """CRIU's and podman's configuration files on the host."""
    return [str(path) for name in ("criu", "containers") for path in sorted((host.root / "etc" / name).glob("**/*"))]
