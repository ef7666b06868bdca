"""The `criu-lazy` command: picks the subcommand's module and turns its errors into one line."""

from __future__ import annotations

import importlib
import sys

from criu_lazy_ext import __version__
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.limits import raise_descriptors

# name -> (module whose main(argv) -> exit status runs it, one line for --help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "lazy-pages": ("criu_lazy_ext.lazy_pages", "serve a restored task's page faults (drop-in for criu lazy-pages)"),
    "page-server": ("criu_lazy_ext.page_server", "stand between a lazy dump and the network, and never lose a task"),
    "page-store": ("criu_lazy_ext.page_store", "keep the pages that a page server brings before the dump (pre-copy)"),
    "migrate": ("criu_lazy_ext.migrate", "move a running task to another host, as a YAML profile says"),
    "check": ("criu_lazy_ext.check", "say whether this host can take part in a lazy migration"),
    "testbed": ("criu_lazy_ext.testbed", "two hosts on this machine, for trying and testing migrations"),
    "bench": ("criu_lazy_ext.bench", "measure lazy migration beside stock criu"),
}
# Run by criu-lazy itself on the other host; not listed.
INTERNAL: dict[str, str] = {"agent": "criu_lazy_ext.agent", "standby": "criu_lazy_ext.standby"}
# They, and the criu that they start, hold descriptors for each process that moves, and for each few MiB of its memory.
HOLDS_MANY = {"lazy-pages", "page-server", "page-store", "migrate", *INTERNAL}


def usage() -> str:
    lines = ["usage: criu-lazy SUBCOMMAND [ARGUMENTS]", "", "subcommands:"]
    lines += [f"  {name:<12} {text}" for name, (_, text) in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", "criu-lazy SUBCOMMAND --help tells more; criu-lazy --version prints the version."])


def main(argv: list[str] | None = None) -> int:
    """Run `criu-lazy ARGV`; returns the exit status. Never lets a CriuLazyError through as a traceback."""
    args = sys.argv[1:] if argv is None else argv
    if args and args[0] in ("-V", "--version"):
        print(f"criu-lazy {__version__}")
        return 0
    if args and args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if args and args[0].startswith("-") and "lazy-pages" in args:
        # As with criu itself, options may stand before the action.
        args = ["lazy-pages", *args[: args.index("lazy-pages")], *args[args.index("lazy-pages") + 1 :]]
    if not args or args[0] not in SUBCOMMANDS | INTERNAL:
        problem = f"criu-lazy: unknown subcommand {args[0]!r}" if args else "criu-lazy: a subcommand is needed"
        print(f"{problem}\n\n{usage()}", file=sys.stderr)
        return 2
    if args[0] in HOLDS_MANY:
        raise_descriptors()
    module = INTERNAL.get(args[0]) or SUBCOMMANDS[args[0]][0]
    try:
        return int(importlib.import_module(module).main(args[1:]))
    except CriuLazyError as error:
        print(f"criu-lazy {args[0]}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
