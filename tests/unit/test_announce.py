"""The frames by which a host tells, or asks, where an address is: as RFC 826, 5227 and 4861 have them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from criu_lazy_ext.system.announce import (
    advertisement,
    answers_for,
    arp_probe,
    checksum,
    gratuitous_arp,
    solicitation,
)

HERE = bytes.fromhex("02000000000a")
ADDRESS, ADDRESS6 = IPv4Address("10.78.0.100"), IPv6Address("fd78::100")


def test_a_gratuitous_arp_names_the_address_twice_and_goes_to_everybody() -> None:
    packet = "0001 0800 06 04 0001 02000000000a 0a4e0064 000000000000 0a4e0064"
    assert gratuitous_arp(ADDRESS, HERE) == bytes.fromhex("ffffffffffff 02000000000a 0806" + packet)


def test_an_arp_probe_claims_the_address_for_nobody() -> None:
    packet = "0001 0800 06 04 0001 02000000000a 00000000 000000000000 0a4e0064"
    assert arp_probe(ADDRESS, HERE) == bytes.fromhex("ffffffffffff 02000000000a 0806" + packet)


def assert_icmpv6(frame: bytes, target: str, kind: int) -> None:
    """It is addressed to `target`, and its checksum is right."""
    group = IPv6Address(target)
    assert frame[:6] == bytes.fromhex("3333") + group.packed[12:] and frame[12:14] == b"\x86\xdd"
    assert frame[38:54] == group.packed and frame[21] == 255 and frame[54] == kind
    length = int.from_bytes(frame[18:20], "big")
    assert len(frame) == 54 + length
    assert checksum(frame[22:54] + length.to_bytes(4, "big") + bytes([0, 0, 0, 58]) + frame[54:]) == 0


def test_an_advertisement_overrides_what_all_nodes_know() -> None:
    frame = advertisement(ADDRESS6, HERE)
    assert_icmpv6(frame, "ff02::1", 136)
    assert frame[58:62] == bytes.fromhex("20000000"), "override; neither solicited nor a router's"
    assert frame[62:] == ADDRESS6.packed + bytes.fromhex("0201") + HERE


def test_a_solicitation_asks_the_addresss_group_from_nowhere() -> None:
    frame = solicitation(ADDRESS6, HERE)
    assert_icmpv6(frame, "ff02::1:ff00:100", 135)
    assert frame[22:38] == bytes(16)
    assert frame[62:] == ADDRESS6.packed


def test_only_who_has_the_address_answers_for_it() -> None:
    assert answers_for(gratuitous_arp(ADDRESS, HERE), ADDRESS)
    assert not answers_for(arp_probe(ADDRESS, HERE), ADDRESS), "who asks hasn't"
    assert not answers_for(gratuitous_arp(IPv4Address("10.78.0.101"), HERE), ADDRESS)
    assert answers_for(advertisement(ADDRESS6, HERE), ADDRESS6)
    assert not answers_for(solicitation(ADDRESS6, HERE), ADDRESS6)
    assert not answers_for(b"\x00" * 14, ADDRESS6)
