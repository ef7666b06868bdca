"""`criu-lazy page-store`: keeps what a page server brings of a task that runs elsewhere, for `lazy-pages --precopied`.

The files `pages` and `index` are there when it has ended with status 0; otherwise nothing is. See docs/page-server.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from criu_lazy_ext.commands.page_server import open_log, read_key, verbosity
from criu_lazy_ext.errors import CriuLazyError, UsageError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CONNECT_TIMEOUT_SECONDS = 10
FILES = ("pages", "index")
ERROR_BYTES = 512


class PageStoreError(CriuLazyError):
    """The store is not complete; nothing of it is left."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy page-store",
        description="Keep the pages that `criu-lazy page-server --precopy` brings of a running task.",
        epilog="Exit status: 0 the store is complete, 1 it isn't, and nothing is left.",
    )
    add = parser.add_argument
    add("--address", required=True, help="of the page server")
    add("--port", type=int, required=True)
    add("--directory", metavar="DIR", type=Path, required=True, help="gets the files `pages` and `index`")
    add("--tls-psk", metavar="FILE", type=Path, help="TLS 1.3 by the key in FILE (hexadecimal), as the page server")
    add("--status-fd", metavar="FD", type=int, help="gets a zero byte when the page server has agreed")
    add("-o", "--log-file", metavar="FILE", type=Path, help="log there (default: standard error)")
    add("-v", dest="verbosity", nargs="?", const="", type=verbosity, default=2, help="-v: info, -vv: all")
    return parser


def _connect(address: str, port: int) -> int:
    try:
        connection = socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_SECONDS)
    except OSError as error:
        reason = error.strerror or error
        raise PageStoreError(f"can't connect to the page server {address}:{port}: {reason}") from error
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection.detach()


def _receive(store: Any, ffi: Any, lib: Any) -> tuple[int, str]:
    """Run the store in a thread of its own, so that signals are heard; (0 or a negative errno, what is wrong)."""
    text = ffi.new("char[]", ERROR_BYTES)
    results: list[int] = []
    done_reader, done_writer = os.pipe()

    def run() -> None:
        results.append(int(lib.cl_page_store_run(store, text, len(text))))
        os.write(done_writer, b"\0")

    wanted = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    thread = threading.Thread(target=run)
    thread.start()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: lib.cl_page_store_stop(store))
    signal.pthread_sigmask(signal.SIG_SETMASK, wanted)
    os.read(done_reader, 1)  # begun again after a signal
    thread.join()
    os.close(done_reader)
    os.close(done_writer)
    return results[0], ffi.string(text).decode(errors="replace")


def main(argv: list[str]) -> int:
    """Run `criu-lazy page-store ARGV`; returns the exit status (see --help). Raises CriuLazyError."""
    args = _parser().parse_args(argv)
    if not 0 < args.port < 65536:
        raise UsageError(f"--port {args.port}: not a port")
    key = read_key(args.tls_psk) if args.tls_psk else None
    from criu_lazy_ext._engine import ffi, lib

    try:
        directory_fd = os.open(args.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"--directory {args.directory}: {error.strerror}") from error
    log_fd = open_log(args.log_file)
    for name in FILES:
        if os.access(name, os.F_OK, dir_fd=directory_fd, follow_symlinks=False):
            raise UsageError(f"{args.directory}/{name} is there already")
    complete = False
    text = ffi.new("char[]", ERROR_BYTES)
    config = ffi.new("struct cl_page_store_config *")
    config.remote_fd = _connect(args.address, args.port)
    config.directory_fd, config.log_fd, config.log_level = directory_fd, log_fd, args.verbosity
    tls = ffi.new("struct cl_tls_config *")
    if key is not None:
        key_text = ffi.new("char[]", key.encode())
        tls.key_hex = key_text
        config.tls = tls
    try:
        store = lib.cl_page_store_new(config, text, len(text))
        if store == ffi.NULL:
            raise PageStoreError(ffi.string(text).decode(errors="replace"))
        try:
            if args.status_fd is not None:
                os.write(args.status_fd, b"\0")
                os.close(args.status_fd)
            result, problem = _receive(store, ffi, lib)
        finally:
            lib.cl_page_store_free(store)
        if result < 0:
            raise PageStoreError(problem)
        complete = True
    finally:
        if not complete:
            for name in FILES:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=directory_fd)
        os.close(directory_fd)
    return 0
