"""connected_server.py's clients: `connected_client.py ADDRESS PORT CONNECTIONS`.

Each connection asks the next thing 20 ms after an answer. A line on stdin is answered by one: JSON, of each connection
its "answers" so far and its server's SO_REUSEADDR at the last ("reuse"), and "errors". Nothing is ever connected again.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

PAUSE_S = 0.02


class Connection:
    """One connection; `due`: when it asks next, or None while it waits for the answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.received = b""
        self.answers = 0
        self.reuse = 1
        self.due: float | None = 0.0

    def ask(self) -> None:
        self.socket.send(f"line {self.answers + 1}\n".encode())
        self.due = None

    def hear(self) -> None:
        data = self.socket.recv(4096)
        if not data:
            raise OSError("it was closed")
        self.received += data
        if self.received.endswith(b"\n"):
            number = self.answers + 1
            answer, _, reuse = self.received.decode(errors="replace").strip().rpartition(" ")
            if answer != f"line {number} {number}" or reuse not in ("0", "1"):
                raise OSError(f"{self.received!r} is no answer to line {number}")
            self.reuse = int(reuse)
            self.received, self.answers, self.due = b"", number, time.monotonic() + PAUSE_S


def main() -> None:
    selector = selectors.DefaultSelector()
    errors: list[str] = []
    connections = [Connection((sys.argv[1], int(sys.argv[2]))) for _ in range(int(sys.argv[3]))]
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    living = set(connections)
    while True:
        ready = [key.data for key, _ in selector.select(PAUSE_S / 4)]
        if None in ready:
            if not sys.stdin.readline():
                return
            told = {name: [getattr(connection, name) for connection in connections] for name in ("answers", "reuse")}
            print(json.dumps({**told, "errors": errors}), flush=True)
        for connection in list(living):
            try:
                if connection in ready:
                    connection.hear()
                if connection.due is not None and connection.due <= time.monotonic():
                    connection.ask()
            except OSError as error:
                errors.append(str(error))
                selector.unregister(connection.socket)
                living.discard(connection)


main()
