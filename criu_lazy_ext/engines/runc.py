"""runc: `runc checkpoint` and `runc restore`."""

from __future__ import annotations

from criu_lazy_ext.engines import oci
from criu_lazy_ext.engines.oci import OciRuntime
from criu_lazy_ext.profile import Container


def engine(container: Container) -> OciRuntime:
    """runc tells CRIU itself whether pages are lazy: it must be told."""
    return OciRuntime(container, "runc", lazy=["--lazy-pages"])


def running(like: Container, label: str) -> list[str]:
    """The containers that run."""
    return oci.running(engine(like), label)
