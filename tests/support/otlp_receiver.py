"""Takes OTLP over HTTP on 127.0.0.1 port 4318, and writes each request's body to a file of the directory that it is
given; "ready" is there once it listens. Run on a testbed's host."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

DIRECTORY = Path(sys.argv[1])


class Receiver(BaseHTTPRequestHandler):
    """Counts what comes."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = f"{len(list(DIRECTORY.iterdir()))}{self.path.replace('/', '-')}"
        (DIRECTORY / f"{name}.new").write_bytes(body)
        (DIRECTORY / f"{name}.new").rename(DIRECTORY / name)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


DIRECTORY.mkdir()
with HTTPServer(("127.0.0.1", 4318), Receiver) as server:
    (DIRECTORY / "ready").touch()
    server.serve_forever()
