"""Evacuations between a testbed's hosts, of which the client can be one more destination."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

from lazy_source import eventually
from migrating import Run, Worker, kill_ours, pids_of

from testbed import Host, Testbed

OTHER = "{ssh: 10.78.0.3, name: other}"  # the client, as a destination
_numbers = itertools.count(1)


def open_client(testbed: Testbed, tasks: Iterable[Worker]) -> None:
    """Let the client be a destination of these."""
    program = "usr/local/bin/patterned_task"
    testbed.client.write(f"/{program}", (testbed.src.root / program).read_bytes(), 0o755)
    testbed.client.run(["mkdir", "-p", *(worker.directory for worker in tasks)])
    start_sshd(testbed.client, testbed.src)


def start_sshd(host: Host, source: Host) -> None:
    """Unless it runs."""
    host.run(["sh", "-c", "mkdir -p /run/sshd && { pgrep -x sshd >/dev/null || /usr/sbin/sshd; }"])
    eventually(lambda: source.run(["ssh", host.service_address, "true"], check=False).returncode == 0, "ssh to it")


class Evacuation(Run):
    """One run of `criu-lazy evacuate`, on src unless said otherwise; `again` goes on with another's plan."""

    def __init__(
        self, testbed: Testbed, plan: str, *options: str, source: Host | None = None, again: Evacuation | None = None
    ) -> None:
        super().__init__()
        self.testbed = testbed
        self.source = source or testbed.src
        self.name = again.name if again else f"e{next(_numbers)}"
        self.path = f"/root/{self.name}.yaml"
        if again is None:
            self.source.write(self.path, plan)
        command = ["criu-lazy", "evacuate", self.path, "--json", *options]
        self.process = self.source.popen(command, stdout=-1, stderr=-1, text=True)

    def end(self, seconds: float = 180) -> int:
        return super().end(seconds)

    def kill(self) -> None:
        """SIGKILL to it alone."""
        self.process.kill_session()
        self.process.communicate()

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        """As the report has them, by name."""
        return {item["name"]: item for item in self.report["items"]}

    @property
    def states(self) -> dict[str, str]:
        return {name: item["state"] for name, item in self.items.items()}

    def record(self) -> dict[str, Any]:
        """Of each item, as it is on record now."""
        path = self.source.root / f"var/lib/criu-lazy/{self.name}.evacuation/record.json"
        with contextlib.suppress(FileNotFoundError):
            return {item["name"]: item for item in json.loads(path.read_text())["items"]}
        return {}

    def journal(self, item: str) -> dict[str, Any]:
        path = self.source.root / f"var/lib/criu-lazy/{self.name}.{item}/journal.json"
        with contextlib.suppress(FileNotFoundError):
            return dict(json.loads(path.read_text()))
        return {}


def plan_of(workers: dict[str, Worker], more: str = "", destinations: str = "{ssh: dst}", **keys: str) -> str:
    """Move these, of which `keys` may say more."""
    lines = [f"destinations: [{destinations}]", "move:"]
    lines += [
        f"- {{task: {{pid: {worker.pid}}}, name: {name}{keys.get(name, '')}}}" for name, worker in workers.items()
    ]
    return "\n".join([*lines, more, ""])


def is_at(worker: Worker, host: Host) -> None:
    """There, complete, and nowhere else."""
    testbed = worker.testbed
    places = [other for other in testbed.hosts.values() if worker.pid in pids_of(other, "patterned_task")]
    assert places == [host], f"task {worker.pid} is on {places}"
    assert worker.answers(host) == "right\n"


def clean(testbed: Testbed) -> None:
    """Nothing of an evacuation is left, nor of what it moved."""
    testbed.link.mend()
    testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    for host in testbed.hosts.values():
        kill_ours(host)
        host.run(["pkill", "-9", "-f", "criu-lazy evacuat[e]"], check=False)
        host.run(["pkill", "-9", "-x", "patterned_task"], check=False)
        host.run(["sh", "-c", "rm -rf /var/lib/criu-lazy* /root/e*.yaml"])
