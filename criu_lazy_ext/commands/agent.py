"""`criu-lazy agent`: the destination's half of a migration, run by `criu-lazy migrate` over ssh.

It is three processes: the one that was started, which does nothing, and may be killed by whoever started it; its child,
the keeper (keeper.py), which keeps the promise should the agent be killed; and the keeper's child, the agent.
"""

from __future__ import annotations

import asyncio
import os
import signal

from criu_lazy_ext.destination.agent import serve
from criu_lazy_ext.destination.keeper import Keeper, become_reaper
from criu_lazy_ext.destination.undo import AgentError
from criu_lazy_ext.remote.hosts import KEEPER_LOST


def _close_terminal() -> None:
    """The agent's input and output are its own."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nothing, fd)
    os.close(nothing)


def _keep(agent_ended: int) -> int:
    """The keeper, and the agent below it."""
    become_reaper()
    keeper = os.getpid()
    facts_read, facts_write = os.pipe()
    reports_read, reports_write = os.pipe()
    agent = os.fork()
    if agent == 0:
        for fd in (facts_read, reports_write, agent_ended):
            os.close(fd)
        return asyncio.run(serve(facts_write, keeper, reports_read))
    os.close(facts_write)
    os.close(reports_read)
    source = os.dup(1)
    _close_terminal()
    Keeper(agent, facts_read, reports_write, source).run(agent_ended)
    return 0


def main(argv: list[str]) -> int:
    """Run by `criu-lazy migrate`; takes no arguments."""
    if argv:
        raise AgentError("the agent takes no arguments; it is run by criu-lazy migrate")
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # a lost ssh is noticed by the end of input
    status_read, status_write = os.pipe()
    if os.fork() == 0:
        os.close(status_read)
        return _keep(status_write)
    os.close(status_write)
    _close_terminal()
    status = os.read(status_read, 1)
    return status[0] if status else KEEPER_LOST
