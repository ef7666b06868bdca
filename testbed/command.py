"""`criu-lazy testbed`: prepare, up, down, status, exec, link."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from criu_lazy_ext.errors import UsageError
from testbed import instances
from testbed.errors import TestbedError
from testbed.host import ENVIRONMENT
from testbed.prepare import prepare
from testbed.recipe import CRIU_SERIES
from testbed.testbed import DEFAULT_CRIU, DEFAULT_NAME, HOSTS, NAME_VARIABLE, Testbed, layers_in_use

CRIU_HELP = "criu series of src and dst, as 4.2 or 4.1,4.2 (default 4.2)"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="criu-lazy testbed", description="Two hosts on this machine, and a client.")
    default_name = os.environ.get(NAME_VARIABLE) or DEFAULT_NAME
    top.add_argument(
        "--name", default=default_name, help=f"which testbed (default ${NAME_VARIABLE}, or {DEFAULT_NAME})"
    )
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("prepare", help="make and cache what hosts are made of")
    up = actions.add_parser("up", help="start the hosts and leave them running")
    up.add_argument("--criu", default=",".join(DEFAULT_CRIU), metavar="SERIES", help=CRIU_HELP)
    actions.add_parser("down", help="end the hosts; nothing stays behind")
    actions.add_parser("status", help="show what runs")
    execute = actions.add_parser("exec", help="run a command in a host: exec HOST -- COMMAND ...")
    execute.add_argument("host", choices=sorted(HOSTS))
    execute.add_argument("command", nargs=argparse.REMAINDER, help="default: a shell")
    link = actions.add_parser("link", help="show or change the link between src and dst")
    link.add_argument("--rate-mbit", metavar="N|unlimited")
    link.add_argument("--rtt-ms", type=float, metavar="X")
    broken = link.add_mutually_exclusive_group()
    broken.add_argument("--cut", action="store_true", help="drop all packets")
    broken.add_argument("--mend", action="store_true", help="let packets pass again")
    return top


def main(argv: list[str]) -> int:
    """Run `criu-lazy testbed ARGV`; returns the exit status. Raises CriuLazyError."""
    arguments = parser().parse_args(argv)
    if os.geteuid() != 0:
        raise TestbedError("the testbed makes namespaces and mounts: run it as root")
    instances.check_name(arguments.name)
    actions = {"prepare": do_prepare, "up": do_up, "down": do_down, "status": do_status}
    actions |= {"exec": do_exec, "link": do_link}
    return actions[arguments.action](arguments)


def do_prepare(_: argparse.Namespace) -> int:
    """Make the layers."""
    layers = prepare(layers_in_use)
    print(f"prepared in {layers.recipe_directory}")
    return 0


def do_up(arguments: argparse.Namespace) -> int:
    """Start a testbed that stays."""
    series = arguments.criu.split(",")
    if len(series) == 1:
        series *= 2
    if len(series) != 2 or any(one not in CRIU_SERIES for one in series):
        raise UsageError(f"--criu {arguments.criu}: give one or two of {', '.join(sorted(CRIU_SERIES))}")
    testbed = Testbed.start(criu=(series[0], series[1]), name=arguments.name, keep_running=True)
    show(testbed)
    return 0


def do_down(arguments: argparse.Namespace) -> int:
    """End a testbed, whoever started it."""
    with instances.registry_lock():
        was_there = arguments.name in instances.names()
        instances.remove_abandoned()
        instances.remove(arguments.name)
    print(f"testbed {arguments.name} is {'down' if was_there else 'not running'}")
    return 0


def do_status(_: argparse.Namespace) -> int:
    """Show every testbed."""
    names = instances.names()
    if not names:
        print("no testbed is running")
    for name in names:
        if instances.is_abandoned(instances.load(name)):
            print(f"testbed {name}: its driver is gone; the next start, or `criu-lazy testbed down`, cleans up")
        elif (state := instances.load(name)) is not None and len(state["hosts"]) == len(HOSTS):
            show(Testbed(state))
        else:
            print(f"testbed {name}: starting")
    return 0


def do_exec(arguments: argparse.Namespace) -> int:
    """Run a command with this terminal."""
    host = Testbed.attach(arguments.name).hosts[arguments.host]
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    environment = {**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")}
    done = subprocess.run(host.command(command or ["bash"], new_session=False), env=environment, check=False)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def do_link(arguments: argparse.Namespace) -> int:
    """Change the link as asked, and show it."""
    testbed = Testbed.attach(arguments.name)
    link = testbed.link
    if arguments.rate_mbit is not None or arguments.rtt_ms is not None:
        rate = link.rate_mbit if arguments.rate_mbit is None else parse_rate(arguments.rate_mbit)
        link.set(rate_mbit=rate, rtt_ms=link.rtt_ms if arguments.rtt_ms is None else arguments.rtt_ms)
    if arguments.cut:
        link.cut()
    if arguments.mend:
        link.mend()
    print(describe_link(testbed))
    return 0


def parse_rate(text: str) -> float | None:
    """Mbit/s, None for `unlimited`. Raises UsageError."""
    if text == "unlimited":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--rate-mbit {text}: give a number of Mbit/s, or `unlimited`") from None


def describe_link(testbed: Testbed) -> str:
    link = testbed.link
    rate = "unlimited" if link.rate_mbit is None else f"{link.rate_mbit:g} Mbit/s"
    return f"link src-dst: {rate}, round trip {link.rtt_ms:g} ms{', CUT' if link.is_cut else ''}"


def show(testbed: Testbed) -> None:
    """Print a running testbed's hosts and link."""
    print(f"testbed {testbed.name}:")
    for host in testbed.hosts.values():
        addresses = f"{host.address:<10} service {host.service_address:<10}"
        print(f"  {host.name:<7} {addresses} criu {host.criu}  first process {host.pid}")
    print(f"  {describe_link(testbed)}")
    sys.stdout.flush()
