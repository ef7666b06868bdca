"""Progress, and what /proc says: what others do to them ends no migration."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from criu_lazy_ext.migration.progress import Progress
from criu_lazy_ext.system.processes import start_time, tree


def test_nobody_reads_the_progress_any_more() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    progress = Progress(stream)
    progress.phase("preflight")
    progress.end()
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_a_processes_name_need_not_be_utf_8() -> None:
    script = "import sys; open('/proc/self/comm', 'wb').write(b'caf\\xc3'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as named:
        assert named.stdout is not None
        named.stdout.readline()
        assert start_time(named.pid) is not None
        assert tree(named.pid) == {named.pid: named.pid}
        named.communicate()
