"""Fills a store with what a page server brings before the dump: the files `pages` and `index` of a directory."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.native.page_store import PageStore, PageStoreError
from criu_lazy_ext.system.stop_signals import StopSignals

CONNECT_TIMEOUT_SECONDS = 10
FILES = ("pages", "index")


def fill(
    directory: Path,
    page_server: tuple[str, int],
    key_hex: str | None,
    agreed: Callable[[], None],
    *,
    log_fd: int,
    log_level: int,
) -> None:
    """Receive until the store in `directory` is complete; `agreed` is called once the page server has agreed.

    By TLS if there is a key. Raises UsageError, PageStoreError; then nothing is left.
    """
    try:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"--directory {directory}: {error.strerror}") from error
    for name in FILES:
        if os.access(name, os.F_OK, dir_fd=directory_fd, follow_symlinks=False):
            raise UsageError(f"{directory}/{name} is there already")
    complete = False
    try:
        store = PageStore(_connect(*page_server), directory_fd, key_hex, log_fd=log_fd, log_level=log_level)
        try:
            agreed()
            if _receive(store) < 0:
                raise PageStoreError(store.error())
        finally:
            store.close()
        complete = True
    finally:
        if not complete:
            for name in FILES:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=directory_fd)
        os.close(directory_fd)


def _connect(address: str, port: int) -> int:
    try:
        connection = socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_SECONDS)
    except OSError as error:
        reason = error.strerror or error
        raise PageStoreError(f"can't connect to the page server {address}:{port}: {reason}") from error
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection.detach()


def _receive(store: PageStore) -> int:
    """Run the store in a thread of its own, so that signals are heard; 0 or a negative errno."""
    results: list[int] = []
    done_reader, done_writer = os.pipe()

    def run() -> None:
        results.append(store.run())
        os.write(done_writer, b"\0")

    wanted = signal.pthread_sigmask(signal.SIG_BLOCK, StopSignals.SIGNALS)
    thread = threading.Thread(target=run)
    thread.start()
    for number in StopSignals.SIGNALS:
        signal.signal(number, lambda *_: store.stop())
    signal.pthread_sigmask(signal.SIG_SETMASK, wanted)
    os.read(done_reader, 1)  # begun again after a signal
    thread.join()
    os.close(done_reader)
    os.close(done_writer)
    return results[0]
