"""`criu-lazy page-server` in front of a stock `criu dump --lazy-pages`: no task is lost, whatever dies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lazy_source import PAGE_BYTES, Client, LazySource, eventually, page

ROLLED_BACK = 3
# Seen twice: a stock dump (4.1) that answers with a bare header, and then does nothing for ever.
pytestmark = pytest.mark.flaky(reruns=2, only_rerun=["StockDumpHung"])


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[int, Any]]:
    """A host for each version of the protocol."""
    if os.geteuid() != 0:
        pytest.skip("criu and the testbed need root")
    from testbed import Testbed

    with Testbed.start(criu=("4.2", "4.1"), name=f"page-server-{os.getpid()}") as testbed:
        yield {1: testbed.dst, 2: testbed.src}


@pytest.fixture(params=[1, 2], ids=["criu-4.1", "criu-4.2"])
def lazy_host(request: pytest.FixtureRequest, hosts: dict[int, Any]) -> tuple[Any, int]:
    return hosts[request.param], request.param


@pytest.fixture
def source(lazy_host: tuple[Any, int]) -> Iterator[LazySource]:
    made = LazySource(*lazy_host)
    yield made
    made.close()


def hang_up(client: Client) -> None:
    """End the connection as a killed client's host does: a reset, whatever was on its way."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.socket.close()


def kill(source: LazySource, server: Any) -> None:
    """SIGKILL the page server itself, not what wraps it."""
    pid = source.page_server()
    os.kill(pid, signal.SIGKILL)
    server.wait(30)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it is dead")


def ended(process: Any) -> int:
    return int(process.wait(60))


def test_every_page_is_right_and_a_commit_ends_the_source_task(source: LazySource) -> None:
    server = source.serve()
    client = source.client()
    source.read(client)
    client.close_properly()
    assert eventually(lambda: source.op("state")["state"] == "drained", "drained")
    assert source.task_state() == "t", "until the commit the source stays frozen"
    answer = source.op("commit")
    assert answer["state"] == "committed"
    assert answer["bytes"] >= source.nr_pages * PAGE_BYTES
    assert ended(server) == 0
    assert ended(source.dump) == 0
    assert source.task_state() == ""


def test_single_page_requests_are_pipelined_in_order(source: LazySource) -> None:
    source.serve()
    client = source.client()
    wanted = [i * 7919 % source.nr_pages for i in range(3000)]
    client.socket.settimeout(None)
    client.socket.sendall(b"".join(client.header(7, 1, source.start + i * PAGE_BYTES) for i in wanted[:1500]))
    for count, index in enumerate(wanted):
        if count < 1500:
            client.get(source.start + wanted[1500 + count] * PAGE_BYTES)
        assert client.answer() == (source.start + index * PAGE_BYTES, page(index))


@pytest.mark.parametrize("leave", [hang_up, lambda client: client.socket.close()], ids=["reset", "close"])
def test_a_client_lost_in_mid_answer_is_followed_by_another(source: LazySource, leave: Any) -> None:
    source.serve()
    for nr_bytes in (1, 10, 100_000):  # with 0 it may have left before anybody looked
        client = source.client()
        for at in range(0, source.nr_pages, 256):
            client.get(source.start + at * PAGE_BYTES, 256)
        client.receive(nr_bytes)
        leave(client)
    client = source.client()
    source.read(client)
    client.close_properly()
    state = source.op("state")
    assert state["state"] == "drained"
    assert state["clients"] == 4
    assert state["discarded_bytes"] > 0
    assert source.op("commit")["state"] == "committed"
    assert ended(source.dump) == 0


def test_abort_lets_the_source_task_run_on(source: LazySource) -> None:
    server = source.serve()
    client = source.client()
    for at in range(0, source.nr_pages, 256):
        client.get(source.start + at * PAGE_BYTES, 256)
    client.receive(5000)
    assert source.op("abort")["state"] == "aborted"
    assert ended(server) == ROLLED_BACK
    assert ended(source.dump) == 1
    assert source.task_is_alive()


@pytest.mark.parametrize("used", [False, True], ids=["before-any-client", "in-mid-answer"])
def test_sigterm_rolls_back(source: LazySource, used: bool) -> None:
    server = source.serve()
    if used:
        client = source.client()
        client.get(source.start, 256)
        client.receive(5000)
    server.terminate()
    assert ended(server) == ROLLED_BACK
    assert ended(source.dump) == 1
    assert source.task_is_alive()


def test_abort_without_any_request_lets_the_source_task_run_on(source: LazySource) -> None:
    server = source.serve(wire_version=0)
    assert source.op("abort")["state"] == "aborted"
    assert ended(server) == ROLLED_BACK
    assert ended(source.dump) == 1
    assert source.task_is_alive()


@pytest.mark.parametrize("told", [False, True], ids=["version-unknown", "version-told"])
def test_commit_without_any_request(source: LazySource, told: bool) -> None:
    server = source.serve(wire_version=source.version if told else 0)
    assert source.op("commit", check=False) == {}
    assert "has not said that it has every page" in source.refusal
    client = source.client()
    client.close_properly()
    assert source.op("commit")["state"] == "committed"
    assert ended(server) == 0
    assert ended(source.dump) == 0
    assert source.task_state() == ""


def test_the_version_is_told_by_the_first_request(source: LazySource) -> None:
    source.serve(wire_version=0)
    client = source.client()
    source.read(client)
    assert source.op("state")["wire_version"] == source.version
    client.close_properly()
    assert source.op("commit")["state"] == "committed"
    assert ended(source.dump) == 0


def test_once_the_restored_task_runs_nothing_but_force_rolls_back(source: LazySource) -> None:
    server = source.serve()
    source.op("running")
    assert source.op("abort", check=False) == {}
    assert "the restored task runs" in source.refusal
    server.terminate()
    client = source.client()
    source.read(client)
    assert source.op("state")["task_running"]
    assert source.op("abort", "--force")["state"] == "aborted"
    assert ended(server) == ROLLED_BACK
    assert ended(source.dump) == 1
    assert source.task_is_alive()


COMMIT_THEN_ABORT = """
import json, socket, sys
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
answers = control.makefile()
for op in ("commit", "abort"):
    control.sendall(json.dumps({"op": op, "force": True}).encode() + b"\\n")
for _ in range(2):
    print(answers.readline(), end="", flush=True)
"""


def test_an_abort_while_a_commit_is_under_way_is_refused(source: LazySource) -> None:
    """The dump may read any time that it may end: the restored task must not be given up."""
    source.serve()
    source.op("running")
    client = source.client()
    client.get(source.start, source.nr_pages)  # the commit waits until that is answered
    client.receive(1)
    asks = source.host.popen(["python3", "-c", COMMIT_THEN_ABORT, source.control], stdout=subprocess.PIPE, text=True)
    assert asks.stdout is not None
    assert "a commit is under way" in asks.stdout.readline()
    hang_up(client)
    assert '"state": "committed"' in asks.communicate(timeout=60)[0]
    assert ended(source.dump) == 0
    assert not source.task_state()


def test_without_hold_a_close_reaches_the_dump(source: LazySource) -> None:
    server = source._start("--upstream", f"127.0.0.1:{source.dump_port}")
    client = source.client()
    source.read(client)
    client.close_properly()
    assert ended(server) == 0
    assert ended(source.dump) == 0
    assert source.task_state() == ""


@pytest.mark.parametrize("used", [False, True], ids=["before-any-client", "in-mid-answer"])
@pytest.mark.parametrize("told", [False, True], ids=["version-unknown", "version-told"])
def test_a_killed_page_server_rolls_back(source: LazySource, used: bool, told: bool) -> None:
    server = source.serve(wire_version=source.version if told else 0)
    if used:
        client = source.client()
        for at in range(0, source.nr_pages, 256):
            client.get(source.start + at * PAGE_BYTES, 256)
        client.receive(5000)
    kill(source, server)
    assert ended(source.dump) == 1
    assert source.task_is_alive()


@pytest.mark.parametrize("used", [False, True], ids=["before-any-client", "after-an-answer"])
def test_page_server_and_guardian_killed_at_once_roll_back(source: LazySource, used: bool) -> None:
    server = source.serve()
    if used:
        client = source.client()
        client.get(source.start)
        assert client.answer() == (source.start, page(0))
    both = [source.page_server(), source.guardian()]
    # Stopped first, so that neither can do anything about the other's death.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in both:
            os.kill(pid, number)
    os.kill(server.pid, signal.SIGCONT)  # nsenter stops itself when what it runs is stopped
    server.wait(30)
    assert ended(source.dump) == 1
    assert source.task_is_alive()


def test_a_page_server_killed_while_the_restored_task_runs_is_resumed(source: LazySource) -> None:
    server = source.serve()
    source.op("running")
    for nr_bytes in (0, 10, 4120, 100_000, 3_000_000):
        client = source.client()
        for at in range(0, source.nr_pages, 256):
            client.get(source.start + at * PAGE_BYTES, 256)
        client.receive(nr_bytes)
        kill(source, server)
        assert source.task_state() == "t", "frozen, its memory intact"
        source.resume()
        assert source.op("state")["task_running"]
    client = source.client()
    source.read(client)
    client.close_properly()
    assert source.op("commit")["state"] == "committed"
    assert ended(source.dump) == 0
    assert source.task_state() == ""
    eventually(lambda: source.pids("page-server") == [], "nothing of it is left")


def test_one_of_two_that_want_to_go_on_gives_up_in_words(source: LazySource) -> None:
    server = source.serve()
    source.op("running")
    kill(source, server)
    options = ["--hold", "--control", source.control, "--port", str(source.port)]
    by_hand = source._popen("criu-lazy", "page-server", "--resume", *options)
    source.resume()
    client = source.client()
    source.read(client)
    client.close_properly()
    assert source.op("commit")["state"] == "committed"
    assert ended(source.dump) == 0
    if ended(by_hand):
        assert by_hand.stderr.read().count("\n") == 1
    eventually(lambda: source.pids("page-server") == [], "nothing of it is left")


def test_a_request_that_would_crash_the_dump_is_refused(source: LazySource) -> None:
    source.serve("--task", str(source.task))
    refused = [
        lambda client: client.get(source.start, task=source.task + 1),
        lambda client: client.get(source.start + 1),
        lambda client: client.get(source.start, 2**20),
        lambda client: client.socket.sendall(client.header(0x55, 1, source.start)),
        lambda client: client.socket.sendall(b"GET / HTTP/1.1\r\nHost: page-server\r\n\r\n"),
    ]
    for ask in refused:
        client = source.client()
        ask(client)
        with pytest.raises((EOFError, ConnectionResetError)):
            client.receive(1)
    client = source.client()
    source.read(client)
    assert source.op("state")["clients"] == len(refused) + 1


def test_a_second_client_waits_until_the_first_is_gone(source: LazySource) -> None:
    source.serve()
    first = source.client()
    first.get(source.start)
    assert first.answer() == (source.start, page(0))
    second = source.client()
    second.get(source.start + PAGE_BYTES)
    first.get(source.start + 2 * PAGE_BYTES)
    assert first.answer() == (source.start + 2 * PAGE_BYTES, page(2))
    source.op("drop")
    assert second.answer() == (source.start + PAGE_BYTES, page(1))


def test_a_dump_that_dies_is_reported(source: LazySource) -> None:
    server = source.serve()
    client = source.client()
    client.get(source.start)
    client.answer()
    source.kill_dump()
    assert ended(server) == 1
    assert server.stderr.read().count("ended by itself") == 1
    with pytest.raises((EOFError, ConnectionResetError)):
        client.receive(1)


@pytest.mark.parametrize("series", ["4.1", "4.2"])
def test_a_stock_lazy_pages_daemon_is_served_to_the_last_page(series: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("criu and the testbed need root")
    from testbed import Testbed

    with Testbed.start(criu=(series, series), name=f"page-server-stock-{os.getpid()}") as testbed:
        source = LazySource(testbed.src, 1 if series == "4.1" else 2)
        server = source.serve("--task", str(source.task), "--address", testbed.src.address, "--plain")
        here, there = source.root, Path(testbed.dst.root) / source.directory.lstrip("/")
        shutil.copytree(here, there, ignore=shutil.ignore_patterns("control*"))
        criu = ["--images-dir", f"{source.directory}/images"]
        page_server = ["--page-server", "--address", testbed.src.address, "--port", str(source.port)]
        daemon = testbed.dst.popen(["criu", "lazy-pages", *criu, *page_server])
        eventually((there / "images/lazy-pages.socket").exists, "the daemon listens")
        testbed.dst.run(["criu", "restore", *criu, "--lazy-pages", "--restore-detached"])
        source.op("running")
        assert ended(daemon) == 0
        assert source.op("state")["state"] == "drained"
        assert source.op("commit")["state"] == "committed"
        assert ended(server) == 0
        assert ended(source.dump) == 0
        source.close()
        (there / "ask").touch()
        answer = there / "answer"
        assert eventually(lambda: answer.exists() and answer.read_text(), "its verdict") == "right\n"
