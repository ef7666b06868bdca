"""TCP within a network namespace that several containers share, held back while they are restored one by one.

criu sends what waits in a connection's queue as soon as it has restored that end. Were the other end not there yet, the
kernel would answer with a reset. A packet that the filter drops as it leaves counts as not sent: it goes with the next
acknowledgement, which the end of the restore asks for.
"""

from __future__ import annotations

import os

from criu_lazy_ext.system.net_namespace import within
from criu_lazy_ext.system.nftables import Nft

TABLE = "criu-lazy-pod"
HOLD = f"""\
add table inet {TABLE}
add chain inet {TABLE} output {{ type filter hook output priority -400; policy accept; }}
add rule inet {TABLE} output oif "lo" meta l4proto tcp drop"""


def hold(pid: int) -> None:
    """In the network namespace of a process. Does nothing where there is no nftables. Raises FilterError, OSError."""
    _run_within(pid, HOLD)


def let_go(pid: int) -> None:
    """What `hold` did is undone. Raises FilterError, OSError."""
    _run_within(pid, f"add table inet {TABLE}\ndelete table inet {TABLE}")  # also where there is none


def _run_within(pid: int, commands: str) -> None:
    def run(_: bool) -> None:
        if (nft := Nft.load()) is not None:
            with nft:
                nft.run(commands)

    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        within(namespace, run)
    finally:
        os.close(namespace)
