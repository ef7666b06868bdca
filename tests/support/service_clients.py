"""Clients of forking_server.c: `service_clients.py ADDRESS PORT LONG RATE`.

LONG connections stay, and ask the next thing 20 ms after an answer; RATE others a second ask one thing, and are closed
by the server. A line on stdin is answered by one: JSON, of the time since the line before: "answers" (on each long
connection), "shorts" (how many came to their end), "longest_short_s", "longest_wait_s" (of a long one, for an answer);
and "errors", all there ever were, and "oldest_s", since when the oldest connection waits for anything. Nothing is tried
again.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from typing import Any

PAUSE_S = 0.02


class Connection:
    """`due`: when it asks next; None while it waits for the answer, since `asked`."""

    def __init__(self, address: tuple[str, int], short: bool, number: int) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.connect_ex(address)
        self.short = short
        self.number = number
        self.connected = False
        self.received = b""
        self.line = b""
        self.answers = 0
        self.began = self.asked = time.monotonic()
        self.due: float | None = None

    def ask(self) -> None:
        self.line = f"{'short' if self.short else 'line'} {self.number} {self.answers}\n".encode()
        self.socket.send(self.line)
        self.asked, self.due = time.monotonic(), None

    def ready(self) -> bool:
        """Something happened; False at the end."""
        if not self.connected:
            if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, "not connected")
            self.connected = True
            self.ask()
            return True
        data = self.socket.recv(4096)
        if not data:
            if self.short and self.answers == 1:
                return False
            raise OSError(0, "it was closed")
        self.received += data
        if self.received.endswith(b"\n"):
            if self.received != self.line:
                raise OSError(0, f"{self.received!r} is no answer to {self.line!r}")
            self.received = b""
            self.answers += 1
            self.due = None if self.short else time.monotonic() + PAUSE_S
        return True


class Clients:
    def __init__(self, address: tuple[str, int], long: int, rate: float) -> None:
        self.address, self.rate = address, rate
        self.selector = selectors.DefaultSelector()
        self.errors: list[str] = []
        self.living: set[Connection] = set()
        self.number = 0  # of short ones, so far
        self.long = [self.connect(False) for _ in range(long)]
        self.next = time.monotonic()
        self.begin()

    def begin(self) -> None:
        self.shorts, self.longest_short, self.longest_wait = 0, 0.0, 0.0
        self.before = [connection.answers for connection in self.long]

    def connect(self, short: bool) -> Connection:
        connection = Connection(self.address, short, self.number)
        self.selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        self.living.add(connection)
        return connection

    def end(self, connection: Connection, error: str) -> None:
        self.selector.unregister(connection.socket)
        connection.socket.close()
        self.living.discard(connection)
        if error:
            kind = "short" if connection.short else "long"
            self.errors.append(f"{kind} after {time.monotonic() - connection.began:.3f} s: {error}")

    def facts(self) -> dict[str, Any]:
        now = time.monotonic()
        waiting = [now - (c.began if c.short else c.asked) for c in self.living if c.due is None]
        facts = {
            "answers": [c.answers - before for c, before in zip(self.long, self.before, strict=True)],
            "shorts": self.shorts, "longest_short_s": round(self.longest_short, 3),
            "longest_wait_s": round(self.longest_wait, 3), "errors": self.errors,
            "oldest_s": round(max(waiting, default=0.0), 3), "living": len(self.living),
        }  # fmt: skip
        self.begin()
        return facts

    def step(self) -> None:
        for key, _ in self.selector.select(PAUSE_S / 10):
            connection = key.data
            if connection is None:
                if not sys.stdin.readline():
                    sys.exit(0)
                print(json.dumps(self.facts()), flush=True)
                continue
            try:
                was_connected, asked, answers = connection.connected, connection.asked, connection.answers
                if not connection.ready():
                    self.shorts += 1
                    self.longest_short = max(self.longest_short, time.monotonic() - connection.began)
                    self.end(connection, "")
                elif not was_connected:
                    self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
                elif not connection.short and connection.answers > answers:
                    self.longest_wait = max(self.longest_wait, time.monotonic() - asked)
            except OSError as error:
                self.end(connection, f"{error.strerror or error}")
        now = time.monotonic()
        for connection in self.long:
            if connection in self.living and connection.due is not None and connection.due <= now:
                connection.ask()
        while self.rate and self.next <= now:
            self.next += 1 / self.rate
            self.number += 1
            self.connect(True)


def main() -> None:
    clients = Clients((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4]))
    clients.selector.register(sys.stdin, selectors.EVENT_READ, None)
    while True:
        clients.step()


main()
