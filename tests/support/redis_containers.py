"""Redis in a container, at the service address of a testbed's hosts, under the load of one client."""

from __future__ import annotations

import json
import subprocess

from containers import HERE, NAME, Container, ContainerdContainer, PodmanContainer
from lazy_source import eventually
from paths import CONFIGS

from demo.load import SERVICE as ADDRESS
from demo.redis import MAKE_ROOT, OPTIONS, SILENT, in_host_network
from testbed import Host, Testbed

COMMAND = ["/redis-server", *OPTIONS]
ADDRESS6 = "fd78::100"


def is_up(host: Host) -> bool:
    return host.run(["redis-cli", "ping"], check=False).stdout == "PONG\n"


class RedisContainer(Container):
    """By runc or crun."""

    def run(self) -> None:
        src = self.testbed.src
        src.run(["sh", "-c", MAKE_ROOT, "sh", f"{HERE}/rootfs"])
        self.config["process"] |= {"args": COMMAND, "cwd": "/tmp"}
        in_host_network(self.config)
        src.write(f"{HERE}/config.json", json.dumps(self.config))
        src.run(["sh", "-c", SILENT, "sh", self.engine, "run", "-d", "--bundle", HERE, NAME])
        eventually(lambda: is_up(src), "Redis is up")


class Replica:
    """Beside a Redis container, another of the same engine with an address of its own, which follows it."""

    name, address, port = "replica", "10.78.0.101", "6380"

    def __init__(self, master: RedisContainer) -> None:
        self.master = master
        self.testbed = master.testbed
        src = self.testbed.src
        src.run(["ip", "address", "add", f"{self.address}/24", "dev", "svc0"])
        src.run(["sh", "-c", f"mkdir -p {self.bundle} && cp -a {HERE}/rootfs {self.bundle}/"])
        config = json.loads(src.read(f"{HERE}/config.json"))
        config["process"]["args"] = ["/redis-server", "--save", "", "--bind", self.address, "--port", self.port]
        config["process"]["args"] += ["--protected-mode", "no", "--bind-source-addr", self.address]
        config["process"]["args"] += ["--repl-diskless-sync-delay", "0", "--replicaof", ADDRESS, "6379"]
        src.write(f"{self.bundle}/config.json", json.dumps(config))
        command = [master.engine, "run", "--detach", "--bundle", self.bundle, self.name]
        src.run(["sh", "-c", SILENT, "sh", *command])
        eventually(lambda: self.fact("replication", "master_link_status") == "up", "it follows")

    @property
    def bundle(self) -> str:
        return f"/srv/{self.name}"

    def ask(self, *words: str, of_master: bool = False) -> str:
        where = ["-h", ADDRESS] if of_master else ["-h", self.address, "-p", self.port]
        return str(self.testbed.client.run(["redis-cli", *where, *words], check=False).stdout)

    def fact(self, section: str, key: str, of_master: bool = False) -> str:
        """A line of what it says of itself; "" if it says nothing."""
        lines = self.ask("info", section, of_master=of_master).splitlines()
        return next((line.partition(":")[2] for line in lines if line.startswith(f"{key}:")), "")

    def follows(self, value: str) -> None:
        """What is written there comes here, by the connection that they had from the beginning."""
        self.ask("set", "told", value, of_master=True)
        eventually(lambda: self.ask("get", "told").strip() == value, f"{value} comes to the replica")
        stats = [self.fact("stats", key, of_master=True) for key in ("sync_full", "sync_partial_ok")]
        assert stats == ["1", "0"]

    def moving(self) -> str:
        """The profile that moves it."""
        profile = moving_with_its_address(self.master).replace(f"name: {NAME}", f"name: {self.name}")
        return profile.replace(f"{ADDRESS}/24", f"{self.address}/24")

    def remove(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run([self.master.engine, "delete", "--force", self.name], check=False)
            host.run(["rm", "-rf", self.bundle])
            host.run(["ip", "address", "del", f"{self.address}/24", "dev", "svc0"], check=False)


class RedisPodmanContainer(PodmanContainer):
    """By podman, its port published, in a bridge with IPv4 and IPv6."""

    def run(self) -> None:
        src = self.testbed.src
        subnets = ["--ipv6", "--subnet", "10.90.0.0/24", "--subnet", "fd90::/64"]
        for each in (src, self.testbed.dst):
            each.run(["podman", "network", "create", "--ignore", *subnets, "dual"])
        src.run(["sh", "-c", MAKE_ROOT, "sh", "/tmp/redis-root"])
        for host in ("src", "dst"):
            if self.testbed.hosts[host].run(["podman", "image", "exists", "redis"], check=False).returncode == 0:
                continue
            if host == "src":
                src.run(["sh", "-c", "tar -c -C /tmp/redis-root . | podman import - redis"])
            else:
                src.run(["sh", "-c", "podman save redis | ssh dst podman load"])
        command = ["podman", "--runtime", self.runtime, "run", "-d", "--name", NAME, "--network", "dual"]
        words = ["* -::*" if word == "0.0.0.0" else word for word in COMMAND]
        src.run([*command, "--publish=6379:6379", "redis", *words])
        eventually(lambda: is_up(src), "Redis is up")


class RedisContainerdContainer(ContainerdContainer):
    """By containerd, in the host's network."""

    def run(self) -> None:
        src = self.testbed.src
        src.run(["sh", "-c", MAKE_ROOT, "sh", "/tmp/redis-root"])
        src.run(["sh", "-c", "tar -c -C /tmp/redis-root . | podman import - redis"])
        src.run(["sh", "-c", "podman save redis | ctr images import -"])
        src.run(["sh", "-c", "ctr images export - localhost/redis:latest | ssh dst ctr images import -"])
        options = ["--detach", "--null-io", "--net-host", "--cpu-shares", "0"]
        src.run(["ctr", "run", *options, "localhost/redis:latest", NAME, *COMMAND])
        eventually(lambda: is_up(src), "Redis is up")


class Client6:
    """One connection to Redis, by the service address of IPv6."""

    program = f"""if True:
        import redis, sys
        connection = redis.Redis({ADDRESS6!r}, single_connection_client=True)
        for line in sys.stdin:
            print(connection.client_id(), flush=True)
    """

    def __init__(self, testbed: Testbed) -> None:
        command = ["python3", "-c", self.program]
        self.process = testbed.client.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def connection(self) -> str:
        """Its number with Redis, which a new one would not have."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def put_address6(testbed: Testbed) -> None:
    """Addresses of IPv6 for src and the client, and the service address, which moves, on src."""
    for host, number in ((testbed.src, 1), (testbed.client, 3)):
        host.run(["ip", "address", "replace", f"fd78::{number}/64", "dev", "svc0", "nodad"])
    testbed.src.run(["ip", "address", "replace", f"{ADDRESS6}/64", "dev", "svc0", "nodad"])


def put_address(host: Host) -> None:
    """The service address comes to the host."""
    host.run(["ip", "address", "add", ADDRESS + "/24", "dev", "svc0"])
    host.run(["arping", "-q", "-U", "-c", "1", "-I", "svc0", ADDRESS])


def take_addresses(testbed: Testbed) -> None:
    """It goes, wherever it is."""
    for host in (testbed.src, testbed.dst):
        host.run(["ip", "address", "del", ADDRESS + "/24", "dev", "svc0"], check=False)
        host.run(["ip", "address", "del", ADDRESS6 + "/64", "dev", "svc0"], check=False)


def moving_with_its_address(container: Container) -> str:
    """The sample for Redis, for this container."""
    sample = (CONFIGS / "redis-container.yaml").read_text()
    own = sample.replace("engine: runc", f"engine: {container.engine}").replace("name: redis", f"name: {NAME}")
    return own + ("criu: {manage_cgroups: ignore}\n" if container.runtime == "crun" else "")
