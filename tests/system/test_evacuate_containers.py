"""Containers of three engines are evacuated to two hosts, of which one fails half way; the driver is killed twice.

`make evacuations` does it with more of them than `make test`.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from containers import make_root, prepare_podman
from drop_in import SILENT
from evacuating import OTHER, Evacuation, clean, start_sshd
from lazy_source import eventually
from migrating import COMMITTED, ROLLED_BACK

from testbed import Host, Testbed

COUNT = int(os.environ.get("CRIU_LAZY_EVACUATE_CONTAINERS", 6))
ENGINES = ("runc", "crun", "podman")
TREE = "/srv/tree"
MEGABYTES = "8"


@dataclass(frozen=True)
class Box:
    """A container that ticks."""

    testbed: Testbed
    engine: str
    name: str

    @property
    def bundle(self) -> str:
        return f"/srv/{self.name}"

    def run(self) -> None:
        src = self.testbed.src
        if self.engine == "podman":
            command = ["podman", "run", "--detach", "--network=none", "--name", self.name, "--label=fleet=boxes"]
            command += ["--volume", f"{self.name}:/data", "--workdir", "/data", "patterned", "/tick", MEGABYTES]
            src.run(command)
        else:
            src.run(["sh", "-c", f"mkdir {self.bundle} && cp -a {TREE} {self.bundle}/rootfs"])
            src.run(["runc", "spec", "--bundle", self.bundle])
            config = json.loads(src.read(f"{self.bundle}/config.json"))
            config["process"] |= {"terminal": False, "args": ["/tick", MEGABYTES], "cwd": "/data"}
            config["root"]["readonly"] = False
            src.write(f"{self.bundle}/config.json", json.dumps(config))
            src.run(["sh", "-c", SILENT, "sh", self.engine, "run", "--detach", "--bundle", self.bundle, self.name])
        eventually((self.data(src) / "info").exists, "it has started")

    def data(self, host: Host) -> Path:
        volume = f"var/lib/containers/storage/volumes/{self.name}/_data"
        return host.root / (volume if self.engine == "podman" else f"{self.bundle[1:]}/rootfs/data")

    def hosts(self) -> list[Host]:
        """Where its engine says that it runs."""
        return [host for host in self.testbed.hosts.values() if self.state(host) == "running"]

    def state(self, host: Host) -> str:
        if self.engine == "podman":
            asked = ["podman", "inspect", "--format", "{{.State.Status}}", self.name]
            return host.run(asked, check=False).stdout.strip()
        done = host.run([self.engine, "state", self.name], check=False)
        return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else ""

    def is_right_at(self, host: Host) -> None:
        """It lives there and nowhere else, its memory is right, and no tick is missing."""
        assert self.hosts() == [host], (self, self.hosts())
        data = self.data(host)
        (data / "answer").unlink(missing_ok=True)
        (data / "ask").touch()
        answered = eventually(lambda: (data / "answer").exists() and (data / "answer").read_text(), f"{self} answers")
        assert answered == "right\n"
        ticks = [int(line) for line in (data / "ticks").read_text().splitlines()]
        assert ticks == list(range(len(ticks)))
        eventually(lambda: len((data / "ticks").read_text().splitlines()) > len(ticks), "it ticks")

    def remove(self) -> None:
        for host in self.testbed.hosts.values():
            if self.engine == "podman":
                host.run(["podman", "rm", "--force", "--time", "0", self.name], check=False)
                host.run(["podman", "volume", "rm", "--force", self.name], check=False)
            else:
                host.run([self.engine, "delete", "--force", self.name], check=False)
                host.run(["rm", "-rf", self.bundle], check=False)


@pytest.fixture(scope="module")
def three() -> Iterator[Testbed]:
    """Hosts with cgroup2, the client being one of them."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"evacuate-{os.getpid()}", own_cgroups=True) as started:
        start_sshd(started.client, started.src)
        prepare_podman(started, "10.78.0.3")
        make_root(started.src, TREE)
        yield started


@pytest.fixture
def boxes(three: Testbed) -> Iterator[list[Box]]:
    made = [Box(three, ENGINES[number % 3], f"box{number}") for number in range(COUNT)]
    try:
        for box in made:
            box.run()
        yield made
    finally:
        for box in made:
            box.remove()
        clean(three)


PLAN = f"""destinations: [{{ssh: dst}}, {OTHER}]
profile: {{timeouts: {{silence: 3}}, strategy: lazy}}
move:
- containers: {{engine: runc, match: 'box*'}}
- containers: {{engine: crun, match: 'box*'}}
  profile: {{criu: {{manage_cgroups: ignore}}}}
- containers: {{engine: podman, label: fleet=boxes}}
  profile: {{criu: {{manage_cgroups: ignore}}}}
"""


def test_one_destination_fails_and_the_driver_is_killed_twice(three: Testbed, boxes: list[Box]) -> None:
    """All of them end in one living, right copy, and the report says which where."""
    chance = random.Random(os.environ["CRIU_LAZY_SEED"])
    three.link.set(rate_mbit=50, rtt_ms=0.2)
    run = Evacuation(three, PLAN)

    def moved() -> int:
        assert run.process.poll() is None, "\n".join(run.process.communicate())
        return sum(item["state"] == "committed" for item in run.record().values())

    for share in (0.2, 0.5):
        eventually(lambda share=share: moved() >= share * COUNT, f"{share} have moved", 300)
        time.sleep(chance.random())
        run.kill()
        if share == 0.5:
            three.link.cut()
        run = Evacuation(three, "", "--resume", again=run)
    time.sleep(10 + 5 * chance.random())  # longer than a lost host is waited for before "go"
    three.link.mend()
    three.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert run.end(600) in (COMMITTED, ROLLED_BACK), (run.stderr, run.report)
    hosts = {"dst": three.dst, "other": three.client}
    for box in boxes:
        item = run.items[box.name]
        box.is_right_at(hosts[item["place"]] if item["state"] == "committed" else three.src)
    where = [item["place"] if item["state"] == "committed" else "src" for item in run.items.values()]
    print({place: where.count(place) for place in (*hosts, "src")}, [item["message"] for item in run.items.values()])
