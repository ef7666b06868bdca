"""A server for tests, whose clients notice whatever happens to their connections: `connected_server.py ADDRESS PORT`.

Each line of a client's is answered by it, by how many lines have come on this connection, and by its SO_REUSEADDR.
After an error the connection is closed.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.lines = 0

    def serve(self) -> bool:
        """Answer what has come; False at the end."""
        try:
            data = self.connection.recv(4096)
            self.received += data
            while b"\n" in self.received:
                line, _, self.received = self.received.partition(b"\n")
                self.lines += 1
                reuse = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
                self.connection.send(line + f" {self.lines} {reuse}\n".encode())
        except OSError as error:
            print(error, flush=True)
            return False
        return bool(data)


def main() -> None:
    selector = selectors.DefaultSelector()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((sys.argv[1], int(sys.argv[2])))
    listener.listen(64)
    selector.register(listener, selectors.EVENT_READ, None)
    ballast = bytearray(os.urandom(16 << 20))  # memory that takes a while to follow
    while ballast:
        for key, _ in selector.select():
            if key.data is None:
                connection, _ = listener.accept()
                selector.register(connection, selectors.EVENT_READ, Client(connection))
            elif not key.data.serve():
                selector.unregister(key.data.connection)
                key.data.connection.close()


main()
