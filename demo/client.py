"""The demo's Redis client: fills a server, then writes and reads at random and checks every value it gets.

Run on the client host: `python3 -m demo.client HOST KEYS VALUE_BYTES`. It prints JSON lines: {"filled": keys}, then
every second {"operations", "longest_gap_ms", "gap_ms": since the line before}, and at the end of its standard input,
after a last look at every key, {"checked", "wrong", "errors"} and the same.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
import time
from typing import Any

BATCH = 500


def value(key: int, version: int, size: int) -> bytes:
    """What `key` holds at `version`: not compressible, no two alike."""
    return hashlib.shake_128(f"{key}:{version}".encode()).digest(size)


class Client:
    """One connection, one writer: what it wrote last is what it must read."""

    def __init__(self, redis: Any, keys: int, size: int) -> None:
        self.redis = redis
        self.keys = keys
        self.size = size
        self.versions = [0] * keys
        self.operations = self.wrong = self.errors = 0
        self.longest_gap_ms = self.gap_ms = 0.0

    def fill(self) -> None:
        """Write every key."""
        for start in range(0, self.keys, BATCH):
            pipeline = self.redis.pipeline(transaction=False)
            for key in range(start, min(start + BATCH, self.keys)):
                pipeline.set(key, value(key, 0, self.size))
            pipeline.execute()

    def step(self, key: int, write: bool) -> None:
        """One operation; a connection error is counted and the operation repeated."""
        started = time.monotonic()
        version = self.versions[key] + 1
        while True:
            try:
                if write:
                    self.redis.set(key, value(key, version, self.size))
                    self.versions[key] = version
                elif self.redis.get(key) != value(key, self.versions[key], self.size):
                    self.wrong += 1
                break
            except OSError:
                self.errors += 1
                time.sleep(0.01)
        self.operations += 1
        self.gap_ms = max(self.gap_ms, (time.monotonic() - started) * 1e3)

    def facts(self) -> dict[str, float]:
        """The counters; the gap is another one from now on."""
        gap_ms, self.gap_ms = round(self.gap_ms, 1), 0.0
        self.longest_gap_ms = max(self.longest_gap_ms, gap_ms)
        return {"operations": self.operations, "longest_gap_ms": self.longest_gap_ms, "gap_ms": gap_ms}


def say(**facts: object) -> None:
    """One JSON line."""
    print(json.dumps(facts), flush=True)


def main(argv: list[str]) -> int:
    """0 if no value was ever wrong."""
    import redis

    host, keys, size = argv[0], int(argv[1]), int(argv[2])
    client = Client(redis.Redis(host=host, socket_timeout=60), keys, size)
    client.fill()
    say(filled=keys)
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    chance = random.Random(1)
    told = time.monotonic()
    while not ended.is_set():
        client.step(chance.randrange(keys), chance.random() < 0.5)
        if time.monotonic() - told >= 1:
            told = time.monotonic()
            say(**client.facts())
    for key in range(keys):
        client.step(key, False)
    say(checked=keys, wrong=client.wrong, errors=client.errors, **client.facts())
    return 1 if client.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
