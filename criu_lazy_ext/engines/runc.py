"""runc: `runc checkpoint` and `runc restore`."""

from __future__ import annotations

from criu_lazy_ext.engines.oci import OciRuntime
from criu_lazy_ext.profile import Container


def engine(container: Container) -> OciRuntime:
    """runc tells CRIU itself whether pages are lazy: it must be told."""
    return OciRuntime(container, "runc", lazy=["--lazy-pages"])
