"""The one exception family that reaches the user as a single line."""

from __future__ import annotations


class CriuLazyError(Exception):
    """Something the user can act on: what failed, on what, why. `exit_code` is the process's exit status."""

    exit_code = 1


class UsageError(CriuLazyError):
    """A flag, a profile or an argument is wrong; nothing was touched."""

    exit_code = 2
