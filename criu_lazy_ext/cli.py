"""The `criu-lazy` command: picks the subcommand's module and turns its errors into one line."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType

from criu_lazy_ext import __version__
from criu_lazy_ext.errors import CriuLazyError, reason
from criu_lazy_ext.system.files import drop_output
from criu_lazy_ext.system.limits import raise_descriptors
from criu_lazy_ext.system.migration_id import mark

# name -> (module, of this package if it begins with a dot, whose main(argv) -> exit status runs it; a line for --help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "check": (".commands.check", "say what would keep a task from moving: this host, the task, other hosts"),
    "init": (".commands.init", "write a profile that fits a task"),
    "explain": (".commands.explain", "print what migrate would do, step by step, and do nothing"),
    "migrate": (".commands.migrate", "move a running task to another host, as a YAML profile says"),
    "evacuate": (".commands.evacuate", "move all the tasks and containers that a plan names"),
    "cancel": (".commands.cancel", "stop a migration before its task runs at the destination"),
    "status": (".commands.status", "list the migrations that this host has on record, live"),
    "report": (".commands.report", "make an HTML page, or a text, of what a migration did, or of two"),
    "metrics": (".commands.metrics", "tell Prometheus of the migrations that this host has on record"),
    "drop-in": (".commands.drop_in", "have others' tools get criu-lazy where they run criu lazy-pages"),
    "lazy-pages": (".commands.lazy_pages", "serve a restored task's page faults (drop-in for criu lazy-pages)"),
    "page-server": (".commands.page_server", "serve a lazy dump's pages, whatever becomes of connections"),
    "page-store": (".commands.page_store", "keep the pages that a page server brings before the dump (pre-copy)"),
}
# Beside the package in a checkout, and nowhere else: no host that takes part in a migration has them installed.
LABORATORY: dict[str, tuple[str, str]] = {
    "testbed": ("testbed", "two hosts on this machine, for trying and testing migrations"),
    "bench": ("bench", "measure lazy migration beside stock criu"),
}
BEGIN = (
    "  criu-lazy init --pid PID HOST -o mine.yaml    # or --container NAME; HOST as for ssh",
    "  criu-lazy migrate mine.yaml",
)
# Run by criu-lazy itself on the other host; not listed.
INTERNAL: dict[str, str] = {"agent": ".commands.agent", "standby": ".commands.standby"}
# They, and the criu that they start, hold descriptors for each process that moves, and for each few MiB of its memory.
HOLDS_MANY = {"lazy-pages", "page-server", "page-store", "migrate", "evacuate", *INTERNAL}


def listed() -> dict[str, tuple[str, str]]:
    """The subcommands that there are here; in a checkout, those for development too, made importable."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / "setup.py").is_file():
        return SUBCOMMANDS
    if str(checkout) not in sys.path:
        sys.path.append(str(checkout))
    return SUBCOMMANDS | LABORATORY


def usage() -> str:
    lines = ["usage: criu-lazy SUBCOMMAND [ARGUMENTS]", "", "subcommands:"]
    lines += [f"  {name:<12} {text}" for name, (_, text) in listed().items()]
    lines += ["", "criu-lazy SUBCOMMAND --help tells more; criu-lazy --version prints the version. To begin, as root:"]
    return "\n".join([*lines, *BEGIN])


def unknown(name: str) -> str:
    import difflib  # nobody else needs it

    near = difflib.get_close_matches(name, listed(), 1)
    hint = f"did you mean {near[0]!r}?" if near else "criu-lazy --help lists them"
    return f"unknown subcommand {name!r}; {hint}"


def load(module: str) -> ModuleType:
    """Import it. All that it brings stays: the collector is to look at none of it, now or later, or in a fork."""
    gc.disable()
    try:
        return importlib.import_module(module, __package__)
    finally:
        gc.freeze()
        gc.enable()


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
    if not args or args[0] not in listed() | INTERNAL:
        print(f"criu-lazy: error: {unknown(args[0])}" if args else usage(), file=sys.stderr)
        return 2
    if args[0] in HOLDS_MANY:
        raise_descriptors()
    module = INTERNAL.get(args[0]) or listed()[args[0]][0]
    try:
        status = int(load(module).main(args[1:]))
        sys.stdout.flush()
        return status
    except CriuLazyError as error:
        print(f"{mark()}criu-lazy {args[0]}: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # as `| head` does, which has what it wants
        drop_output(sys.stdout)
        return 128 + signal.SIGPIPE
    except OSError as error:
        drop_output(sys.stdout)
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"{mark()}criu-lazy {args[0]}: error: {where}{reason(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run() -> None:
    """The program. It ends at once: for the interpreter to take itself apart costs a fifth of what starting it did, and
    in a fork, which then gets a copy of all memory, as much again."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: the next file to be opened would have its descriptor
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        if threading.active_count() == 1:
            os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
