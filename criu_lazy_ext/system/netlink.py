"""Netlink: requests to the kernel's networking, and their answers. In the network namespace of the calling thread."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

SOCK_DIAG, BY_FAMILY = 4, 20  # a protocol, and its request for the sockets of a family
REQUEST, ACK, EXCL, CREATE, DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # length, type, flags, number, port
_MOST_BYTES = 1 << 16


class Netlink:
    """A netlink socket of one protocol (NETLINK_ROUTE, ...); a context manager. Everything raises OSError."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._number = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """Have something done."""
        for _ in self._exchange(kind, flags | ACK, body):
            pass

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The bodies of all that is of a kind; to be read to its end."""
        return self._exchange(kind, DUMP, body)

    def _exchange(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._number += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, self._number, 0)
        self._socket.sendto(header + body, (0, 0))
        while True:
            data = self._socket.recv(_MOST_BYTES)
            while data:
                length, answer, _, number, _ = _HEADER.unpack_from(data)
                content, data = data[_HEADER.size : length], data[_aligned(length) :]
                if number != self._number:
                    continue
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    if error := -int(struct.unpack_from("=i", content)[0]):
                        raise OSError(error, os.strerror(error))
                    return
                yield content


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of a request."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def attributes(data: bytes) -> dict[int, bytes]:
    """Those of an answer, by their kinds."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
