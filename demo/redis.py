"""The Redis server that the demo moves: a plain process of src, or a container of runc's there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from testbed import Host

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
OPTIONS = ["--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"]
BUNDLE = "/srv/redis"
# A root directory with the server and what it is linked to.
MAKE_ROOT = """mkdir -p "$1"/tmp && cp /usr/bin/redis-server "$1"/ &&
for library in $(ldd /usr/bin/redis-server | grep -o '/[^ ]*'); do
    mkdir -p "$1$(dirname $library)" && cp -L $library "$1$library" || exit 1
done"""
# A detached container keeps its runtime's output as its own.
SILENT = '"$@" </dev/null >/dev/null 2>&1'


class Redis(Protocol):
    """`sample`: the profile that moves it; `kind`: in words."""

    sample: Path
    kind: str

    def start(self, host: Host) -> None:
        """Let it run there."""

    def seen(self, host: Host) -> str:
        """What the host itself says of it; "" if it has none."""


class RedisProcess:
    """As a shell starts it."""

    sample = CONFIGS / "redis.yaml"
    kind = "a process"

    def start(self, host: Host) -> None:
        pid = host.start(["redis-server", *OPTIONS])
        host.write("/run/redis.pid", f"{pid}\n")

    def seen(self, host: Host) -> str:
        pids = host.run(["pgrep", "-x", "redis-server"], check=False).stdout.split()
        return f"process {' '.join(pids)}" if pids else ""


class RedisContainer:
    """By runc, in the host's network."""

    sample = CONFIGS / "redis-container.yaml"
    kind = "a container of runc's"
    name = "redis"

    def start(self, host: Host) -> None:
        host.run(["sh", "-c", MAKE_ROOT, "sh", f"{BUNDLE}/rootfs"])
        host.run(["runc", "spec", "--bundle", BUNDLE])
        config: dict[str, Any] = json.loads(host.read(f"{BUNDLE}/config.json"))
        config["process"] |= {"terminal": False, "args": ["/redis-server", *OPTIONS], "cwd": "/tmp"}
        config["root"]["readonly"] = False
        in_host_network(config)
        host.write(f"{BUNDLE}/config.json", json.dumps(config))
        host.run(["sh", "-c", SILENT, "sh", "runc", "run", "--detach", "--bundle", BUNDLE, self.name])

    def seen(self, host: Host) -> str:
        done = host.run(["runc", "state", self.name], check=False)
        state = json.loads(done.stdout) if done.returncode == 0 else None
        return f"container {state['id']}, {state['status']}" if state else ""


def in_host_network(config: dict[str, Any]) -> None:
    """Take the container's own network namespace out of its OCI configuration."""
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [each for each in namespaces if each["type"] != "network"]
