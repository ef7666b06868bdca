"""Telling the neighbours on a network that an address is at this host now: gratuitous ARP, and IPv6's unsolicited
neighbour advertisement (RFC 5227, RFC 4861). Raises OSError."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

ETHERNET = 1  # ARPHRD_ETHER
BROADCAST = b"\xff" * 6
ALL_NODES, ALL_NODES_ETHERNET = IPv6Address("ff02::1"), bytes.fromhex("333300000001")
ARP, IPV6, ICMPV6 = 0x0806, 0x86DD, 58
ARP_REQUEST, SOLICITATION, ADVERTISEMENT, OVERRIDE, TARGET_LINK_ADDRESS = 1, 135, 136, 0x20000000, 2
SOLICITED_NODE = IPv6Address("ff02::1:ff00:0")
ALL_PROTOCOLS, LARGEST_FRAME = 3, 1 << 16
HOP_LIMIT = 255


def announce(address: str, device: str, sockets: contextlib.ExitStack) -> None:
    """One announcement; none where the device is no Ethernet. `sockets` is closed by the caller when there is time: the
    kernel takes some milliseconds for that, and the announcement has left before."""
    packets = sockets.enter_context(
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    )
    packets.bind((device, 0))
    _, _, _, kind, hardware = packets.getsockname()
    if kind != ETHERNET or len(hardware) != len(BROADCAST):
        return
    packets.send(advertisement(IPv6Address(address), hardware) if ":" in address else
                 gratuitous_arp(IPv4Address(address), hardware))  # fmt: skip


def who_answers(address: str, device: str, seconds: float) -> str:
    """The link-layer address of a neighbour that answers for the address, which this host hasn't, in so many seconds;
    "" if none does, or the device is no Ethernet."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ALL_PROTOCOLS)) as packets:
        packets.bind((device, ALL_PROTOCOLS))
        _, _, _, kind, hardware = packets.getsockname()
        if kind != ETHERNET or len(hardware) != len(BROADCAST):
            return ""
        wanted = ip_address(address)
        question = solicitation(wanted, hardware) if isinstance(wanted, IPv6Address) else arp_probe(wanted, hardware)
        deadline = time.monotonic() + seconds
        packets.send(question)
        while (left := deadline - time.monotonic()) > 0:
            packets.settimeout(left)
            with contextlib.suppress(TimeoutError):
                if (frame := packets.recv(LARGEST_FRAME))[6:12] != hardware and answers_for(frame, wanted):
                    return frame[6:12].hex(":")
    return ""


def answers_for(frame: bytes, address: IPv4Address | IPv6Address) -> bool:
    """Whether the frame is somebody's who says that he has the address."""
    if isinstance(address, IPv4Address):
        return frame[12:14] == struct.pack("!H", ARP) and frame[28:32] == address.packed
    is_advertisement = frame[20:21] == bytes([ICMPV6]) and frame[54:55] == bytes([ADVERTISEMENT])
    return frame[12:14] == struct.pack("!H", IPV6) and is_advertisement and frame[62:78] == address.packed


def arp_probe(address: IPv4Address, hardware: bytes) -> bytes:
    """The frame that asks who has `address`, and claims it for nobody."""
    body = struct.pack("!HHBBH", ETHERNET, 0x0800, 6, 4, ARP_REQUEST) + hardware + bytes(4) + bytes(6) + address.packed
    return BROADCAST + hardware + struct.pack("!H", ARP) + body


def solicitation(address: IPv6Address, hardware: bytes) -> bytes:
    """The same for IPv6."""
    group = IPv6Address(SOLICITED_NODE.packed[:13] + address.packed[13:])
    ethernet = bytes.fromhex("3333") + group.packed[12:]
    return icmpv6((hardware, IPv6Address("::")), (ethernet, group), SOLICITATION, bytes(4) + address.packed)


def gratuitous_arp(address: IPv4Address, hardware: bytes) -> bytes:
    """The frame that says that `address` is at `hardware`."""
    body = struct.pack("!HHBBH", ETHERNET, 0x0800, 6, 4, ARP_REQUEST)
    body += hardware + address.packed + bytes(6) + address.packed
    return BROADCAST + hardware + struct.pack("!H", ARP) + body


def advertisement(address: IPv6Address, hardware: bytes) -> bytes:
    """The same for IPv6."""
    option = struct.pack("!BB", TARGET_LINK_ADDRESS, 1) + hardware
    rest = struct.pack("!I", OVERRIDE) + address.packed + option
    return icmpv6((hardware, address), (ALL_NODES_ETHERNET, ALL_NODES), ADVERTISEMENT, rest)


def icmpv6(source: tuple[bytes, IPv6Address], target: tuple[bytes, IPv6Address], kind: int, rest: bytes) -> bytes:
    """A frame with an ICMPv6 message; `source` and `target`: their link-layer and IPv6 addresses."""
    length, between = 4 + len(rest), source[1].packed + target[1].packed
    pseudo = between + struct.pack("!II", length, ICMPV6)
    total = checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + rest)
    header = struct.pack("!IHBB", 6 << 28, length, ICMPV6, HOP_LIMIT) + between
    return target[0] + source[0] + struct.pack("!H", IPV6) + header + struct.pack("!BBH", kind, 0, total) + rest


def checksum(data: bytes) -> int:
    """The Internet's (RFC 1071), of an even number of bytes."""
    number = int.from_bytes(data)
    return ~(number % 0xFFFF or 0xFFFF * (number > 0)) & 0xFFFF  # the sum's carries come back in: so does a division
