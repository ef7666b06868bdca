"""A store and a session of the push protocol (docs/protocol.md), in Python: for tests of the page server alone."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

PAGE_BYTES = 4096
HEADER = struct.Struct("<HHIQQQ")
PAGES, ZERO, CLOSED, _, SAME, ROUND, END = range(1, 8)
MISSING, GO, DONE, STORE, STORED = range(17, 22)
_MAGIC = 0x434C50555348 << 16 | 1
_LAZY = 2

Page = tuple[int, int]  # task, address


def message(kind: int, nr_pages: int = 0, vaddr: int = 0, task: int = 0, rest: bytes = b"") -> bytes:
    return HEADER.pack(kind, 0, len(rest), nr_pages, vaddr, task) + rest


class Connection:
    """With the hello said and answered. `kind`: 0 opens a session, 1 joins, 2 stores."""

    def __init__(self, sock: socket.socket, kind: int, token: bytes = b"\7") -> None:
        self.socket = sock
        sock.settimeout(60)
        sock.sendall(struct.pack("<IIQQQ", 5, 0, 1, _MAGIC | kind << 8, 0x101) + token)
        answer = self.receive(24)
        assert answer[:8] == b"CLPA" + struct.pack("<HH", 1, 1)
        self.token = answer[8:]

    def receive(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            got = self.socket.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return bytes(data)

    def take(self, pages: dict[Page, bytes], store: dict[Page, bytes] | None = None) -> tuple[int, int, int]:
        """The next message: its type, nr_pages and bytes; what it brings is in `pages` then."""
        kind, zero, size, nr_pages, vaddr, task = HEADER.unpack(self.receive(HEADER.size))
        assert zero == 0
        data = self.receive(size)
        for i in range(nr_pages if kind in (PAGES, ZERO, SAME) else 0):
            key = (task, vaddr + i * PAGE_BYTES)
            if kind == SAME:
                assert store is not None
                pages[key] = store[key]
            else:
                pages[key] = data[i * PAGE_BYTES :][:PAGE_BYTES] if kind == PAGES else bytes(PAGE_BYTES)
        return kind, nr_pages, HEADER.size + size


class Store(Connection):
    """Keeps what it is sent, in a thread of its own, and confirms."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, 2)
        self.pages: dict[Page, bytes] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            kind = 0
            while kind != END:
                kind, nr_pages, _ = self.take(self.pages)
                if kind in (ROUND, END):
                    self.socket.sendall(message(STORED, nr_pages))
        except (EOFError, OSError):
            pass

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()


def lazy_ranges(pagemap: Path) -> list[tuple[int, int]]:
    """Address and number of pages of the lazy entries of a pagemap image."""
    raw = pagemap.read_bytes()
    at, found = 8, []
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        entry, at = raw[at + 4 : at + 4 + size], at + 4 + size
        fields: dict[int, int] = {}
        i = 0
        while i < len(entry):  # all fields are varints
            numbers = []
            for _ in range(2):
                value = shift = 0
                while entry[i] & 0x80:
                    value |= (entry[i] & 0x7F) << shift
                    shift, i = shift + 7, i + 1
                value |= entry[i] << shift
                i += 1
                numbers.append(value)
            fields[numbers[0] >> 3] = numbers[1]
        if fields.get(4, 0) & _LAZY:
            found.append((fields[1], fields.get(5) or fields[2]))
    return found
