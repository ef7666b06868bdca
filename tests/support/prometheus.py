"""Prometheus, as Debian has it: unpacked into the testbed's cache, run in the network of one of a testbed's hosts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import prometheus_client
from lazy_source import eventually

from testbed import Host, prepare

CACHED = prepare.CACHE / "prometheus"
PORT = 9090
METRICS_PORT = 9967
CONFIGURATION = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: criu-lazy
    static_configs: [{{targets: [{targets}]}}]
"""


def program(name: str) -> str:
    """The path of prometheus, or promtool."""
    with prepare.locked(prepare.CACHE / "lock-prometheus"):
        prepare.make(CACHED, _unpack)
    return str(CACHED / "usr/bin" / name)


def _unpack(target: Path) -> None:
    target.mkdir()
    apt = ["apt-get", "-qq", *prepare.apt_words()]
    subprocess.run([*apt, "update"], check=False)  # its status is 100 when any of the machine's sources fails
    commands = (
        [*apt, "download", "prometheus"],
        ["sh", "-c", "dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb"],
    )
    for command in commands:
        subprocess.run(command, cwd=target, check=True)


def give_client(host: Host) -> dict[str, str]:
    """Let `criu-lazy metrics` have what it needs there; its environment. (The hosts have no python3-prometheus-client;
    it is plain Python.)"""
    package = Path(prometheus_client.__file__).parent
    shutil.copytree(package, host.root / "root/lib/prometheus_client", dirs_exist_ok=True)
    return {"PYTHONPATH": "/root/lib"}


class Prometheus:
    """One that runs."""

    def __init__(self, enter: list[str]) -> None:
        self._query = [*enter, program("promtool"), "query", "--format=json", "instant", f"http://127.0.0.1:{PORT}"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What it answers: [] for nothing, and where it is not there yet."""
        done = subprocess.run([*self._query, expression], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or re.search("connection refused|Service Unavailable", done.stderr), done
        return list(json.loads(done.stdout or "[]"))

    def alerts(self) -> set[str]:
        """The names of those that fire."""
        return {found["metric"]["alertname"] for found in self.query('ALERTS{alertstate="firing"}')}


@contextmanager
def prometheus(directory: Path, host: Host, rules: Path, hosts: dict[str, Host]) -> Iterator[Prometheus]:
    """It runs in `host`'s network, and asks `hosts` (by their addresses); its files are in `directory`."""
    listen = ["criu-lazy", "metrics", "--listen", f"0.0.0.0:{METRICS_PORT}"]
    targets = ", ".join(f"'{address}:{METRICS_PORT}'" for address in hosts)
    (directory / "prometheus.yml").write_text(CONFIGURATION.format(rules=rules, targets=targets))
    enter = ["nsenter", f"--net=/proc/{host.pid}/ns/net"]
    command = [program("prometheus"), f"--config.file={directory}/prometheus.yml"]
    command += [f"--storage.tsdb.path={directory}/db", f"--web.listen-address=127.0.0.1:{PORT}"]
    with ExitStack() as running, (directory / "log").open("w") as log:
        for each in hosts.values():
            running.callback(running.enter_context(each.popen(listen, give_client(each))).terminate)
        running.callback(running.enter_context(subprocess.Popen([*enter, *command], stderr=log)).terminate)
        found = Prometheus(enter)
        eventually(lambda: len(found.query("up == 1")) == len(hosts), "it asks all hosts", 30)
        yield found
