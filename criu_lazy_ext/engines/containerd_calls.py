"""Calls to containerd's API, one after the other: `containerd_calls.py FACTS.json`, run as a file.

It is part of the downtime: what it sends was made before, and it loads nothing but gRPC. FACTS: "socket", "namespace",
"calls": each the path of a method and its message, by base64. Ends with the first that fails, status 1, and what
containerd said.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any


def call_all(facts: dict[str, Any]) -> str:
    """What containerd said of the one that failed; "" if none did. None has a limit in time."""
    import grpc

    with grpc.insecure_channel(f"unix:{facts['socket']}", options=[("grpc.default_authority", "localhost")]) as channel:
        for path, message in facts["calls"]:
            try:
                # Without serializers, messages are bytes.
                channel.unary_unary(path)(
                    base64.b64decode(message), metadata=[("containerd-namespace", facts["namespace"])]
                )
            except grpc.RpcError as error:
                return f"containerd: {error.details() or error.code()}"
    return ""


if __name__ == "__main__":
    sys.exit(call_all(json.loads(Path(sys.argv[1]).read_text())) or 0)
