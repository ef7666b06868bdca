"""`criu-lazy page-store`: keeps what a page server brings of a task that runs elsewhere, for `lazy-pages --precopied`.

The files `pages` and `index` are there when it has ended with status 0; otherwise nothing is. See docs/page-server.md.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from criu_lazy_ext.commands.arguments import verbosity
from criu_lazy_ext.destination.page_store import fill
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.sizes import check_page_size
from criu_lazy_ext.system.files import open_log, read_key


def arguments() -> argparse.ArgumentParser:
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


def main(argv: list[str]) -> int:
    """Run `criu-lazy page-store ARGV`; returns the exit status (see --help). Raises CriuLazyError."""
    args = arguments().parse_args(argv)
    if not 0 < args.port < 65536:
        raise UsageError(f"--port {args.port}: not a port")
    check_page_size()
    key = read_key(args.tls_psk) if args.tls_psk else None

    def agreed() -> None:
        if args.status_fd is not None:
            os.write(args.status_fd, b"\0")
            os.close(args.status_fd)

    log_fd = open_log(args.log_file)
    fill(args.directory, (args.address, args.port), key, agreed, log_fd=log_fd, log_level=args.verbosity)
    return 0
