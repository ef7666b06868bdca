#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""An Ansible module: `criu-lazy evacuate` on a managed host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: criu_lazy_evacuate
short_description: Move tasks and containers to other hosts, live
description:
  - Runs C(criu-lazy evacuate) with a plan. What an earlier run left under way is settled first (C(--resume)).
  - Nothing is changed if nothing that the plan means runs on the host. Check mode tells what would move.
options:
  name:
    description: The plan's name, by which its record and journals are known on the host.
    type: str
    default: drain
  plan:
    description: The plan, as in docs/evacuate.md.
    type: dict
    required: true
  directory:
    description: Where the plan is written to.
    type: path
    default: /var/lib/criu-lazy/plans
  executable:
    description: The program.
    type: path
    default: criu-lazy
attributes:
  check_mode: {support: full}
"""

EXAMPLES = """
- criu_lazy_evacuate:
    name: drain
    plan:
      destinations: [{ssh: host-b}, {ssh: host-c}]
      move: [{containers: {engine: podman, label: app=shop}}]
"""

RETURN = """
items:
  description: Each task and container, its state and place, and what was measured.
  returned: when it ran
  type: list
seconds:
  description: What all of it took.
  returned: when it ran
  type: float
"""

SOME_STAY, UNDECIDED = 3, 4  # exit statuses


def report_in(text: str) -> dict[str, Any]:
    """What --json printed; {} if that is no report."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def main() -> None:
    """Ansible's way: one JSON object on standard output."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": "drain"},
            "plan": {"type": "dict", "required": True},
            "directory": {"type": "path", "default": "/var/lib/criu-lazy/plans"},
            "executable": {"type": "path", "default": "criu-lazy"},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["directory"], f"{module.params['name']}.yaml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(module.params["plan"], indent=1) + "\n")  # JSON is YAML
    except OSError as error:
        module.fail_json(msg=f"{path}: {error.strerror}")
    command = [module.params["executable"], "evacuate", str(path)]
    if module.check_mode:
        status, told, errors = module.run_command([*command, "--dry-run"])
        if status:
            module.fail_json(msg=errors.strip(), rc=status)
        module.exit_json(changed=bool(told.strip()), msg=told.strip())
    _, earlier, _ = module.run_command([*command, "--status", "--json"])
    before = report_in(earlier).get("items", [])
    interrupted = any(item["state"] in ("moving", "undecided") for item in before)
    resume = ["--resume"] if interrupted else []
    status, told, errors = module.run_command([*command, "--json", "--quiet", *resume])
    report = report_in(told)
    items = report.get("items", [])
    if status or not report:
        stay = [f"{item['name']}: {item['state']}: {item['message']}" for item in items if item["state"] != "committed"]
        what = {SOME_STAY: "some stay", UNDECIDED: "one has to be decided"}.get(status, "nothing has moved")
        module.fail_json(msg="; ".join([what, *(stay or [errors.strip()])]), rc=status, items=items)
    moved = {item["name"] for item in before if item["state"] == "committed"} if interrupted else set()
    module.exit_json(changed=any(item["name"] not in moved for item in items), items=items, seconds=report["seconds"])


if __name__ == "__main__":
    main()
