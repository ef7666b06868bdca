"""IP addresses of this host's network devices: what is there, and one more or less of them.

All in the network namespace of the calling thread; raises OSError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

from criu_lazy_ext.system.net_namespace import within
from criu_lazy_ext.system.netlink import CREATE, EXCL, Netlink, attribute, attributes

NETLINK_ROUTE = 0
NEW_ADDRESS, DELETE_ADDRESS, GET_ADDRESS, GET_ROUTE = 20, 21, 22, 26
ADDRESS, LOCAL, LABEL, BROADCAST, FLAGS = 1, 2, 3, 4, 8  # attributes of an address
PREFERRED_SOURCE = 7  # an attribute of a route
SECONDARY, NO_DAD, PERMANENT, NO_PREFIX_ROUTE = 0x01, 0x02, 0x80, 0x200  # flags
GET_DEVICE_FLAGS, UP = 0x8913, 1
UNIVERSE = 0  # a scope
KERNELS_OWN = 2  # a route's protocol
_BODY = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, device


@dataclass(frozen=True)
class Address:
    """An address of a device. `label`, `broadcast`: "" where there is none; `flags`: the kernel's."""

    address: str
    prefix: int
    device: str
    scope: int = 0
    broadcast: str = ""
    label: str = ""
    flags: int = PERMANENT

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def is_permanent(self) -> bool:
        """Whether nobody has given it for a time only, as DHCP and router advertisements do."""
        return bool(self.flags & PERMANENT)

    def at(self, device: str) -> Address:
        """The same address on another device."""
        return self if device == self.device else replace(self, device=device, label="")

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix} dev {self.device}"


def addresses() -> list[Address]:
    """All that this host has."""
    with Netlink(NETLINK_ROUTE) as netlink:
        return [_parse(body) for body in netlink.dump(GET_ADDRESS, _BODY.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]


def behind(pid: int) -> list[str]:
    """Those by which a process in a network namespace of its own is known outside it; none of one in this one."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = within(namespace, lambda own: [] if own else addresses())
    finally:
        os.close(namespace)
    return [one.address for one in found if one.scope == UNIVERSE]


def find(here: Iterable[Address], address: str, prefix: int, device: str) -> Address | None:
    """That one of `here`, if it is there."""
    return next((one for one in here if (one.address, one.prefix, one.device) == (address, prefix, device)), None)


def add(address: Address) -> bool:
    """Usable at once: IPv6's duplicate address detection is left out. False if it was there."""
    body = _body(address, NO_DAD if address.family == socket.AF_INET6 else 0)
    body += attribute(BROADCAST, _packed(address.broadcast)) if address.broadcast else b""
    body += attribute(LABEL, address.label.encode() + b"\0") if address.label else b""
    try:
        with Netlink(NETLINK_ROUTE) as netlink:
            netlink.request(NEW_ADDRESS, CREATE | EXCL, body)
    except FileExistsError:
        return False
    return True


def delete(address: Address) -> bool:
    """False if it, or its device, was not there."""
    try:
        with Netlink(NETLINK_ROUTE) as netlink:
            netlink.request(DELETE_ADDRESS, 0, _body(address, 0))
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise
    return True


def is_up(device: str) -> bool | None:
    """None: there is no such device."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            found = fcntl.ioctl(any_socket, GET_DEVICE_FLAGS, struct.pack("16s16x", device.encode()))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
    return bool(struct.unpack_from("=H", found, 16)[0] & UP)


def interface_rate(address: str) -> int:
    """Bytes per second that the interface with `address` says it can do; 0: it has no hardware, or doesn't say."""
    plain = address.partition("%")[0]
    with contextlib.suppress(OSError, ValueError):
        for device in {own.device for own in addresses() if own.address == plain}:
            path = Path("/sys/class/net", device)
            if (path / "device").exists():
                return max(0, int((path / "speed").read_text())) * 125_000
    return 0


def taken_along(address: Address) -> list[Address]:
    """The addresses that the kernel deletes with this one: secondary ones of its subnet, unless it promotes one."""
    if address.family == socket.AF_INET6 or address.flags & SECONDARY or _promotes(address.device):
        return []
    subnet = ip_network(f"{address.address}/{address.prefix}", strict=False)
    return [
        other for other in addresses()
        if other.flags & SECONDARY and other.family == address.family and other.device == address.device
        and other.prefix == address.prefix and ip_address(other.address) in subnet
    ]  # fmt: skip


def is_source_of_routes(address: Address) -> bool:
    """Whether somebody has made a route that has the address for its source: the kernel deletes it with that."""
    with Netlink(NETLINK_ROUTE) as netlink:
        for body in netlink.dump(GET_ROUTE, struct.pack("=BBBBBBBBI", address.family, *[0] * 8)):
            is_kernels = body[5] == KERNELS_OWN
            if not is_kernels and attributes(body[12:]).get(PREFERRED_SOURCE) == _packed(address.address):
                return True
    return False


_NOT_THERE = (errno.EADDRNOTAVAIL, errno.ENODEV)


def _promotes(device: str) -> bool:
    settings = [Path(f"/proc/sys/net/ipv4/conf/{name}/promote_secondaries") for name in ("all", device)]
    return any(path.exists() and path.read_text().strip() != "0" for path in settings)


def _body(address: Address, flags: int) -> bytes:
    flags |= address.flags & NO_PREFIX_ROUTE
    head = _BODY.pack(address.family, address.prefix, 0, address.scope, socket.if_nametoindex(address.device))
    packed = _packed(address.address)
    return head + attribute(LOCAL, packed) + attribute(ADDRESS, packed) + attribute(FLAGS, struct.pack("=I", flags))


def _parse(body: bytes) -> Address:
    family, prefix, flags, scope, index = _BODY.unpack_from(body)
    found = attributes(body[_BODY.size :])
    if FLAGS in found:
        flags = struct.unpack("=I", found[FLAGS])[0]

    def text(kind: int) -> str:
        return socket.inet_ntop(family, found[kind]) if kind in found else ""

    label = found.get(LABEL, b"").rstrip(b"\0").decode(errors="replace")
    return Address(text(LOCAL) or text(ADDRESS), prefix, _name(index), scope, text(BROADCAST), label, flags)


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # gone meanwhile
        return ""


def _packed(address: str) -> bytes:
    return ip_address(address).packed
