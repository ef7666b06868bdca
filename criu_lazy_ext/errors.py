"""The one exception family that reaches the user as a single line."""

from __future__ import annotations

import os


class CriuLazyError(Exception):
    """Something the user can act on: what failed, on what, why. `exit_code` is the process's exit status."""

    exit_code = 1


class UsageError(CriuLazyError):
    """A flag, a profile or an argument is wrong; nothing was touched."""

    exit_code = 2


def reason(error: OSError) -> str:
    """Why it failed and, where that may be it, that it takes root."""
    needs_root = isinstance(error, PermissionError) and os.geteuid() != 0
    return f"{error.strerror or error}{': run it as root' if needs_root else ''}"
