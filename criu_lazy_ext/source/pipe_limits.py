"""The host's limits of pipes, which a lazy dump needs raised: criu keeps pages in pipes of 4 MiB.

Several migrations may need that at the same time, and the last one to end brings back what was before the first. They
know of each other by a shared lock on one file, which also says what was before: whoever is killed leaves that there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.errors import CriuLazyError

SHARED = Path("/run/criu-lazy/pipe-limits.json")
WANTED = {criu.PIPE_MAX_SIZE: criu.PIPE_MAX_SIZE_BYTES, criu.PIPE_USER_PAGES_SOFT: 0}  # the latter's 0: no limit


class PipeLimitsError(CriuLazyError):
    """They can't be raised."""


class PipeLimits:
    """Raised for the time of one migration."""

    def __init__(self, before: dict[str, int] | None = None) -> None:
        """`before`: what an earlier `before()` gave, to restore that."""
        self._before = dict(before or {})
        self._shared = -1

    def before(self) -> dict[str, int]:
        """What `restore` will bring back, unless others need the limits still."""
        return dict(self._before)

    def raise_(self) -> None:
        """Set what is not enough yet. Raises PipeLimitsError."""
        path = SHARED
        try:
            SHARED.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._shared = os.open(SHARED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._shared, fcntl.LOCK_SH)
            for path, wanted in WANTED.items():
                found = int(path.read_text())
                if found < wanted or (wanted == 0 and found != 0):
                    self._before[str(path)] = found
                    path.write_text(str(wanted))
        except OSError as error:
            wanted_there = f"; set it to {WANTED[path]} by sysctl" if path in WANTED else ""
            raise PipeLimitsError(f"{path}: {error.strerror}{wanted_there}") from error
        if self._before:
            with contextlib.suppress(OSError):
                os.pwrite(self._shared, json.dumps(_noted(self._shared) | self._before).encode(), 0)

    def restore(self) -> None:
        """Back to what it was, if no other migration needs them."""
        fd, self._shared = self._shared, -1
        with contextlib.suppress(OSError):
            if fd < 0:
                fd = os.open(SHARED, os.O_RDWR | os.O_CLOEXEC)
        if fd < 0:
            _write(self._before)  # this host was rebooted, or an older criu-lazy raised them
            self._before.clear()
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(self._before | _noted(fd))
            os.ftruncate(fd, 0)
        except OSError:  # the last of the others does it
            pass
        finally:
            os.close(fd)
        self._before.clear()


def _noted(fd: int) -> dict[str, int]:
    with contextlib.suppress(ValueError, OSError):
        return dict(json.loads(os.pread(fd, 4096, 0)))
    return {}


def _write(values: dict[str, int]) -> None:
    for path, value in values.items():
        with contextlib.suppress(OSError):
            Path(path).write_text(str(value))
