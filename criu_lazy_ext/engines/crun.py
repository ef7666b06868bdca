"""crun: `crun checkpoint` and `crun restore`. It has no option for lazy pages: CRIU's file has it."""

from __future__ import annotations

from criu_lazy_ext.engines import oci
from criu_lazy_ext.engines.oci import OciRuntime
from criu_lazy_ext.profile import Container


def engine(container: Container) -> OciRuntime:
    """crun leaves to CRIU's file what it doesn't know."""
    return OciRuntime(container, "crun")


def running(like: Container, label: str) -> list[str]:
    """The containers that run."""
    return oci.running(engine(like), label)
