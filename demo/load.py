"""The demo's client, started on a testbed's client host."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from typing import Any

from testbed import Testbed, TestbedError

VALUE_BYTES = 4096
SERVICE = "10.78.0.100"
FILLED_WITHIN_S = 300


class LoadClient:
    """demo.client on the client host, which has filled the server; `latest` is what it said last."""

    def __init__(self, testbed: Testbed, keys: int) -> None:
        self.filled = threading.Event()
        self.latest: dict[str, Any] = {}
        self._gap_ms = 0.0
        command = ["python3", "-m", "demo.client", SERVICE, str(keys), str(VALUE_BYTES)]
        self.process = testbed.client.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        self.filled.wait(FILLED_WITHIN_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.latest |= json.loads(line)
            self._gap_ms = max(self._gap_ms, self.latest.pop("gap_ms", 0.0))
            if "filled" in self.latest:
                self.filled.set()
        self.filled.set()

    def gap_ms(self) -> float:
        """The longest that it has waited since it was asked last, by its line of each second."""
        gap_ms, self._gap_ms = self._gap_ms, 0.0
        return gap_ms

    def end(self) -> dict[str, Any]:
        """Stop the load; the client looks at every key once more and reports."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        if "checked" not in self.latest:
            raise TestbedError(f"the load client ended early, with status {self.process.returncode}")
        return self.latest
