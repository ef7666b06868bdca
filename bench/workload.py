"""Real programs under load for the benchmark; runs inside the testbed's hosts, where nothing else of it does.

    python3 -m bench.workload python|sqlite --mib N --result FILE
    python3 -m bench.workload redis HOST --mib N [--write-percent P]

`python` keeps a dict of objects, `sqlite` an in-memory database; both fill N MiB, replace FILE by {"state": "filled"},
and work on random records until SIGTERM; then they check all of them, and replace FILE by the outcome. `redis` is a
client (YCSB's workload A: Zipf 0.99, half of it writes or P %, records of 1 KiB); it fills the server at HOST and is
told the rest by lines on standard input: `pause` (ends its connections), `go HOST`, `end`; it answers each with a line
of JSON, the last one with the outcome. `Workload.java` is the JVM's.

The outcome: {"state": "checked", "operations", "checked", "wrong", "timeline": [[seconds, operations], ...]}. Every
operation checks what it reads. The timeline grows while they work, on CLOCK_MONOTONIC, which restored tasks share
with the driver. Exit status 1 if anything was ever wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import queue
import random
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD_BYTES = 1024
SAMPLE_SECONDS = 0.02
ZIPF_THETA = 0.99
REDIS_PORT = 6379
CONNECTIONS = 2
PIPELINED = 16
FILL_RECORDS = 256
TIMEOUT_SECONDS = 120.0
RANGE_RECORDS = 20


def record(key: int, version: int) -> bytes:
    """What `key` holds at `version`; no page of such records shrinks, or is another's."""
    return hashlib.shake_128(struct.pack("<QQ", key, version)).digest(RECORD_BYTES)


class Tally:
    """Counts operations and what was wrong; keeps the timeline."""

    def __init__(self) -> None:
        self.operations = self.wrong = self.checked = 0
        self._timeline: list[tuple[float, int]] = []
        self._next = 0.0

    def done(self, operations: int = 1) -> None:
        """So many more."""
        self.operations += operations
        now = time.monotonic()
        if now >= self._next:
            self._timeline.append((now, self.operations))
            self._next = now + SAMPLE_SECONDS

    def outcome(self) -> dict[str, Any]:
        """As in the module's docstring."""
        facts = {"operations": self.operations, "checked": self.checked, "wrong": self.wrong}
        return {"state": "checked", **facts, "timeline": self._timeline}


@dataclass(slots=True)
class Item:
    """What Dictionary keeps."""

    version: int
    held: bytes


class Dictionary:
    """A dict of objects, each with its version and record. Half of the operations replace the record."""

    def __init__(self, records: int, tally: Tally) -> None:
        self._tally = tally
        self._records = records
        self._items = {key: Item(0, record(key, 0)) for key in range(records)}

    def step(self) -> None:
        key = int(random.random() * self._records)
        item = self._items[key]
        self._tally.wrong += item.held != record(key, item.version)
        if random.random() < 0.5:
            item.version += 1
            item.held = record(key, item.version)
        self._tally.done()

    def check_all(self) -> None:
        for key, item in self._items.items():
            self._tally.wrong += item.held != record(key, item.version)
            self._tally.checked += 1


class Database:
    """A table in memory; of ten queries, six read a record, three write one, one sums up a range."""

    def __init__(self, records: int, tally: Tally) -> None:
        self._tally = tally
        self._records = records
        self._versions = [0] * records
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._db.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, version INTEGER, held BLOB)")
        rows = ((key, 0, record(key, 0)) for key in range(records))
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def step(self) -> None:
        key, kind = int(random.random() * self._records), random.random()
        version = self._versions[key]
        if kind < 0.6:
            row = self._db.execute("SELECT version, held FROM item WHERE id = ?", (key,)).fetchone()
            self._tally.wrong += row != (version, record(key, version))
        elif kind < 0.9:
            self._versions[key] = version + 1
            new = (version + 1, record(key, version + 1), key)
            self._db.execute("UPDATE item SET version = ?, held = ? WHERE id = ?", new)
        else:
            query = "SELECT sum(version) FROM item WHERE id >= ? AND id < ?"
            row = self._db.execute(query, (key, key + RANGE_RECORDS)).fetchone()
            self._tally.wrong += row != (sum(self._versions[key : key + RANGE_RECORDS]),)
        self._tally.done()

    def check_all(self) -> None:
        self._tally.wrong += self._db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
        for key, version, held in self._db.execute("SELECT id, version, held FROM item ORDER BY id"):
            self._tally.wrong += version != self._versions[key] or held != record(key, version)
            self._tally.checked += 1
        self._tally.wrong += self._tally.checked != self._records


def work_until_told(program: Callable[[int, Tally], Dictionary | Database], records: int, result: Path) -> int:
    """The life of a program that drives itself."""
    ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    tally = Tally()
    running = program(records, tally)
    replace(result, {"state": "filled"})
    while not ended:
        running.step()
    running.check_all()
    replace(result, tally.outcome())
    return 1 if tally.wrong else 0


def replace(path: Path, content: dict[str, Any]) -> None:
    """Write a file in one go: a reader sees the old one or the new one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.replace(path)


# --- redis --------------------------------------------------------------------------------------------------------


class RedisLoad:
    """Pipelines on some connections. Each has its own keys, so that what each reply must be is known beforehand."""

    def __init__(self, records: int, tally: Tally, write_share: float) -> None:
        self._tally = tally
        self._records = records
        self._write_share = write_share
        self._versions = [0] * records
        self._sockets: list[socket.socket] = []
        self._expected: list[bytes] = []
        self._keys = self._zipf()

    def _zipf(self) -> Iterator[list[int]]:
        """For each connection in turn the keys of a pipeline; hot keys lie anywhere."""
        each = self._records // CONNECTIONS
        cumulative = list(itertools.accumulate((rank + 1) ** -ZIPF_THETA for rank in range(each)))
        places = list(range(each))
        random.shuffle(places)
        while True:
            for connection in range(CONNECTIONS):
                ranks = random.choices(places, cum_weights=cumulative, k=PIPELINED)
                yield [rank * CONNECTIONS + connection for rank in ranks]

    def connect(self, host: str) -> None:
        """Open the connections. Raises OSError."""
        self._sockets = [
            socket.create_connection((host, REDIS_PORT), timeout=TIMEOUT_SECONDS) for _ in range(CONNECTIONS)
        ]
        for connection in self._sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expected = [b""] * CONNECTIONS

    def settle(self) -> None:
        """Read the outstanding replies."""
        for number in range(CONNECTIONS):
            self._receive(number)

    def pause(self) -> None:
        """Read the outstanding replies and hang up."""
        self.settle()
        for connection in self._sockets:
            connection.close()
        self._sockets = []

    def fill(self) -> None:
        for start in range(0, self._records, FILL_RECORDS):
            keys = range(start, min(start + FILL_RECORDS, self._records))
            self._send(0, b"".join(self._write(key) for key in keys), b"+OK\r\n" * len(keys))
            self._receive(0, operations=0)

    def round(self) -> None:
        """Each connection's next pipeline is sent once the replies to its last one are read and checked."""
        for number in range(CONNECTIONS):
            self._receive(number)
            commands, replies = [], []
            for key in next(self._keys):
                if random.random() < self._write_share:
                    self._versions[key] += 1
                    commands.append(self._write(key))
                    replies.append(b"+OK\r\n")
                else:
                    commands.append(self._read(key))
                    replies.append(self._held(key))
            self._send(number, b"".join(commands), b"".join(replies))

    def check_all(self) -> None:
        for start in range(0, self._records, FILL_RECORDS):
            keys = range(start, min(start + FILL_RECORDS, self._records))
            self._send(0, b"".join(self._read(key) for key in keys), b"".join(self._held(key) for key in keys))
            self._receive(0, operations=0)
            self._tally.checked += len(keys)

    def _read(self, key: int) -> bytes:
        return b"*2\r\n$3\r\nGET\r\n$8\r\n%08d\r\n" % key

    def _held(self, key: int) -> bytes:
        return b"$%d\r\n%b\r\n" % (RECORD_BYTES, record(key, self._versions[key]))

    def _write(self, key: int) -> bytes:
        held = record(key, self._versions[key])
        return b"*3\r\n$3\r\nSET\r\n$8\r\n%08d\r\n$%d\r\n%b\r\n" % (key, RECORD_BYTES, held)

    def _send(self, number: int, commands: bytes, expected: bytes) -> None:
        self._sockets[number].sendall(commands)
        self._expected[number] = expected

    def _receive(self, number: int, operations: int = PIPELINED) -> None:
        """A reply of another length than expected ends the program here or with a timeout: that is wrong, too."""
        expected = self._expected[number]
        got = bytearray()
        while len(got) < len(expected):
            piece = self._sockets[number].recv(len(expected) - len(got))
            if not piece:
                raise SystemExit("redis hung up")
            got += piece
        if expected:
            self._tally.wrong += got != expected
            self._tally.done(operations)
        self._expected[number] = b""


def drive_redis(records: int, host: str, write_share: float) -> int:
    """The life of the Redis client."""
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read_orders() -> None:
        for line in sys.stdin:
            orders.put(line.strip())
        orders.put("end")

    threading.Thread(target=read_orders, daemon=True).start()
    tally = Tally()
    load = RedisLoad(records, tally, write_share)
    load.connect(host)
    load.fill()
    say({"state": "filled"})
    working = True
    while True:
        if working:
            load.round()
        try:
            order = orders.get(block=not working)
        except queue.Empty:
            continue
        if order == "end":
            break
        if order == "pause":
            load.pause()
            working = False
            say({"state": "paused", "at": time.monotonic()})
        elif order.startswith("go "):
            load.connect(order.removeprefix("go "))
            working = True
            say({"state": "going"})
    if working:
        load.settle()
        load.check_all()
    say(tally.outcome())
    return 1 if tally.wrong else 0


def say(facts: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(facts), flush=True)


def main(argv: list[str]) -> int:
    """As the module's docstring says."""
    parser = argparse.ArgumentParser(prog="workload")
    parser.add_argument("program", choices=("python", "sqlite", "redis"))
    parser.add_argument("host", nargs="?")
    parser.add_argument("--mib", type=int, required=True)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--write-percent", type=int, default=50)
    given = parser.parse_args(argv)
    records = given.mib * (1 << 20) // RECORD_BYTES
    if given.program == "redis":
        return drive_redis(records, given.host, given.write_percent / 100)
    return work_until_told(Dictionary if given.program == "python" else Database, records, given.result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
