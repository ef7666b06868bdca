"""`criu-lazy page-server`: serves a lazy dump's pages, and survives broken connections (source/page_server.py)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from criu_lazy_ext.commands.arguments import verbosity
from criu_lazy_ext.sizes import check_page_size, rate_argument
from criu_lazy_ext.source import control_socket
from criu_lazy_ext.source.page_server import PageServerOptions, say, serve

EXIT_COMMITTED = 0
EXIT_ROLLED_BACK = 3

DEFAULT_CA_CERT = Path("/etc/pki/CA/cacert.pem")  # criu's


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy page-server",
        description="Serve the pages of a stock `criu dump --lazy-pages`, whatever becomes of connections.",
        epilog="Exit status: 0 committed (the source task is gone), 3 rolled back (it runs on), 1 failed.",
    )
    add = parser.add_argument
    add("--upstream", metavar="HOST:PORT", type=_host_port, help="where the lazy dump listens")
    add("--upstream-fd", metavar="FD", type=int, help="instead: a connected TCP socket whose other end the dump has "
        "(its --ps-socket): nobody else can take the dump's only connection")  # fmt: skip
    add("--address", default="127.0.0.1", help="listen for clients here (default: %(default)s)")
    add("--plain", action="store_true", help="clients may be at other hosts, though nothing is encrypted and nobody "
        "has to show who it is")  # fmt: skip
    add("--port", type=int, default=0, help="on this port (default: any free one; --op state tells)")
    add("--control", metavar="PATH", type=Path, help="control socket (mode 0600)")
    add("--hold", action="store_true", help="a client's CLOSE does not reach the dump: `commit` ends it")
    add("--task", metavar="PID", type=int, action="append", default=[], help="only this task (repeatable)")
    add("--wire-version", type=int, choices=(0, 1, 2), default=0,
        help="1: CRIU up to 4.1, 2: from 4.2; default: as the client's first request tells")  # fmt: skip
    add("--max-request-pages", metavar="N", type=int, default=65536, help="largest request (%(default)s)")
    add("--connect-timeout", metavar="SECONDS", type=float, default=10.0, help="for the dump (%(default)s)")
    add("--dump-status-fd", metavar="FD", type=int,
        help="the dump's --status-fd, as a pipe: wait for its byte before connecting, as long as it takes")  # fmt: skip
    add("--images", metavar="DIR", type=Path, help="only the tasks in these images, read when the dump is ready")
    add("--tree", metavar="PID", type=int,
        help="the dump's -t: push the frozen tasks' memory to clients that ask for that; needs --images")  # fmt: skip
    add("--fence", metavar="PID", type=int,
        help="the dump's -t: from --op running on keep its frozen tasks from running on by themselves, whatever "
        "dies (default: --tree's)")  # fmt: skip
    add("--precopy", action="store_true",
        help="before the dump, bring the running tasks' memory to a store, in rounds (--op round, ...)")  # fmt: skip
    add("--rate", metavar="BYTES", type=rate_argument, default=0,
        help="push at most so many bytes per second; K, M, G may follow (default: no limit)")  # fmt: skip
    add("--precopy-rate", metavar="BYTES", type=rate_argument,
        help="the same for the rounds of --precopy (default: --rate's)")  # fmt: skip
    add("--tls", action="store_true", help="clients speak TLS and show a certificate, as with criu's page server")
    for name in ("cacert", "cacrl", "cert", "key"):
        add(f"--tls-{name}", metavar="FILE", help="as criu's; default: criu's")
    add("--tls-psk", metavar="FILE", type=Path,
        help="clients speak TLS 1.3 and know the key in FILE (hexadecimal), instead of certificates")  # fmt: skip
    add("--lifeline", metavar="FD", type=int, help="a pipe whose end, before the restored task runs, rolls back")
    add("--resume", action="store_true", help="go on where a dead page server with this --control was")
    add("--status-fd", metavar="FD", type=int, help="gets a zero byte when clients can connect "
        "(with --dump-status-fd: when the dump may be started)")  # fmt: skip
    add("-o", "--log-file", metavar="FILE", type=Path, help="log there (default: standard error)")
    add("-v", dest="verbosity", nargs="?", const="", type=verbosity, default=2, help="-v: info, -vv: all")
    add("--op", choices=control_socket.OPS, help="do this to the page server behind --control (rate: set --rate)")
    add("--force", action="store_true", help="with --op commit or abort")
    return parser


def _resume_command(args: PageServerOptions, port: int) -> list[str]:
    """The command by which another page server goes on where this one was."""
    command = [sys.executable, "-m", "criu_lazy_ext.cli", "page-server", "--resume", f"-v{args.verbosity}"]
    paths = {
        "--control": args.control, "--images": args.images, "--log-file": args.log_file, "--tls-psk": args.tls_psk,
        "--tls-cacert": args.tls_cacert, "--tls-cacrl": args.tls_cacrl, "--tls-cert": args.tls_cert,
        "--tls-key": args.tls_key,
    }  # fmt: skip
    given = {
        "--address": args.address, "--port": port, "--tree": args.tree, "--fence": args.fence, "--rate": args.rate,
        "--max-request-pages": args.max_request_pages,
    }  # fmt: skip
    given |= {option: path and Path(path).absolute() for option, path in paths.items()}
    for option, value in given.items():
        command += [option, str(value)] if value is not None else []
    for task in args.task:
        command += ["--task", str(task)]
    return command + [f"--{flag}" for flag in ("hold", "plain", "tls") if getattr(args, flag)]


def _check(parser: argparse.ArgumentParser, args: PageServerOptions) -> None:
    if args.op or args.resume:
        if not args.control:
            parser.error(f"{'--op' if args.op else '--resume'} needs --control PATH")
    elif (args.upstream is None) == (args.upstream_fd is None):
        parser.error("--upstream-fd FD (its peer: the dump's --ps-socket) or --upstream HOST:PORT is needed")
    if args.hold and not args.control:
        parser.error("--hold needs --control PATH: nothing else could commit")
    if any(pid < 1 for pid in args.task):
        parser.error("--task: a pid is positive")
    if not 0 <= args.port < 65536:
        parser.error(f"--port {args.port}: not a port")
    if args.tls and not args.tls_psk and not args.tls_cacert and not DEFAULT_CA_CERT.exists():
        parser.error(f"--tls: there is no {DEFAULT_CA_CERT}; --tls-cacert FILE names the authority of your clients")
    if args.precopy and not args.op and (not args.control or not args.tree or args.dump_status_fd is None):
        parser.error("--precopy needs --control, --tree and --dump-status-fd")
    if args.precopy_rate is not None and not args.precopy:
        parser.error("--precopy-rate goes with --precopy")
    if args.max_request_pages < 1:
        parser.error("--max-request-pages: at least 1")
    for option, fd in (
        ("--upstream-fd", args.upstream_fd),
        ("--status-fd", args.status_fd),
        ("--dump-status-fd", args.dump_status_fd),
        ("--lifeline", args.lifeline),
    ):
        try:
            if fd is not None:
                os.fstat(fd)
        except (OSError, OverflowError):
            parser.error(f"{option} {fd}: not an open descriptor")
    if args.tree is not None and (args.tree < 1 or not args.images):
        parser.error("--tree PID (positive) needs --images: they tell which of its memory is lazy")
    args.fence = args.tree if args.fence is None else args.fence
    if args.fence is not None and args.fence < 1:
        parser.error("--fence: a pid is positive")


def main(argv: list[str]) -> int:
    """Run `criu-lazy page-server ARGV`; returns the exit status (see --help)."""
    parser = arguments()
    args = parser.parse_args(argv, namespace=PageServerOptions())
    _check(parser, args)
    if args.op and args.control:
        timeout = None if args.op in ("round", "precopied", "served") else 60.0
        print(json.dumps(control_socket.request(args.control, args.op, args.force, timeout, rate=args.rate)))
        return 0
    check_page_size()
    if serve(args, lambda port: _resume_command(args, port)):
        return EXIT_COMMITTED
    say("rolled back: the source task runs on")
    return EXIT_ROLLED_BACK
