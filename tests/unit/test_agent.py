"""The agent's arithmetic."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from criu_lazy_ext.destination.agent import Agent
from criu_lazy_ext.destination.daemon import COUNTED, add_stats
from criu_lazy_ext.destination.undo import AgentError, Made
from criu_lazy_ext.remote.channel import Channel
from criu_lazy_ext.system.addresses import Address
from criu_lazy_ext.system.kept_packets import Let
from criu_lazy_ext.system.processes import below, is_alive
from criu_lazy_ext.system.service_network import ServiceNetwork


def counters(count: int, longest: int) -> dict[str, object]:
    return dict.fromkeys(COUNTED, count) | {
        "remaining_pages": count,
        "fault_wait_us": [count, 0, 1],
        "fault_wait_max_us": longest,
    }


def test_a_successors_counters_go_on_where_the_killed_daemons_ended() -> None:
    summed = add_stats(counters(5, 900), counters(2, 300))
    assert {summed[name] for name in COUNTED} == {7}
    assert summed["fault_wait_us"] == [7, 0, 2]
    assert summed["fault_wait_max_us"] == 900
    assert summed["remaining_pages"] == 2, "that is a level"
    assert add_stats({}, counters(2, 300)) == counters(2, 300)


# --- how restored tasks ended ----------------------------------------------------------------------------------------


def ended(*how: str) -> dict[str, Any]:
    """A daemon's counters when tasks 100, 101, ... have ended so, each with 5 pages missing."""
    tasks = [{"pid": 100 + i, "how": text, "missing_pages": 5} for i, text in enumerate(how)]
    return {"ended": tasks, "lost_pages": 5 * len(how)}


def outcome(counters: dict[str, Any], reaped: dict[int, int]) -> dict[str, Any]:
    """What the agent says of its daemon's end with status 4, as its keeper has reaped pids with such statuses."""

    async def run() -> dict[str, Any]:
        reports, keeper = os.pipe()
        agent = Agent(Channel(asyncio.StreamReader(), Any), -1, 0)  # type: ignore[arg-type]
        agent.daemon.stats = counters
        agent.tasks.here = {101: 7}
        hearing = asyncio.ensure_future(agent.tasks.hear_keeper(reports))
        for pid, status in reaped.items():
            os.write(keeper, json.dumps({"pid": pid, "status": status}).encode() + b"\n")
        try:
            return await agent.daemon.outcome_of(4, "")
        finally:
            hearing.cancel()
            os.close(keeper)

    return asyncio.run(run())


def test_a_task_that_the_daemon_does_not_know_of_but_that_ended_by_itself_is_no_loss() -> None:
    told = outcome(ended("unknown", "unknown"), {100: 3, 7: 0})
    assert (told["status"], told["by_itself"]) == (0, True)
    assert [task["how"] for task in told["ended"]] == ["exit 3", "exit 0"]


def test_one_task_that_was_killed_is_a_loss_whatever_the_others_did() -> None:
    told = outcome(ended("exit 0", "unknown"), {7: -9})
    assert told["status"] == 4 and "by_itself" not in told
    said = "the restored task 101 was killed by SIGKILL with 5 pages missing; the source still has them"
    assert told["error"] == said


def test_a_task_whose_end_nobody_saw_is_a_loss() -> None:
    told = outcome(ended("unknown"), {})
    assert told["status"] == 4
    assert "the restored task 100 ended, nobody knows how, with 5 pages missing" in told["error"]


def test_a_failed_restore_is_told_with_what_the_daemon_said_last(tmp_path: Path) -> None:
    (tmp_path / "lazy-pages.log").write_text("(00.1) Error (criu-lazy): the VMAs are not in order\n")

    async def why() -> str:
        agent = Agent(Channel(asyncio.StreamReader(), Any), -1, 0)  # type: ignore[arg-type]
        before = agent.daemon.why_failed(tmp_path)
        agent.daemon.process = await asyncio.create_subprocess_exec("false")
        await agent.daemon.process.wait()
        return before + agent.daemon.why_failed(tmp_path)

    said = asyncio.run(why())
    assert said == "; lazy-pages ended with status 1: (00.1) Error (criu-lazy): the VMAs are not in order"


# --- "go" -----------------------------------------------------------------------------------------------------------


async def say_go(victim: str) -> bool:
    """Whether the agent lets a waiting process run, after its daemon or that process was killed."""
    sleeps = [await asyncio.create_subprocess_exec("sleep", "1000") for _ in range(2)]
    daemon, task = sleeps
    agent = Agent(Channel(asyncio.StreamReader(), Any), -1, 0)  # type: ignore[arg-type]
    agent.place.made = Made(directory="/nonexistent")
    agent.place.made.restored_ids = lambda: {task.pid}  # type: ignore[method-assign]
    agent.daemon.process = daemon
    agent.tasks.waiting = [process for process in below(os.getpid()) if process.pid == task.pid]
    agent.gate = asyncio.get_running_loop().create_future()
    for name, process in (("daemon", daemon), ("task", task)):
        if name == victim:
            process.kill()
            while is_alive(process.pid):  # nor does the event loop hear of it
                time.sleep(0.001)
    try:
        await agent.go({})
        return agent.gate.done()
    finally:
        for process in sleeps:
            if process.returncode is None:
                process.kill()
            await process.wait()


def test_nothing_is_resumed_whose_pages_or_processes_are_gone_already() -> None:
    assert asyncio.run(say_go("nobody"))
    with pytest.raises(AgentError, match="lazy-pages has ended; no task was resumed"):
        asyncio.run(say_go("daemon"))
    with pytest.raises(AgentError, match=r"process \d+ has ended; no task was resumed"):
        asyncio.run(say_go("task"))


MANY_END = """
import os
from criu_lazy_ext.destination import keeper
keeper.MOST_ENDED = 2
children = []
for status in range(6):
    child = os.fork()
    if child == 0:
        os._exit(status)
    children.append(child)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
kept = keeper.Keeper(children[1], -1, os.open(os.devnull, os.O_WRONLY), -1)
kept.reap()
print(kept.agents_status, len(kept.ended))
"""


def test_the_agents_end_is_seen_among_that_of_a_thousand_tasks() -> None:
    assert subprocess.run([sys.executable, "-c", MANY_END], capture_output=True, text=True).stdout == "1 2\n"


# --- what came for its addresses -------------------------------------------------------------------------------------


def test_a_crowd_of_packets_does_not_keep_the_task_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are delivered in their order, most of them while it runs."""
    taken: list[bytes] = []

    def deliver(_: ServiceNetwork, packets: list[bytes], __: Let) -> list[str]:
        time.sleep(0.01)
        taken.extend(packets)
        return []

    monkeypatch.setattr(ServiceNetwork, "deliver", deliver)

    async def deliver_them() -> None:
        agent = Agent(Channel(asyncio.StreamReader(), None), -1, 0)  # type: ignore[arg-type]
        agent.place.made.network = ServiceNetwork.new([Address("192.0.2.1", 24, "lo")]).facts()
        packets = [bytes([number % 256]) * 40 for number in range(1000)]
        agent.packets = list(packets)
        agent.let = asyncio.ensure_future(asyncio.to_thread(Let))
        await agent.let
        agent.deliver_packets()
        assert 0 < len(taken) < 500
        await agent.deliver_all()
        assert taken == packets

    asyncio.run(deliver_them())
