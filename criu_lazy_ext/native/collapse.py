"""Huge pages for another process (cl_collapse)."""

from __future__ import annotations

from criu_lazy_ext.native.library import lib


def collapse(pidfd: int, start: int, size: int) -> int:
    """Join the pages of [start, start + size), aligned to huge pages, in the process; 0 or a negative errno."""
    return lib.cl_collapse(pidfd, start, size)
