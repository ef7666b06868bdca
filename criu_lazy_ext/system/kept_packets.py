"""TCP packets for service addresses that come while a task is frozen: kept at the source, delivered where it runs.

The packet filters drop them. Who sent one hears nothing, and sends it again only when TCP's time is up: 0.2 s and more
for data, 1 s for what opens a connection, and twice as long each time. Delivered, they are answered as soon as the task
runs. To TCP they are late packets; one that was received all the same is a duplicate.

Packets are IP packets from the version on, checksums right, packed as: u32 big-endian length, packet, ... .
"""

from __future__ import annotations

import array
import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from criu_lazy_ext.criu.images import Endpoint, endpoint
from criu_lazy_ext.system.announce import IPV6, checksum

IPV4 = 0x0800
KEPT_BYTES = 8 << 20  # by the kernel, for each version of IP, its own structures included; what comes later is lost
LEAST_STRUCTURE = 512  # of those, for each packet
MOST_OPENING = 4096  # packets
MOST_PAYLOAD = 1200  # bytes of data in a packet that is delivered: few networks carry less
LARGEST = 1 << 16
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SOL_PACKET, PACKET_AUXDATA = 26, 33, 263, 8
CHECKSUM_NOT_READY, CHECKSUM_VALID = 1 << 3, 1 << 7  # of packets that the kernel itself made or merged; seen by the NIC
FIN, SYN, PSH, ACK, URG = 1, 2, 8, 16, 32
LOAD_BYTE, LOAD_WORD, JUMP_EQUAL, RETURN = 0x30, 0x20, 0x15, 0x06  # of the kernel's classic packet filter
PACKET_TYPE, PACKET_HOST = 0xFFFFF000 + 4, 0  # where that finds to whom the frame was sent; to this host


class KeptPackets:
    """What comes for addresses in this thread's network namespace from now on. Raises OSError."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._opening: list[bytes] = []
        self._sockets: list[socket.socket] = []
        wanted = [ip_address(address) for address in addresses]
        try:
            for version, protocol in ((4, IPV4), (6, IPV6)):
                if packed := [address.packed for address in wanted if address.version == version]:
                    self._sockets.append(_listen(protocol, _filter(version, packed)))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Takes the kernel some milliseconds; also a second time."""
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    def forget_served(self) -> None:
        """The task still runs: what came until now is forgotten, but for what opens connections, which was dropped."""
        self._opening = [*self._opening, *filter(_opens, self._receive())][:MOST_OPENING]

    def take(self) -> list[bytes]:
        """What came since."""
        taken = [*self._opening, *self._receive()]
        self._opening = []
        return taken

    def _receive(self) -> Iterator[bytes]:
        for sock in self._sockets:
            left = KEPT_BYTES  # as many as there can have been: of a busy or hostile network, there are always more
            with contextlib.suppress(BlockingIOError):
                while left > 0:
                    packet, about, _, _ = sock.recvmsg(LARGEST + 40, socket.CMSG_SPACE(32))
                    left -= LEAST_STRUCTURE + len(packet)
                    status = next((struct.unpack_from("I", data)[0] for _, kind, data in about), 0)
                    if (whole := _whole(packet, status)) is not None:
                        yield whole


def pack(packets: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Packed, in pieces of at most so many bytes."""
    piece = bytearray()
    for packet in packets:
        if len(piece) + 4 + len(packet) > most_bytes:
            yield bytes(piece)
            piece.clear()
        piece += len(packet).to_bytes(4, "big") + packet
    if piece:
        yield bytes(piece)


def unpack(packed: bytes) -> Iterator[bytes]:
    """The packets, as far as they are some of TCP's."""
    at = 0
    while at + 4 <= len(packed):
        length = int.from_bytes(packed[at : at + 4], "big")
        packet = packed[at + 4 : at + 4 + length]
        at += 4 + length
        if _header_bytes(packet):
            yield packet


class Let:
    """What may be delivered: packets of these connections (by their ends), and what opens another one from a host that
    has one to the same port. From `lo`, where it comes from then, firewalls let everything pass: these were let in."""

    def __init__(self, connections: Iterable[frozenset[Endpoint]] = ()) -> None:
        self._connections = set(connections)
        pairs = [tuple(ends) for ends in self._connections if len(ends) == 2]
        self._open = {(a[0], b) for a, b in pairs} | {(b[0], a) for a, b in pairs}

    def passes(self, packet: bytes) -> bool:
        """Whether it may."""
        client, service = _ends(packet)
        if _opens(packet):
            return (client[0], service) in self._open
        return frozenset((client, service)) in self._connections


def deliver(packets: Iterable[bytes], addresses: Iterable[str], let: Let) -> None:
    """Have the kernel take them as if they came, in this thread's network namespace; those for the addresses that may
    be. Raises OSError, the first, when each was tried."""
    wanted = {ip_address(address).packed for address in addresses}
    errors: list[OSError] = []
    with contextlib.ExitStack() as stack:
        raw: dict[int, socket.socket] = {}
        for packet in packets:
            version = packet[0] >> 4
            target = packet[16:20] if version == 4 else packet[24:40]
            if target not in wanted or not let.passes(packet):
                continue
            if version not in raw:
                family = socket.AF_INET if version == 4 else socket.AF_INET6
                kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                raw[version] = stack.enter_context(socket.socket(family, kind, socket.IPPROTO_RAW))
            try:
                for segment in _segments(packet):
                    raw[version].sendto(segment, (str(ip_address(target)), 0))
            except OSError as error:
                errors.append(error)
    if errors:
        raise errors[0]


def _listen(protocol: int, instructions: list[tuple[int, int, int, int]]) -> socket.socket:
    """A socket that takes IP packets of that protocol which pass a filter."""
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
    try:
        code = array.array("B", b"".join(struct.pack("HBBI", *each) for each in instructions))
        program = struct.pack("HP", len(instructions), code.buffer_info()[0])
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        with contextlib.suppress(OSError):  # else the kernel keeps less
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, KEPT_BYTES // 2)  # the kernel doubles it
        with contextlib.suppress(BlockingIOError):  # what came before the filter was there
            while True:
                sock.recv(1)
    except OSError:
        sock.close()
        raise
    return sock


def _filter(version: int, addresses: list[bytes]) -> list[tuple[int, int, int, int]]:
    """Passes TCP for one of the addresses, in a frame to this host: others' (of VLANs that are not here, or where a
    device is promiscuous) its kernel does not take."""
    protocol_at, target_at = (9, 16) if version == 4 else (6, 24)
    instructions = [(LOAD_WORD, 0, 0, PACKET_TYPE), (JUMP_EQUAL, 1, 0, PACKET_HOST), (RETURN, 0, 0, 0)]
    instructions += [(LOAD_BYTE, 0, 0, protocol_at), (JUMP_EQUAL, 1, 0, socket.IPPROTO_TCP), (RETURN, 0, 0, 0)]
    for address in addresses:
        words = struct.unpack(f"!{len(address) // 4}I", address)
        for index, word in enumerate(words):
            to_next_address = 2 * (len(words) - 1 - index) + 1
            instructions += [(LOAD_WORD, 0, 0, target_at + 4 * index), (JUMP_EQUAL, 0, to_next_address, word)]
        instructions.append((RETURN, 0, 0, LARGEST + 40))
    return [*instructions, (RETURN, 0, 0, 0)]


def _header_bytes(packet: bytes) -> int:
    """Of IP, if that is a whole packet of TCP's, and no fragment, from what can be another host; else 0."""
    if len(packet) < 40:
        return 0
    if packet[0] >> 4 == 4:
        header, end = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        protocol, fragment = packet[9], int.from_bytes(packet[6:8], "big") & 0x3FFF
    else:
        header, end = 40, 40 + int.from_bytes(packet[4:6], "big")
        protocol, fragment = packet[6], 0
    if packet[0] >> 4 not in (4, 6) or protocol != socket.IPPROTO_TCP or fragment or end != len(packet):
        return 0
    if header < 20 or end < header + 20:
        return 0
    source = ip_address(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24])
    if source.is_loopback or source.is_multicast or source.is_unspecified:  # the kernel takes none of a network's
        return 0
    tcp_header = (packet[header + 12] >> 4) * 4
    return header if 20 <= tcp_header <= end - header else 0


def _whole(packet: bytes, status: int) -> bytes | None:
    """Without what its frame was filled up with; None if it isn't whole, or came damaged."""
    if len(packet) >= 40:
        is_v4 = packet[0] >> 4 == 4
        packet = packet[: int.from_bytes(packet[2:4], "big") if is_v4 else 40 + int.from_bytes(packet[4:6], "big")]
    header = _header_bytes(packet)
    if not header:
        return None
    if status & (CHECKSUM_NOT_READY | CHECKSUM_VALID) or _checksum(packet, header) == 0:
        return packet
    return None


def _opens(packet: bytes) -> bool:
    return packet[_header_bytes(packet) + 13] & (SYN | ACK) == SYN


def _ends(packet: bytes) -> tuple[Endpoint, Endpoint]:
    """Of whom it is, and to whom."""
    header = _header_bytes(packet)
    addresses = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
    ports = struct.unpack_from("!HH", packet, header)
    return endpoint(addresses[0], ports[0]), endpoint(addresses[1], ports[1])


def _checksum(packet: bytes, header: int) -> int:
    """TCP's, with what stands in its place: 0 if that is right."""
    between, segment = (packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]), packet[header:]
    pseudo = between + struct.pack("!II", len(segment), socket.IPPROTO_TCP)
    return checksum(pseudo + segment + bytes(len(segment) % 2))


def _segments(packet: bytes) -> Iterator[bytes]:
    """The same, in packets that every network carries; their checksums are TCP's.

    What opens a connection (TCP Fast Open) goes without its data, which then comes again: the source may have taken it,
    and of two such pieces the second would be a reset's cause."""
    header = _header_bytes(packet)
    data_at = header + (packet[header + 12] >> 4) * 4
    data, sequence = packet[data_at:], int.from_bytes(packet[header + 4 : header + 8], "big")
    flags, urgent = packet[header + 13], int.from_bytes(packet[header + 18 : header + 20], "big")
    if flags & SYN:
        data = b""
    for at in range(0, len(data) or 1, MOST_PAYLOAD):
        piece = bytearray(packet[:data_at] + data[at : at + MOST_PAYLOAD])
        if flags & URG:  # counted from the sequence number
            struct.pack_into("!H", piece, header + 18, max(0, urgent - at))
            if urgent <= at:
                piece[header + 13] &= ~URG
        length = len(piece) if piece[0] >> 4 == 4 else len(piece) - header
        struct.pack_into("!H", piece, 2 if piece[0] >> 4 == 4 else 4, length)
        struct.pack_into("!I", piece, header + 4, (sequence + at) & 0xFFFFFFFF)
        if at + MOST_PAYLOAD < len(data):
            piece[header + 13] &= ~(FIN | PSH)
        piece[header + 16 : header + 18] = bytes(2)
        struct.pack_into("!H", piece, header + 16, _checksum(bytes(piece), header))
        yield bytes(piece)
