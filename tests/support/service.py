"""A forking server on a service address that moves between a testbed's hosts, and its many clients."""

from __future__ import annotations

import json
from typing import Any

from lazy_source import eventually
from migrating import pids_of
from paths import SUPPORT

from testbed import Host, Testbed

DEVICE, PORT = "svc0", 7000
ADDRESSES = {4: "10.78.0.100/24", 6: "fd78::100/64"}
CLIENTS_ADDRESS6 = "fd78::3/64"
SYN_RETRY_S = 1.0


class Service:
    """forking_server.c, started on src, and service_clients.py on the client host."""

    def __init__(self, testbed: Testbed, version: int = 4, long: int = 40, rate: float = 500) -> None:
        self.testbed, self.moved = testbed, ADDRESSES[version]
        self.address = self.moved.partition("/")[0]
        for host in (testbed.src, testbed.dst):
            host.write("/tmp/forking_server.c", (SUPPORT / "forking_server.c").read_text())
            host.run(["cc", "-O1", "-o", "/usr/local/bin/forking_server", "/tmp/forking_server.c"])
        testbed.client.write("/srv/service_clients.py", (SUPPORT / "service_clients.py").read_text())
        testbed.client.run(["ip", "address", "replace", CLIENTS_ADDRESS6, "dev", DEVICE, "nodad"])
        testbed.src.run(["ip", "address", "add", self.moved, "dev", DEVICE, *(["nodad"] if version == 6 else [])])
        self.pid = testbed.src.start(["forking_server", self.address, str(PORT)])
        for host in (testbed.src, testbed.dst):
            host.write("/run/service.pid", f"{self.pid}\n")
        eventually(lambda: f":{PORT}" in testbed.src.run(["ss", "-Hltn"]).stdout, "it listens")
        testbed.client.run(["ip", "neigh", "flush", "dev", DEVICE])
        command = ["python3", "/srv/service_clients.py", self.address, str(PORT), str(long), str(rate)]
        self.clients = testbed.client.popen(command, stdin=-1, stdout=-1, text=True)
        self.seen: dict[str, Any] = {}
        self.assert_served(testbed.src)

    def profile(self, to: str = "dst", more: str = "", hooks: str = "") -> str:
        return (
            f"task: {{pidfile: /run/service.pid}}\ndestination: {{ssh: {to}}}\nstrategy: lazy\n"
            "timeouts: {silence: 3}\n"
            f'network: {{addresses: ["{self.moved} dev {DEVICE}"]}}\n{more}{hooks}'
        )

    def ask(self) -> dict[str, Any]:
        """What the clients have seen since they were asked last."""
        self.clients.stdin.write("\n")
        self.clients.stdin.flush()
        return dict(json.loads(self.clients.stdout.readline()))

    def assert_served(self, host: Host) -> None:
        """By this very process on `host`: each long connection goes on, short ones come to their end, none of either
        has ever failed, and none hangs. `seen`: what the clients saw since they were asked last, until then."""
        assert self.pid in pids_of(host, "forking_server")
        self.seen = self.ask()
        assert self.seen["errors"] == []

        def go_on() -> bool:
            now = self.ask()
            assert now["errors"] == []
            for what in ("longest_short_s", "longest_wait_s"):
                self.seen[what] = max(self.seen[what], now[what])
            self.seen["shorts"] += now["shorts"]
            return now["shorts"] and min(now["answers"]) > 0 and now["oldest_s"] < SYN_RETRY_S

        eventually(go_on, "all of them go on")

    def hosts_with_address(self) -> list[str]:
        return [host.name for host in (self.testbed.src, self.testbed.dst) if self.is_at(host)]

    def is_at(self, host: Host) -> bool:
        return f" {self.moved} " in host.run(["ip", "address", "show", "dev", DEVICE]).stdout

    def filters(self) -> list[str]:
        """Our tables, on both hosts."""
        found = [host.run(["nft", "list", "tables"]).stdout for host in (self.testbed.src, self.testbed.dst)]
        return [line for line in "".join(found).splitlines() if "criu-lazy-" in line or "CRIU" in line]

    def assert_only_at(self, host: Host) -> None:
        """The address is, and no filter of ours is left anywhere."""
        eventually(lambda: self.hosts_with_address() == [host.name], f"at {host.name}: {self.hosts_with_address()}")
        eventually(lambda: not self.filters(), f"no filter is left: {self.filters()}")

    def end(self) -> None:
        self.clients.kill_session()
        self.clients.wait()
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["pkill", "-9", "-x", "forking_server"], check=False)
            host.run(["ip", "address", "del", self.moved, "dev", DEVICE], check=False)
            host.run(["nft", "flush", "ruleset"])
            host.run(["sh", "-c", "rm -rf /var/lib/criu-lazy* /root/m*.yaml /run/held /run/service.pid"])
