"""`criu-lazy page-server --precopy`: rounds over a running task, and after the freeze only what changed since."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lazy_source import connect_inside, eventually
from push_client import GO, MISSING, PAGE_BYTES, SAME, STORE, Connection, Store, lazy_ranges, message

from bench.handmade import MemTask, start_memtask
from testbed import HostProcess, Testbed

DIRECTORY = "/var/tmp/precopy"
IMAGES, CONTROL, READY = (f"{DIRECTORY}/{name}" for name in ("images", "control", "ready"))
DUMP_PORT, PORT = 27110, 27111
MIB = 48
TASK = ("--mib", str(MIB), "--threads", "2", "--mode", "zipf", "--write-percent", "30")
EXIT_FAILED, EXIT_ROLLED_BACK = 1, 3
pytestmark = pytest.mark.usefixtures("slow_link")


class Source:
    """A memtask that runs on hosts.src, and a page server that waits for its dump."""

    def __init__(self, tb: Testbed, task: MemTask) -> None:
        self.tb, self.task = tb, task
        # The pipe from the dump's --status-fd; the page server keeps both ends open, so there is no end of file.
        self.server = self._popen(f'exec 8<>{READY}; exec "$@"', "criu-lazy", "page-server", "--precopy", "--hold",
            "--tree", str(task.pid), "--images", IMAGES, "--dump-status-fd", "8", "--control", CONTROL,
            "--upstream", f"127.0.0.1:{DUMP_PORT}", "--address", tb.src.address, "--plain", "--port",
            str(PORT), "-v4", "-o", f"{DIRECTORY}/page-server.log")  # fmt: skip
        self.dump: HostProcess | None = None
        eventually(lambda: self.op("state").get("ok"), "the page server answers")

    def _popen(self, script: str, *command: str) -> HostProcess:
        argv = ["sh", "-c", script, "sh", *command]
        return self.tb.src.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def op(self, op: str, *options: str) -> dict[str, Any]:
        """Ask the page server; {"error": ...} if it refuses."""
        asked = ["criu-lazy", "page-server", "--control", CONTROL, "--op", op, *options]
        done = self.tb.src.run(asked, check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {"error": done.stderr.strip()}

    def connect(self) -> Any:
        return connect_inside(self.tb.dst, PORT, self.tb.src.address)

    def freeze(self) -> None:
        """Dump; returns when the page server serves it."""
        command = ["criu", "dump", "--lazy-pages", "-o", "dump.log", "-t", str(self.task.pid), "-D", IMAGES]
        command += ["--address", "127.0.0.1", "--port", str(DUMP_PORT), "--status-fd", "9"]
        self.dump = self._popen(f'exec 9>{READY}; exec "$@"', *command)
        eventually(lambda: self.op("state").get("state") == "waiting", "the page server is connected to the dump")

    def check_session(self, store: Store | None) -> tuple[int, int, int]:
        """Have all pages pushed, each of them right. Pages, the same ones among them, and bytes received."""
        images = self.tb.src.root / IMAGES.lstrip("/")
        lazy = [
            (int(path.stem.partition("-")[2]), *entry)
            for path in images.glob("pagemap-[0-9]*.img")
            for entry in lazy_ranges(path)
        ]
        demand = Connection(self.connect(), 0)
        stream = Connection(self.connect(), 1, demand.token)
        if store:
            demand.socket.sendall(message(STORE, rest=store.token))
        for task, vaddr, nr_pages in lazy:
            demand.socket.sendall(message(MISSING, nr_pages, vaddr, task))
        demand.socket.sendall(message(GO))
        pages: dict[tuple[int, int], bytes] = {}
        wanted = sum(nr_pages for _, _, nr_pages in lazy)
        got = same = received = 0
        while got < wanted:
            kind, nr_pages, size = stream.take(pages, store.pages if store else None)
            got, received = got + nr_pages, received + size
            same += nr_pages if kind == SAME else 0
        assert len(pages) == wanted
        for task, vaddr, nr_pages in lazy:
            with Path(f"/proc/{self.tb.src.outer_pid(task)}/mem").open("rb", buffering=0) as memory:
                memory.seek(vaddr)
                frozen = memory.read(nr_pages * PAGE_BYTES)
            assert frozen == b"".join(pages[task, vaddr + i * PAGE_BYTES] for i in range(nr_pages))
        demand.socket.close()
        stream.socket.close()
        return wanted, same, received

    def roll_back(self) -> None:
        """Let the task run on, and look at every byte of it."""
        assert self.op("abort")["state"] == "aborted"
        assert self.server.wait(60) == EXIT_ROLLED_BACK
        verdict = self.task.verify(self.tb.src)
        assert verdict["errors"] == 0 and verdict["children_bad"] == 0


@pytest.fixture
def source(hosts: Testbed) -> Iterator[Source]:
    hosts.src.run(["sh", "-c", f"rm -rf {DIRECTORY} && mkdir -p {IMAGES} && mkfifo {READY}"])
    with contextlib.ExitStack() as stack:
        task = start_memtask(hosts, *TASK)
        stack.callback(task.kill, hosts.src)
        made = Source(hosts, task)
        stack.callback(lambda: [_end(process) for process in (made.server, made.dump) if process])
        yield made


def _end(process: HostProcess) -> None:
    if process.poll() is None:
        process.kill_session()
    process.wait(30)


def test_after_the_freeze_only_what_changed_comes(source: Source) -> None:
    assert "no store is connected" in source.op("round")["error"]
    store = Store(source.connect())
    first = source.op("round")
    assert first["round"] == 1 and first["sent_pages"] == first["scanned_pages"] >= MIB * 256
    assert first["sent_bytes"] > MIB << 20
    second = source.op("round")
    assert second["round"] == 2 and 0 < second["sent_pages"] < second["scanned_pages"]
    state = source.op("state")
    assert (state["state"], state["store"], state["port"]) == ("pre-copy", "connected", PORT)
    source.task.toggle(source.tb.src)  # no more writing: the last round leaves next to nothing
    source.op("round")
    assert source.op("precopied")["store"] == "complete"
    store.close()
    assert "the store is complete" in source.op("round")["error"]
    source.freeze()
    assert "no pre-copy any more" in source.op("round")["error"]
    wanted, same, received = source.check_session(store)
    assert source.op("state")["push"]["same_pages"] == same
    assert same > 0.95 * wanted and received < 0.05 * wanted * PAGE_BYTES
    # The next session knows nothing of a store.
    assert source.check_session(None)[2] > MIB << 20
    source.roll_back()


def test_what_is_written_after_the_last_round_comes_as_it_is_then(source: Source) -> None:
    store = Store(source.connect())
    source.op("round")
    source.op("precopied")
    store.close()
    source.freeze()
    wanted, same, received = source.check_session(store)
    assert 0 < same < wanted and received < wanted * PAGE_BYTES
    source.roll_back()


def test_a_store_that_was_lost_leaves_everything_to_be_pushed(source: Source) -> None:
    store = Store(source.connect())
    source.op("round")
    store.close()
    eventually(lambda: source.op("state")["store"] == "lost", "the page server has noticed")
    assert "the store was lost" in source.op("precopied")["error"]
    source.freeze()
    _, same, received = source.check_session(store)
    assert same == 0 and received > MIB << 20
    source.roll_back()


def test_a_round_that_the_dump_overtakes_is_given_up(source: Source) -> None:
    source.op("rate", "--rate", "256K")
    store = Store(source.connect())
    asked = ["criu-lazy", "page-server", "--control", CONTROL, "--op", "round"]
    waiting = source.tb.src.popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eventually(lambda: store.pages, "the round has begun")
    source.freeze()
    _, said = waiting.communicate(timeout=60)
    assert "pre-copy was stopped" in said
    assert source.op("state")["rate"] == 256 << 10
    source.op("rate", "--rate", "0")
    assert source.check_session(store)[1] == 0
    store.close()
    source.roll_back()


def test_an_abort_before_the_dump_touches_nothing(source: Source) -> None:
    store = Store(source.connect())
    source.op("round")
    assert "not ready" in source.op("commit")["error"]
    assert source.op("abort")["state"] == "aborted"
    assert source.server.wait(60) == EXIT_FAILED
    store.close()
    assert source.task.verify(source.tb.src)["errors"] == 0


def test_others_than_a_store_are_not_served_before_the_dump(source: Source) -> None:
    with pytest.raises((EOFError, ConnectionResetError)):
        Connection(source.connect(), 0)
    store = Store(source.connect())
    with pytest.raises((EOFError, ConnectionResetError)):
        Store(source.connect())
    assert source.op("round")["sent_pages"] >= MIB * 256
    source.op("precopied")
    store.close()
    source.freeze()
    with pytest.raises((EOFError, ConnectionResetError)):
        Store(source.connect())
    assert source.check_session(store)[1] > 0
    source.roll_back()
