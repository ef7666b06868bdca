"""What has containerd restore a container: `containerd_restore.py FACTS.json`, which containerd.py writes.

The container's record is made here and not before: its monitor would start a container that has no task. It is told of
the container's restart policy when that runs. Ends when it does.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines.containerd_api import RUNC_OPTIONS, Api, message, of_bytes
from criu_lazy_ext.errors import CriuLazyError

RESTARTS = "containerd.io/restart."


def restore(facts: dict[str, Any]) -> None:
    """Raises EngineError."""
    api = Api(Path(facts["socket"]), facts["namespace"])
    container = of_bytes("Container", base64.b64decode(facts["container"]))
    labels = dict(container.labels)
    for name in labels:
        if name.startswith(RESTARTS):
            del container.labels[name]
    api.create_container(container)
    options = of_bytes("RuncOptions", container.runtime.options.value)
    options.binary_name = facts["program"]
    options.criu_image_path, options.criu_work_path = facts["images"], facts["work"]
    stdout, stderr = facts["outputs"]
    task = message(
        "CreateTask", container_id=container.id, rootfs=api.mounts(container.snapshotter, container.snapshot_key),
        stdout=stdout, stderr=stderr, options=message("Any", type_url=RUNC_OPTIONS, value=options.SerializeToString()),
    )  # fmt: skip
    api.start_task(task)
    api.set_labels(container.id, labels)
    api.set_snapshot_labels(container.snapshotter, container.snapshot_key, {})  # the container keeps it from now on


if __name__ == "__main__":
    try:
        restore(json.loads(Path(sys.argv[1]).read_text()))
    except CriuLazyError as error:
        sys.exit(str(error))
