"""`criu lazy-pages` as other tools run it, between a runtime's own lazy checkpoint and restore."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator

from testbed.host import Host, HostProcess

SILENT = '"$@" </dev/null >/dev/null 2>&1'  # a detached container keeps its runtime's output as its own
# As Kubernetes' shims do: no environment, the log on stdout, and a second for the socket to be there (a busy machine
# gets three).
SHIM = """
log=$1 socket=$2; shift 2
env -i /usr/local/sbin/criu -o /dev/stdout -v4 "$@" lazy-pages >"$log" 2>&1 9>&- & daemon=$!
tries=300; until test -S "$socket"; do test $((tries -= 1)) -gt 0 || kill $daemon; sleep 0.01; done
echo ready >&9; wait $daemon
"""


def wait_for(what: str, condition: Callable[[], bool], *processes: HostProcess, seconds: float = 20) -> None:
    """Wait until `condition`; none of `processes` may end with an error meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} after {seconds:g} s"
        for process in processes:
            assert process.poll() in (None, 0), f"{process.args!r} ended before {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def running(host: Host, argv: list[str], ready: str) -> Iterator[HostProcess]:
    """`argv`, once it told its --status-fd 9 (the file `ready`) that it serves; killed if left running."""
    script = f'ready=$1; shift; {SILENT} 9>"$ready"'
    process = host.popen(["sh", "-c", script, "sh", ready, *argv])
    try:
        seen = host.root / ready[1:]
        wait_for(f"readiness of {argv[0]}", lambda: seen.exists() and seen.stat().st_size > 0, process)
        yield process
    finally:
        if process.poll() is None:
            process.kill_session()
        process.wait()


def status(process: HostProcess) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    return process.returncode
