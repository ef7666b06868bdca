"""From "the restored task runs" on, no death lets the source task execute one more instruction by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lazy_source import LazySource, eventually

STOPPED_CHILDS = slice(6 * 8, 8 * 8)  # its counters, in the file that patterned_task counts in
pytestmark = pytest.mark.flaky(reruns=2, only_rerun=["StockDumpHung"])


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[int, Any]]:
    if os.geteuid() != 0:
        pytest.skip("criu and the testbed need root")
    from testbed import Testbed

    with Testbed.start(criu=("4.2", "4.1"), name=f"fence-{os.getpid()}") as testbed:
        yield {1: testbed.dst, 2: testbed.src}


@pytest.fixture(params=[1, 2], ids=["criu-4.1", "criu-4.2"])
def source(request: pytest.FixtureRequest, hosts: dict[int, Any]) -> Iterator[LazySource]:
    host = hosts[request.param]
    try:
        made = LazySource(host, request.param, 16, "counting")
        yield made
        made.close()
    finally:  # also after a set-up that failed: the next test looks at all that is called so
        host.run(["sh", "-c", "pkill -KILL -x task; true"])


def serve(source: LazySource) -> Any:
    return source.serve("--fence", str(source.task), "--images", f"{source.directory}/images")


def counters(source: LazySource) -> bytes:
    return (source.root / "counters").read_bytes()[: 8 * 8]


def states(source: LazySource) -> str:
    """The states of all threads of the task, as letters in any order, each once."""
    threads = "for p in $(pgrep -x task); do sed -n 's/^State:.//p' /proc/$p/task/*/status; done"
    lines = source.host.run(["sh", "-c", threads]).stdout.splitlines()
    return "".join(sorted({line[0] for line in lines}))


def assert_it_stands_still(source: LazySource, before: bytes) -> None:
    eventually(lambda: states(source) == "T", f"all threads are stopped, not {states(source)}")
    time.sleep(0.3)
    assert counters(source) == before, "not one step"


def assert_it_runs_on(source: LazySource) -> None:
    """All threads count again but those that were stopped before the dump, and the memory is right."""
    before = counters(source)

    def has_moved() -> bool:
        after = counters(source)
        return all(after[i : i + 8] != before[i : i + 8] for i in range(0, STOPPED_CHILDS.start, 8))

    eventually(has_moved, "every thread counts")
    assert counters(source)[STOPPED_CHILDS] == before[STOPPED_CHILDS], "what was stopped stays stopped"
    assert source.task_is_alive()


def lift(source: LazySource, pids: list[int]) -> None:
    program = f"from criu_lazy_ext.source import fence; assert all(map(fence.is_fenced, {pids})); fence.lift({pids})"
    source.host.run(["python3", "-c", program])


def test_a_dump_that_dies_leaves_the_source_stopped(source: LazySource) -> None:
    server = serve(source)
    answer = source.op("running")
    before = counters(source)
    assert answer["fenced"] and len(answer["fenced_pids"]) == 3, "the root and two children; the third is stopped"
    source.kill_dump()
    assert server.wait(30) == 1
    assert_it_stands_still(source, before)
    lift(source, answer["fenced_pids"])
    assert_it_runs_on(source)


@pytest.mark.parametrize("with_dump", [False, True], ids=["ours", "ours-and-the-dump"])
def test_all_that_hold_the_source_die_at_once(source: LazySource, with_dump: bool) -> None:
    server = serve(source)
    pids = source.op("running")["fenced_pids"]
    before = counters(source)
    victims = [source.page_server(), source.guardian(), *(source.pids("dump") if with_dump else [])]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in victims:
            os.kill(pid, number)
    for wrapper in (server, source.dump):  # nsenter stops itself when what it runs is stopped
        os.kill(wrapper.pid, signal.SIGCONT)
    server.wait(30)
    assert source.dump.wait(30) != 0
    assert_it_stands_still(source, before)
    lift(source, pids)
    assert_it_runs_on(source)


def test_a_forced_abort_lifts_it(source: LazySource) -> None:
    server = serve(source)
    source.op("running")
    assert source.op("abort", "--force")["state"] == "aborted"
    assert server.wait(30) == 3
    assert_it_runs_on(source)


def test_a_successor_of_the_page_server_lifts_it_as_well(source: LazySource) -> None:
    server = serve(source)
    source.op("running")
    os.kill(source.page_server(), signal.SIGKILL)
    server.wait(30)
    source.resume()
    assert source.op("abort", "--force")["state"] == "aborted"
    assert_it_runs_on(source)


def test_nothing_is_resumed_when_the_source_is_not_held(source: LazySource) -> None:
    server = serve(source)
    child = source.host.run(["pgrep", "-x", "task"]).stdout.split()[1]
    source.host.run(["kill", "-KILL", child])
    assert source.op("running", check=False) == {}
    assert "can't be kept from running on" in source.refusal
    assert not source.op("state")["task_running"]
    server.terminate()
    assert server.wait(30) == 3
