"""What stays at the source: programs at the other ends of a task's sockets. outside.py STREAM DATAGRAM PORT"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path


def accept(listener: socket.socket) -> None:
    kept = []
    while True:
        kept.append(listener.accept())


def main() -> None:
    stream, datagram, port = sys.argv[1:]
    for path in (stream, datagram):
        Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(stream)
    listener.listen()
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(datagram)
    for each in (listener, socket.create_server(("127.0.0.1", int(port)))):
        threading.Thread(target=accept, args=(each,)).start()
    Path("/run/outside.ready").touch()
    while True:
        log.recv(1 << 16)


if __name__ == "__main__":
    main()
