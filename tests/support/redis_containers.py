"""Redis in a container, at the service address of a testbed's hosts, under the load of one client."""

from __future__ import annotations

import json
from typing import Any

from containers import HERE, NAME, Container, PodmanContainer
from lazy_source import eventually
from paths import CONFIGS

from testbed import Host, Testbed

COMMAND = ["/redis-server", "--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"]
ADDRESS = "10.78.0.100"
ROOT = """mkdir -p "$1"/tmp && cp /usr/bin/redis-server "$1"/ &&
for library in $(ldd /usr/bin/redis-server | grep -o '/[^ ]*'); do
    mkdir -p "$1$(dirname $library)" && cp -L $library "$1$library" || exit 1
done"""


def is_up(host: Host) -> bool:
    return host.run(["redis-cli", "ping"], check=False).stdout == "PONG\n"


class RedisContainer(Container):
    """By runc or crun."""

    def run(self) -> None:
        src = self.testbed.src
        src.run(["sh", "-c", ROOT, "sh", f"{HERE}/rootfs"])
        self.config["process"] |= {"args": COMMAND, "cwd": "/tmp"}
        namespaces = self.config["linux"]["namespaces"]
        self.config["linux"]["namespaces"] = [each for each in namespaces if each["type"] != "network"]
        src.write(f"{HERE}/config.json", json.dumps(self.config))
        src.run(["sh", "-c", '"$@" </dev/null >/dev/null 2>&1', "sh", self.engine, "run", "-d", "--bundle", HERE, NAME])
        eventually(lambda: is_up(src), "Redis is up")


class RedisPodmanContainer(PodmanContainer):
    """By podman, in the host's network."""

    def run(self) -> None:
        src = self.testbed.src
        src.run(["sh", "-c", ROOT, "sh", "/tmp/redis-root"])
        for host in ("src", "dst"):
            if self.testbed.hosts[host].run(["podman", "image", "exists", "redis"], check=False).returncode == 0:
                continue
            if host == "src":
                src.run(["sh", "-c", "tar -c -C /tmp/redis-root . | podman import - redis"])
            else:
                src.run(["sh", "-c", "podman save redis | ssh dst podman load"])
        command = [
            "podman",
            "--runtime",
            self.runtime,
            "run",
            "-d",
            "--name",
            NAME,
            "--network=host",
            "redis",
            *COMMAND,
        ]
        src.run(command)
        eventually(lambda: is_up(src), "Redis is up")


def put_address(host: Host) -> None:
    """The service address comes to the host."""
    host.run(["ip", "address", "add", ADDRESS + "/24", "dev", "svc0"])
    host.run(["arping", "-q", "-U", "-c", "1", "-I", "svc0", ADDRESS])


def take_addresses(testbed: Testbed) -> None:
    """It goes, wherever it is."""
    for host in (testbed.src, testbed.dst):
        host.run(["ip", "address", "del", ADDRESS + "/24", "dev", "svc0"], check=False)


def moving_with_its_address(container: Container) -> str:
    """The sample for Redis, for this container."""
    sample = (CONFIGS / "redis.yaml").read_text()
    moved = f"container: {{engine: {container.engine}, name: {NAME}}}"
    cgroups = "criu: {manage_cgroups: ignore}\n" if container.runtime == "crun" else ""
    return sample.replace("task:\n  pidfile: /run/redis.pid", moved) + cgroups


class Load:
    """The demo's client, on its one connection."""

    def __init__(self, testbed: Testbed, keys: int) -> None:
        command = ["python3", "-m", "demo.client", ADDRESS, str(keys), "4096"]
        self.process = testbed.client.popen(command, stdin=-1, stdout=-1, text=True)
        eventually(lambda: "filled" in json.loads(self.process.stdout.readline()), "the client wrote its values")

    def end(self) -> dict[str, Any]:
        """What it saw."""
        self.process.stdin.close()
        facts: dict[str, Any] = {}
        for line in self.process.stdout:
            facts |= json.loads(line)
        return facts
