"""The way of the pages: by which address of this host the other one reaches it, and what that path passes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address

from criu_lazy_ext.profile import Destination, Source
from criu_lazy_ext.remote.hosts import HostError, HostInDoubt, RemoteHost
from criu_lazy_ext.system.addresses import addresses

PROBE_BYTES = 256 << 10  # more than a path passes that only passes small packets
PROBED_WITHIN_S = 60.0
PROBES, AGAIN_BELOW_S = 5, 0.1  # a busy CPU makes a short probe look slower than the path is: the fastest counts
LOOK_WITHIN_S = 5.0
ANY_PORT = 9  # nothing is sent there


@dataclass(frozen=True)
class Way:
    """`address`: where the page server will listen, "" if that isn't known; `problem`: why the other host does not get
    what is sent from there; `seconds`: what PROBE_BYTES took it otherwise, at best."""

    address: str
    problem: str = ""
    seconds: float = 0.0
    is_here: bool = False  # the problem is this host's

    @classmethod
    async def find(cls, host: RemoteHost, destination: Destination, source: Source, peer: str) -> Way:
        """`peer`: see own_address. Raises HostInDoubt, HostLost."""
        address = source.address or await asyncio.to_thread(own_address, destination, peer)
        if not address:
            return cls("")
        try:
            return cls(address, seconds=await _probe(host, address, source.port))
        except HostInDoubt:
            raise
        except HostError as error:
            return cls(address, str(error).removeprefix(f"{host.name}: "))
        except OSError as error:
            # A name that is not known has a negative number, of no errno.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or error
            return cls(address, f"can't listen on {address}, port {source.port or 'any'}: {reason}", is_here=True)


async def _probe(host: RemoteHost, address: str, port: int) -> float:
    """How long PROBE_BYTES take from there to the other host, at best. Raises OSError, HostError."""

    def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(os.urandom(PROBE_BYTES))
        writer.close()  # once it is sent

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.create_server((address, port), family=family)
    listener = await asyncio.start_server(send, sock=listening)
    try:
        port = listening.getsockname()[1]
        taken: list[float] = []
        while len(taken) < PROBES and sum(taken) < AGAIN_BELOW_S:
            request = host.request("reach", address=address, port=port, bytes=PROBE_BYTES, within=PROBED_WITHIN_S)
            taken.append(float((await request)["seconds"]))
        return min(taken)
    finally:
        listener.close()


def own_address(destination: Destination, peer: str) -> str:
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
