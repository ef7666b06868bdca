"""The limit of open descriptors (RLIMIT_NOFILE), raised where this package starts what holds many.

What this process may have, its children may have: criu dump, criu restore, the page server, the daemon.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

NR_OPEN = Path("/proc/sys/fs/nr_open")
ENOUGH = 1 << 20  # the kernel's own default of nr_open; some systems set it to a thousand times that


def raise_descriptors() -> int:
    """Let this process open as many as it may: with CAP_SYS_RESOURCE a million, else its hard limit; returns that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = [(hard, hard)]
    with contextlib.suppress(OSError, ValueError):
        most = min(int(NR_OPEN.read_text()), ENOUGH)
        if 0 <= hard < most:
            wanted.insert(0, (most, most))
    for limits in wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
