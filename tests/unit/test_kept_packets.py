"""Packets that came in the freeze: whole ones, in pieces that every network carries."""

from __future__ import annotations

import os
import struct
from ipaddress import ip_address

import pytest

from criu_lazy_ext.system import kept_packets
from criu_lazy_ext.system.kept_packets import ACK, CHECKSUM_NOT_READY, FIN, PSH, SYN, URG, Let

CLIENT = {4: "192.0.2.7", 6: "2001:db8::7"}
SERVICE = {4: "192.0.2.1", 6: "2001:db8::1"}


def packet(version: int, data: bytes = b"", flags: int = ACK, sequence: int = 1000, options: bytes = b"") -> bytes:
    """With TCP's checksum."""
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, sequence, 1, (20 + len(options)) * 4, flags, 100, 0, 0) + options + data
    ends = ip_address(CLIENT[version]).packed + ip_address(SERVICE[version]).packed
    if version == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0) + ends
    else:
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + ends
    made = bytearray(ip + tcp)
    struct.pack_into("!H", made, len(ip) + 16, kept_packets._checksum(bytes(made), len(ip)))
    return bytes(made)


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_that_the_kernel_merged_goes_in_pieces(version: int) -> None:
    header = 20 if version == 4 else 40
    data = os.urandom(2 * kept_packets.MOST_PAYLOAD + 7)
    options = b"\x01\x01\x08\x0a" + bytes(8)
    whole = packet(version, data, ACK | PSH | FIN, 0xFFFFFFFF - 1200, options)
    pieces = list(kept_packets._segments(whole))
    assert [len(piece) - header - 32 for piece in pieces] == [1200, 1200, 7]
    assert b"".join(piece[header + 32 :] for piece in pieces) == data
    assert [piece[header + 4 : header + 8].hex() for piece in pieces] == ["fffffb4f", "ffffffff", "000004af"]
    assert [piece[header + 13] for piece in pieces] == [ACK, ACK, ACK | PSH | FIN]
    for piece in pieces:
        assert kept_packets._header_bytes(piece) == header, "it is a whole packet"
        assert kept_packets._checksum(piece, header) == 0
        assert piece[header + 20 : header + 32] == options
    short = packet(version, b"x")
    assert list(kept_packets._segments(short)) == [short]
    assert list(kept_packets._segments(packet(version, flags=SYN))) == [packet(version, flags=SYN)]


@pytest.mark.parametrize("version", [4, 6])
def test_what_opens_a_connection_goes_without_data(version: int) -> None:
    """TCP Fast Open's: in pieces, the second would have the connection reset."""
    assert list(kept_packets._segments(packet(version, b"x" * 1400, SYN))) == [packet(version, flags=SYN)]


@pytest.mark.parametrize(("urgent", "wanted"), [(1, [1, None]), (1200, [1200, None]), (1201, [1201, 1])])
def test_the_urgent_byte_stays_where_it_was(urgent: int, wanted: list[int | None]) -> None:
    whole = bytearray(packet(4, os.urandom(1400), ACK | URG))
    struct.pack_into("!H", whole, 38, urgent)
    pieces = list(kept_packets._segments(bytes(whole)))
    found = [int.from_bytes(piece[38:40], "big") if piece[33] & URG else None for piece in pieces]
    assert found == wanted
    assert all(kept_packets._checksum(piece, 20) == 0 for piece in pieces)


@pytest.mark.parametrize("version", [4, 6])
def test_a_damaged_packet_is_not_mended(version: int) -> None:
    good = packet(version, b"amount=100")
    assert kept_packets._whole(good + b"\0" * 6, 0) == good, "a short frame is filled up"
    for at in range(20 if version == 4 else 40, len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        assert kept_packets._whole(bytes(bad), 0) is None, at
    unfinished = bytearray(good)
    unfinished[-len(b"amount=100") - 4] ^= 0xFF  # the checksum, which the kernel had not computed yet
    assert kept_packets._whole(bytes(unfinished), CHECKSUM_NOT_READY) == bytes(unfinished)


def test_what_is_no_whole_packet_of_tcp_is_left_out() -> None:
    good = packet(4, b"data")
    fragment = bytearray(good)
    fragment[6] = 0x20
    for bad in (b"", good[:39], good[:-1], bytes(fragment), good[:9] + b"\x11" + good[10:], b"\x75" + good[1:],
                good[:32] + b"\xf0" + good[33:], good[:32] + b"\x40" + good[33:], good[:32] + b"\0" + good[33:],
                b"\x42" + good[1:]):  # fmt: skip
        assert kept_packets._whole(bad, CHECKSUM_NOT_READY) is None, bad
        assert list(kept_packets.unpack(next(kept_packets.pack([bad, good], 1 << 20)))) == [good]


def test_packed_in_messages_and_unpacked() -> None:
    packets = [packet(6, os.urandom(size)) for size in (0, 1, 900, 1400, 30)]
    pieces = list(kept_packets.pack(packets, 1600))
    assert len(pieces) == 2 and max(map(len, pieces)) <= 1600
    assert [each for piece in pieces for each in kept_packets.unpack(piece)] == packets
    assert list(kept_packets.pack([], 1600)) == []
    ends = (64, 64 + 65, 64 + 65 + 964)
    for cut in range(len(pieces[0]) + 1):
        whole = sum(cut >= end for end in ends)
        assert list(kept_packets.unpack(pieces[0][:cut])) == packets[:whole]


@pytest.mark.parametrize("source", ["127.0.0.1", "224.0.0.1", "0.0.0.0", "::1", "ff02::1", "::"])
def test_what_pretends_to_come_from_here_is_left_out(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """From lo, where it is delivered, the kernel would believe it."""
    version = 6 if ":" in source else 4
    monkeypatch.setitem(CLIENT, version, source)
    assert kept_packets._whole(packet(version), 0) is None


class Endless:
    """A socket where there is always one more."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.received = 0

    def recvmsg(self, _: int, __: int) -> tuple[bytes, list[object], int, object]:
        self.received += 1
        assert self.received < 100_000
        return self.data, [], 0, None


@pytest.mark.parametrize("size", [0, 1400])
def test_more_than_the_kernel_keeps_is_not_taken_at_once(size: int) -> None:
    """Else who sends fast enough stalls the migration."""
    kept, endless = kept_packets.KeptPackets([]), Endless(packet(4, bytes(size)))
    kept._sockets = [endless]  # type: ignore[list-item]
    kept.forget_served()
    assert len(kept.take()) == endless.received // 2 < kept_packets.KEPT_BYTES // (size + 500)


@pytest.mark.parametrize("version", [4, 6])
def test_only_who_is_connected_may_have_packets_delivered(version: int) -> None:
    """From lo, a firewall lets them pass."""
    client, service = (CLIENT[version], 40000), (SERVICE[version], 80)
    data, opens = packet(version, b"data"), packet(version, flags=SYN)
    let = Let([frozenset((client, service))])
    assert let.passes(data) and let.passes(opens)
    for others in ([(client[0], 40001), service], [client, (service[0], 81)]):
        assert not Let([frozenset(others)]).passes(data)
    assert Let([frozenset(((client[0], 40001), service))]).passes(opens), "another connection of that host's"
    assert not Let([frozenset((client, (service[0], 81)))]).passes(opens), "to another port"
    assert not Let([frozenset((("192.0.2.8", 40000), service))]).passes(opens), "of another host's"
    assert not Let().passes(data) and not Let().passes(opens)
