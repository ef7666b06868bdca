"""The connection to a page server: name resolution, connect, and what TLS over it (the engine's) needs."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from typing import TYPE_CHECKING

from criu_lazy_ext.errors import CriuLazyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from criu_lazy_ext.criu.log import Log
    from criu_lazy_ext.criu.options import Options
    from criu_lazy_ext.native.engine import Engine


class PageServerError(CriuLazyError):
    """The page server can't be connected to."""


def check(options: Options) -> None:
    """Refuse what can't work before anything is touched; raises PageServerError."""
    if not options.page_server:
        return
    if options.ps_socket < 0 and not options.address:
        raise PageServerError("--page-server needs --address (and --port) of the page server, or --ps-socket")
    if options.ps_socket < 0 and not options.port:
        raise PageServerError("--page-server needs the --port of the page server")
    for option in ("cacert", "cacrl", "cert", "key") if options.tls else ():
        path = getattr(options, f"tls_{option}")
        try:
            if path is not None:
                os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise PageServerError(f"--tls-{option} {path}: {error.strerror}") from error


def set_tls(engine: Engine, options: Options) -> None:
    """Make the engine speak TLS to the page server, if that is asked for; raises EngineError or PageServerError."""
    if not options.page_server:
        return
    if options.tls_psk is not None:
        try:
            with open(options.tls_psk, encoding="ascii") as file:  # noqa: PTH123 (pathlib would cost 5 ms of start-up)
                engine.set_tls({"key_hex": file.read().strip()})
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no hexadecimal digits"
            raise PageServerError(f"--tls-psk {options.tls_psk}: {reason}") from error
        return
    if not options.tls:
        return
    texts = {
        "ca_cert": options.tls_cacert,
        "ca_crl": options.tls_cacrl,
        "cert": options.tls_cert,
        "key": options.tls_key,
        "host": options.address,
    }
    engine.set_tls(texts, no_cn_verify=options.tls_no_cn_verify)


def connect(options: Options, wait: Callable[[int, int], None], log: Log) -> int:
    """A connected socket to the page server, owned by the caller; raises PageServerError.

    `wait(fd, events)` blocks until poll(2) reports the events; it may raise to give up, or return early. Every
    address of the name is tried, once, in order. A page server serves one connection ever: call this only when its
    pages are needed.
    """
    if options.ps_socket >= 0:
        log.info(f"page-xfer: Reusing ps socket {options.ps_socket}")
        return _inherited(options.ps_socket)
    try:
        addresses = socket.getaddrinfo(options.address, options.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PageServerError(f"can't resolve the page server's name {options.address}: {reason}") from error
    problem = "it has no address"
    for family, kind, protocol, _, address in addresses:
        shown = f"{address[0]!s}:{address[1]!s}"
        log.info(f"Connecting to server {shown}")
        with socket.socket(family, kind, protocol) as connection:
            connection.setblocking(False)
            result = connection.connect_ex(address)
            if result == errno.EINPROGRESS:
                wait(connection.fileno(), select.POLLOUT)
                result = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _unconnected(connection)
            if result == 0:
                connection.setblocking(True)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection.detach()
        problem = os.strerror(result)
        log.info(f"Can't connect to server {shown}: {problem}")
    raise PageServerError(f"can't connect to the page server {options.address}:{options.port}: {problem}")


def _unconnected(connection: socket.socket) -> int:
    """0 if it is connected, else an errno: no answer came as long as it was waited for."""
    try:
        connection.getpeername()
    except OSError:
        return errno.ETIMEDOUT
    return 0


def _inherited(fd: int) -> int:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise PageServerError(f"--ps-socket {fd}: {error.strerror}") from error
    if not is_socket:
        raise PageServerError(f"--ps-socket {fd} is no socket")
    return fd
