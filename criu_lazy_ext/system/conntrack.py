"""TCP connections whose destination the kernel translates, as those that come through a container's published port:
what its connection tracking knows of them. In the network namespace of the calling thread; raises OSError.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Container, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from criu_lazy_ext.criu.images import Endpoint, endpoint
from criu_lazy_ext.system.netlink import CREATE, EXCL, Netlink, attribute, attributes

NETLINK_NETFILTER = 12
NEW, GET, DELETE = (1 << 8 | message for message in (0, 1, 2))
# Attributes of a connection; of those that nest, the ones inside.
ORIGINAL, REPLY, STATUS, PROTOCOL_INFO, TIMEOUT, NAT_DESTINATION = 1, 2, 3, 4, 7, 13
TUPLE_ADDRESSES, TUPLE_PROTOCOL = 1, 2
SOURCE, DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}
NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
TCP_INFO, TCP_STATE, TCP_FLAGS_ORIGINAL, TCP_FLAGS_REPLY = 1, 1, 4, 5
FIRST_ADDRESS, LAST_ADDRESS, NAT_PORTS, FIRST_PORT, LAST_PORT = {4: 1, 6: 4}, {4: 2, 6: 5}, 3, 1, 2
ESTABLISHED = 3
SEEN_REPLY, ASSURED, CONFIRMED = 2, 4, 8
BE_LIBERAL = b"\x08\x08"  # the windows of who did not see the connection begin are not known
NESTED = 0x8000

End = tuple[str, int]


@dataclass(frozen=True)
class Translated:
    """A connection of `client` to `service`, which leads to `inside`: each an address and a port. `seconds`: so long it
    is known if nothing comes."""

    client: End
    service: End
    inside: End
    seconds: int

    @property
    def ends(self) -> frozenset[Endpoint]:
        """As its packets have them outside."""
        return frozenset((endpoint(*self.client), endpoint(*self.service)))

    @classmethod
    def of_message(cls, message: list[list[object]]) -> Translated:
        """What JSON has made of astuple()."""
        client, service, inside = ((str(address), int(str(port))) for address, port in message[:3])
        return cls(client, service, inside, int(str(message[3])))


def translated(inside: Container[str]) -> list[Translated]:
    """Those established that lead to one of these addresses, and come from where they seem to."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with Netlink(NETLINK_NETFILTER) as netlink:
            for body in netlink.dump(GET, _head(family)):
                given = attributes(body[4:])
                original, reply = _ends(given.get(ORIGINAL)), _ends(given.get(REPLY))
                if original is None or reply is None or reply[0] == original[1] or reply[1] != original[0]:
                    continue
                if reply[0][0] in inside and _is_established(given):
                    seconds = struct.unpack("!I", given[TIMEOUT])[0] if TIMEOUT in given else 0
                    found.append(Translated(original[0], original[1], reply[0], seconds))
    return found


def translate(connections: Iterable[Translated]) -> list[str]:
    """Have the kernel know them, whatever it knew of their ends before. What could not be done, a line each."""
    problems = []
    with Netlink(NETLINK_NETFILTER) as netlink:
        for connection in connections:
            try:
                _translate(netlink, connection)
            except OSError as error:
                client, service = connection.client, connection.service
                what = f"from {client[0]} port {client[1]} to {service[0]} port {service[1]}"
                problems.append(f"the connection {what} will be reset: conntrack: {error.strerror}")
    return problems


def _translate(netlink: Netlink, connection: Translated) -> None:
    version = ip_address(connection.service[0]).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    original = _tuple(ORIGINAL, connection.client, connection.service)
    with contextlib.suppress(FileNotFoundError):
        netlink.request(DELETE, 0, _head(family) + original)
    inside = ip_address(connection.inside[0]).packed
    ports = (attribute(kind, struct.pack("!H", connection.inside[1])) for kind in (FIRST_PORT, LAST_PORT))
    to = attribute(FIRST_ADDRESS[version], inside) + attribute(LAST_ADDRESS[version], inside)
    liberal = attribute(TCP_FLAGS_ORIGINAL, BE_LIBERAL) + attribute(TCP_FLAGS_REPLY, BE_LIBERAL)
    tcp = attribute(TCP_STATE, bytes([ESTABLISHED])) + liberal
    body = original + _tuple(REPLY, connection.service, connection.client)
    body += attribute(STATUS, struct.pack("!I", SEEN_REPLY | ASSURED | CONFIRMED))
    body += attribute(TIMEOUT, struct.pack("!I", connection.seconds))
    body += _nest(PROTOCOL_INFO, _nest(TCP_INFO, tcp))
    body += _nest(NAT_DESTINATION, to + _nest(NAT_PORTS, b"".join(ports)))
    netlink.request(NEW, CREATE | EXCL, _head(family) + body)


def _head(family: int) -> bytes:
    return struct.pack("!BBH", family, 0, 0)


def _nest(kind: int, value: bytes) -> bytes:
    return attribute(kind | NESTED, value)


def _tuple(kind: int, source: End, destination: End) -> bytes:
    version = ip_address(source[0]).version
    addresses = attribute(SOURCE[version], ip_address(source[0]).packed)
    addresses += attribute(DESTINATION[version], ip_address(destination[0]).packed)
    protocol = attribute(NUMBER, bytes([socket.IPPROTO_TCP]))
    protocol += attribute(SOURCE_PORT, struct.pack("!H", source[1]))
    protocol += attribute(DESTINATION_PORT, struct.pack("!H", destination[1]))
    return _nest(kind, _nest(TUPLE_ADDRESSES, addresses) + _nest(TUPLE_PROTOCOL, protocol))


def _ends(data: bytes | None) -> tuple[End, End] | None:
    """Source and destination; None if it isn't TCP's."""
    given = attributes(data or b"")
    addresses, protocol = attributes(given.get(TUPLE_ADDRESSES, b"")), attributes(given.get(TUPLE_PROTOCOL, b""))
    if protocol.get(NUMBER) != bytes([socket.IPPROTO_TCP]):
        return None
    version = 4 if SOURCE[4] in addresses else 6

    def end(which: dict[int, int], port: int) -> End:
        return str(ip_address(addresses[which[version]])), int.from_bytes(protocol[port])

    return end(SOURCE, SOURCE_PORT), end(DESTINATION, DESTINATION_PORT)


def _is_established(given: dict[int, bytes]) -> bool:
    tcp = attributes(attributes(given.get(PROTOCOL_INFO, b"")).get(TCP_INFO, b""))
    return tcp.get(TCP_STATE) == bytes([ESTABLISHED])
