"""Where tests find stock criu, pycriu and an installed criu-lazy: a testbed host, or a machine of your own.

CRIU_LAZY_TEST_HOST may name a command prefix that runs a command there (`ssh vm`, `chroot DIR`); without it a
testbed is started. Criu needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

SETS = ("criu-4.1.1", "criu-4.2.1")


class HostWithCriu:
    """Runs Python scripts where criu, pycriu and criu-lazy are."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def python(self, script: str, given: object = None, timeout: float = 120) -> Any:
        """Run `script` with the system's Python; it finds `given` and leaves what is returned in `result`."""
        program = f"import json, sys\ngiven = json.load(sys.stdin)\n{script}\nprint(json.dumps(result))"
        done = self._run(["/usr/bin/python3", "-c", program], input=json.dumps(given), timeout=timeout)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def host_with_criu() -> Iterator[HostWithCriu]:
    """A host, for as long as the context lasts; skips the test where there can be none."""
    prefix = shlex.split(os.environ.get("CRIU_LAZY_TEST_HOST", ""))
    if prefix:

        def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*prefix, *argv], capture_output=True, text=True, check=False, **options)

        yield HostWithCriu(run)
        return
    if os.geteuid() != 0:
        pytest.skip("criu and the testbed need root")
    from testbed import Testbed

    with Testbed.start(name=f"criu-{os.getpid()}") as testbed:
        yield HostWithCriu(lambda argv, **options: testbed.dst.run(argv, check=False, **options))
