"""A TCP proxy: relay.py PORT HOST HOST_PORT. Takes connections to 127.0.0.1:PORT and passes each on, both ways.

It stands for what is between daemon and page server at many sites (ssh -L, stunnel, haproxy, a service mesh): each has
TCP connections of its own to both, so neither end sees how long the whole way is. Runs alone on a testbed host.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

PIECE_BYTES = 1 << 18


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on all that comes, then the end of it."""
    buffer = bytearray(PIECE_BYTES)
    with contextlib.suppress(OSError):
        while got := source.recv_into(buffer):
            target.sendall(memoryview(buffer)[:got])
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main() -> None:
    port, host, host_port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with socket.create_server(("127.0.0.1", port)) as listener:
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            server = socket.create_connection((host, host_port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=pump, args=ends, daemon=True).start()


if __name__ == "__main__":
    main()
