"""`criu-lazy metrics`: what `criu-lazy status` knows, for Prometheus: on stdout, in a text file, or by HTTP."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from criu_lazy_ext.commands.arguments import add_directories, directories_of
from criu_lazy_ext.errors import CriuLazyError


class MetricsError(CriuLazyError):
    """They can't be told."""


def address(text: str) -> tuple[str, int]:
    """For argparse: ADDR:PORT; an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"expected ADDRESS:PORT, not {text!r}")
    return host, int(port)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy metrics", description="Tell Prometheus of the migrations that this host has on record."
    )
    add_directories(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--textfile", type=Path, help="write them to this file, as node_exporter's collector reads it")
    how.add_argument("--listen", metavar="ADDR:PORT", type=address, help="serve them by HTTP until a signal comes")
    return parser


def main(argv: list[str]) -> int:
    """Exit status: 0, or 1 with a line. With --listen it ends by a signal."""
    options = arguments().parse_args(argv)
    try:
        from prometheus_client import CollectorRegistry, generate_latest, start_http_server, write_to_textfile

        from criu_lazy_ext.migration.metrics import Migrations
    except ImportError as error:
        package = "python3-prometheus-client, or pip install criu-lazy[metrics]"
        raise MetricsError(f"{error}: install {package}") from error
    registry = CollectorRegistry()
    registry.register(Migrations(directories_of(options)))
    if not (options.textfile or options.listen):
        sys.stdout.write(generate_latest(registry).decode())
        return 0
    try:
        if options.textfile:
            write_to_textfile(str(options.textfile), registry)
        else:
            host, port = options.listen
            start_http_server(port, host, registry)
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
            print(f"criu-lazy metrics: listening on {url}", file=sys.stderr, flush=True)
            threading.Event().wait()
    except OSError as error:
        where = options.textfile or "{}:{}".format(*options.listen)
        if options.textfile and not options.textfile.parent.is_dir():
            where = options.textfile.parent
        raise MetricsError(f"{where}: {error.strerror or error}") from error
    return 0
