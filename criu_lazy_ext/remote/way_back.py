"""By which address of this host the other one reaches it: the page server listens there."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from ipaddress import ip_address

from criu_lazy_ext.profile import Destination
from criu_lazy_ext.system.addresses import addresses

LOOK_WITHIN_S = 5.0
ANY_PORT = 9  # nothing is sent there


def way_back(destination: Destination, peer: str) -> str:
    """`peer`: where its SSH connection comes from, as the other host says. If that isn't this host (a jump host, an
    address that is translated) or isn't known (sudo), the address that the route to it goes out from; "" if none."""
    if destination.local:
        return "127.0.0.1"
    seen = peer.partition("%")[0]
    if seen in {own.address for own in addresses()} and not ip_address(seen).is_loopback:
        return peer
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["ssh", "-G", *destination.ssh_options, destination.ssh or ""]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LOOK_WITHIN_S).stdout
        name = next(line.split()[1] for line in said.splitlines() if line.startswith("hostname "))
        family, _, _, _, address = socket.getaddrinfo(name, ANY_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            own = str(probe.getsockname()[0])
        return own if not ip_address(own).is_loopback or own == seen else ""
    return ""
