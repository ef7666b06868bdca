"""The Ansible role and module of ansible/: they look at the hosts, and empty one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evacuating import clean, is_at
from migrating import Worker
from paths import CHECKOUT

from testbed import Testbed

ANSIBLE = CHECKOUT / "ansible"
# After the playbook that operators have: what its evacuation told.
TELLING = f"""
- import_playbook: {ANSIBLE}/drain.yml
- hosts: drained
  gather_facts: false
  tasks:
  - copy: {{content: "{{{{ criu_lazy_evacuated | to_json }}}}", dest: "{{{{ told }}}}"}}
    delegate_to: localhost
    connection: local
    check_mode: false
"""


class Control:
    """A control node beside the hosts: the client, whose ssh Ansible runs."""

    def __init__(self, testbed: Testbed, directory: Path) -> None:
        self.directory = directory
        ssh = directory / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {" ".join(testbed.client.command(["ssh"], new_session=False))} "$@"\n')
        ssh.chmod(0o755)
        self.inventory = {
            "all": {
                "hosts": {
                    host.name: {"ansible_host": host.service_address, "ansible_python_interpreter": "/usr/bin/python3"}
                    for host in (testbed.src, testbed.dst)
                },
                "vars": {"ansible_user": "root", "ansible_ssh_executable": str(ssh), "ansible_ssh_args": ""},
                "children": {"drained": {"hosts": {"src": {}}}},
            }
        }

    def play(self, variables: dict[str, Any], *options: str) -> tuple[int, dict[str, Any], str]:
        """Its exit status, the result of the evacuation if it went well, and what was printed."""
        inventory, book, told = (self.directory / name for name in ("inventory.json", "book.yml", "told.json"))
        inventory.write_text(json.dumps(self.inventory))
        book.write_text(TELLING)
        told.unlink(missing_ok=True)
        environment = {
            **os.environ, "ANSIBLE_PIPELINING": "1", "ANSIBLE_HOME": str(self.directory),
            "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_ROLES_PATH": str(ANSIBLE / "roles"),
        }  # fmt: skip
        program = Path(sys.executable).with_name("ansible-playbook")
        given = json.dumps(variables | {"told": str(told)})
        command = [program, "-i", inventory, book, "-e", given, *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        result = json.loads(told.read_text()) if told.exists() else {}
        return done.returncode, result, done.stdout + done.stderr


@pytest.fixture
def tasks(pair: Testbed) -> Iterator[list[Worker]]:
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    yield [Worker(pair, 8) for _ in range(2)]
    clean(pair)


def test_a_host_is_drained(pair: Testbed, tasks: list[Worker], tmp_path: Path) -> None:
    """Told before, done, and not done twice; what can't move is a failure that says so."""
    control = Control(pair, tmp_path)
    variables = {
        "criu_lazy_destinations": [{"ssh": "dst"}],
        "criu_lazy_move": [{"task": {"pid": worker.pid}, "name": f"t{n}"} for n, worker in enumerate(tasks)],
        "criu_lazy_profile": {"strategy": "lazy"},
    }
    status, told, said = control.play(variables, "--check")
    assert status == 0, said
    assert told["changed"] and f"t1: task {tasks[1].pid}" in told["msg"]
    is_at(tasks[0], pair.src)
    status, told, said = control.play(variables)
    assert status == 0, said
    assert told["changed"]
    assert [(item["name"], item["place"]) for item in told["items"]] == [("t0", "dst"), ("t1", "dst")]
    for worker in tasks:
        is_at(worker, pair.dst)
    status, _, said = control.play(variables)
    assert status != 0 and f"no process has pid {tasks[0].pid}" in said
